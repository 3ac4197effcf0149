/**
 * Older versions of a contract, brought to the newest on arrival: one pure, synchronous step from each version to the next, before the schema is
 * asked. The version of a stored message is that of its contract in the registry, so a message carries nothing more.
 *
 * Steps reach from the oldest version that is still read up to the contract's own, without a gap: refused at definition, by the compiler where
 * the version is a literal.
 */
import { ConfigurationError } from "../core/errors.js";
import { show } from "../core/show.js";
import { isThenable } from "../core/thenable.js";
import { clause } from "../core/words.js";
import type { AnyContract } from "./contract.js";
import { type Issue, readIssues } from "./issues.js";

/** A step from the version that is its key to the next one. `never`, so that a function of any payload fits. */
export type Steps = Readonly<Record<number, (payload: never) => unknown>>;

type Tuple<N extends number, T extends readonly unknown[] = []> = T["length"] extends N ? T : Tuple<N, [...T, unknown]>;
type Next<N extends number> = [...Tuple<N>, unknown]["length"];
type Previous<N extends number> = Tuple<N> extends readonly [unknown, ...infer Rest] ? Rest["length"] & number : never;
/** A version that the compiler does not know, or that is too large for it to count to, a date for instance. */
type Uncounted<V extends number> = number extends V
  ? true
  : `${V}` extends `${infer _A}${infer _B}${infer _C}${infer _D}${string}`
    ? true
    : false;
type Takes<F> = F extends (payload: infer P) => unknown ? P : never;

/**
 * What the steps `U` of version `V` must be: each gives what the next one takes, and the last gives what the schema takes. A version that is not
 * known to the compiler is checked at run time alone.
 */
export type StepsTo<U, V extends number, I> =
  Uncounted<V> extends true
    ? Steps
    : { readonly [K in Previous<V>]: (payload: never) => I } & {
        readonly [K in keyof U]: K extends number
          ? Next<K> extends V
            ? (payload: Takes<U[K]>) => I
            : Next<K> extends keyof U
              ? (payload: Takes<U[K]>) => Takes<U[Next<K>]>
              : `upcast has a step from version ${K} and none from ${Next<K> & number}`
          : never;
      };

type Step = (payload: unknown) => unknown;
/** By the version that each starts from. */
export type Upcast = ReadonlyMap<number, Step>;

const words = "an object with a function for each older version: { 1: (v1) => v2, 2: (v2) => v3 }";

export const upcastField = {
  type: "custom",
  doc: "Brings messages of older versions to this one, a step at a time; what has no step is not read any more",
  words,
  check: readSteps,
} as const;

function readSteps(value: unknown, path: string): Upcast {
  if (typeof value !== "object" || value === null || Array.isArray(value)) throw invalid(path, value);
  const steps = new Map<number, Step>();
  for (const [key, step] of Object.entries(value)) {
    if (!/^[1-9]\d{0,6}$/.test(key)) throw invalid(`${path}.${key}`, step);
    if (typeof step !== "function") throw invalid(`${path}.${key}`, step);
    steps.set(Number(key), (payload) => step(payload));
  }
  return steps;
}

function invalid(path: string, value: unknown): ConfigurationError {
  return new ConfigurationError("PH_OPTION_INVALID", `${path} must be ${words}; got ${show(value)}.`, { path });
}

/** Errors: `ConfigurationError` for steps with a gap, or that do not lead to the version. */
export function checkSteps(steps: Upcast | undefined, version: number, name: string): Upcast | undefined {
  if (steps === undefined || steps.size === 0) return undefined;
  const path = `${name}.upcast`;
  const refuse = (message: string): never => {
    throw new ConfigurationError("PH_OPTION_INVALID", message, { path, version });
  };
  const newest = Math.max(...steps.keys());
  if (newest >= version) {
    refuse(
      `${path} has a step from version ${newest}, and ${name} has version ${version}: nothing is newer. Raise its version, or leave the step out.`,
    );
  }
  for (let from = Math.min(...steps.keys()); from < version; from += 1) {
    if (!steps.has(from)) {
      refuse(
        `${path} has no step from version ${from} to ${from + 1}, and one from an older version. Add it, or leave out the steps before it: those versions are then not read any more.`,
      );
    }
  }
  return steps;
}

/** The versions that a contract reads, its own last. */
export function readableVersions(contract: AnyContract): readonly number[] {
  const { steps } = contract["~posthorn"].inside;
  return [...(steps?.keys() ?? [])].sort((a, b) => a - b).concat(contract.version);
}

export type Raised =
  | { readonly ok: true; readonly payload: unknown }
  | { readonly ok: false; readonly issues: readonly Issue[] };

/** The payload of an older version as the contract's own schema takes it. Never throws: what cannot be brought there is told. */
export function raise(contract: AnyContract, version: number, payload: unknown): Raised {
  const { steps } = contract["~posthorn"].inside;
  let raised = payload;
  for (let from = version; from < contract.version; from += 1) {
    const what = `the step from version ${from} to ${from + 1} of ${contract.name}`;
    try {
      const step = steps?.get(from);
      if (step === undefined) return failed(`there is no step from version ${from} of ${contract.name}`);
      raised = step(raised);
    } catch (error) {
      return failed(`${what} threw: ${reasonOf(error)}`);
    }
    if (isThenable(raised)) {
      Promise.resolve(raised).then(undefined, () => undefined);
      return failed(`${what} returned a promise; steps are synchronous`);
    }
  }
  return { ok: true, payload: raised };
}

function failed(message: string): Raised {
  return { ok: false, issues: readIssues([{ message }]) };
}

/** Never throws: what foreign code throws may be anything. */
function reasonOf(error: unknown): string {
  try {
    return error instanceof Error ? clause(String(error.message)) : show(error);
  } catch {
    return "an error that cannot be read";
  }
}
