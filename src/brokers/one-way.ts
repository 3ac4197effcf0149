/**
 * Options of a broker that only one of its two ways reads: a group of the way in, a size of batches of the way out.
 *
 * One broker may be given to a relay and to an intake, so nothing is refused where it is made. Where an instance uses it one way alone, its start refuses
 * what only the other way reads.
 */

/** By their paths, "kafka.group", as far as they were given. */
export interface OneWay {
  readonly relay: readonly string[];
  readonly intake: readonly string[];
}

export function oneWayOf<Options extends object>(
  kind: string,
  options: Options,
  read: { readonly [Way in keyof OneWay]: readonly (string & keyof Options)[] },
): OneWay {
  const given = (names: readonly (string & keyof Options)[]): readonly string[] =>
    names.filter((name) => options[name] !== undefined).map((name) => `${kind}.${name}`);
  return { relay: given(read.relay), intake: given(read.intake) };
}
