/**
 * Notices what was removed from a stream before its group was given it, which Redis itself passes over without a word: by how many entries were ever added,
 * how many of them are ahead of the group, and how many the group was given. Redis counts these from version 7 on.
 */
import { fieldsIn, textOf } from "./replies.js";

/** What Redis says of a stream. */
export interface Counts {
  readonly added: number;
  readonly length: number;
  /** Ids of the oldest and the newest entry; undefined where there is none. */
  readonly first: string | undefined;
  readonly last: string | undefined;
}

/** Of the answer of XINFO STREAM. Undefined: an older Redis does not count. */
export function countsIn(answer: unknown): Counts | undefined {
  const fields = fieldsIn(answer);
  const [added, length] = [fields.get("entries-added"), fields.get("length")];
  if (typeof added !== "number" || typeof length !== "number") return undefined;
  const idOf = (entry: unknown) => (Array.isArray(entry) ? textOf(entry[0]) : undefined);
  return { added, length, first: idOf(fields.get("first-entry")), last: idOf(fields.get("last-entry")) };
}

export class Gap {
  #at: string;
  #given: number | undefined;

  /** `at`: the last id that the group was given. `given`: how many entries up to it were ever added, where that is known. */
  constructor(at: string, given: number | undefined) {
    this.#at = at;
    this.#given = given;
  }

  /** Of the answer of XINFO GROUPS. */
  static of(group: string, answer: unknown): Gap | undefined {
    const groups = Array.isArray(answer) ? answer.map(fieldsIn) : [];
    const own = groups.find((one) => textOf(one.get("name")) === group);
    const [at, given] = [textOf(own?.get("last-delivered-id")), own?.get("entries-read")];
    return at === undefined ? undefined : new Gap(at, typeof given === "number" ? given : undefined);
  }

  get at(): string {
    return this.#at;
  }

  get given(): number | undefined {
    return this.#given;
  }

  /** The group was given these, all of them for the first time. */
  read(ids: readonly string[]): void {
    this.#at = ids.at(-1) ?? this.#at;
    if (this.#given !== undefined) this.#given += ids.length;
  }

  /** How many were removed since it was looked last and were never given. While only a part of the stream is ahead that cannot be told, and is told later. */
  look({ added, length, first, last }: Counts): number {
    const ahead = last === undefined || !isAfter(last, this.#at) ? 0 : isAfter(first, this.#at) ? length : undefined;
    if (ahead === undefined) return 0;
    const before = this.#given;
    this.#given = added - ahead;
    return before === undefined ? 0 : Math.max(0, this.#given - before);
  }
}

/** Ids are two numbers, of which the first is a time. */
function isAfter(id: string | undefined, other: string): boolean {
  if (id === undefined) return false;
  const [[ms, n], [otherMs, otherN]] = [numbersIn(id), numbersIn(other)];
  return ms === otherMs ? n > otherN : ms > otherMs;
}

function numbersIn(id: string): readonly [ms: bigint, n: bigint] {
  const [, ms = "0", n = "0"] = /^(\d+)-(\d+)$/.exec(id) ?? [];
  return [BigInt(ms), BigInt(n)];
}
