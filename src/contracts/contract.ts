/**
 * The contract of a message: its kind, name, channel and types, and at run time its schemas and key function.
 *
 * One generic type for all three kinds, so that a wrong kind differs in `kind` alone and the compiler's message can be read.
 * The type names no schema library. The run-time parts travel inside the brand, so that two copies of this package
 * understand each other's contracts.
 */
import type { Schema } from "./standard-schema.js";

export type Kind = "query" | "command" | "event";

/** `I` is what a caller passes and `O` what a handler gets; `RI` and `RO` are the same for the answer or result. */
export interface Contract<K extends Kind, N extends string, C extends string, I, O, RI = never, RO = never> {
  readonly kind: K;
  readonly name: N;
  /** The queue of a command, the topic of an event; empty for a query. */
  readonly channel: C;
  /** Counts incompatible changes of the payload. */
  readonly version: number;
  /** Whether every message of it has a key. */
  readonly keyed: boolean;
  /** Of a query: how long a caller waits. */
  readonly deadlineMs?: number | undefined;
  /** Of an event: the service that alone may publish it. Where it is not given, whoever publishes first owns it. */
  readonly owner?: string | undefined;
  readonly "~posthorn": Brand<I, O, RI, RO>;
}

/** Made by `query`, `command` and `event` only. */
export interface Brand<I, O, RI, RO> {
  readonly version: 1;
  readonly inside: Inside;
  /** For the compiler only; never set. */
  readonly types?:
    | { readonly input: I; readonly output: O; readonly resultInput: RI; readonly resultOutput: RO }
    | undefined;
}

/** What the engine needs at run time. Not for users. */
export interface Inside {
  readonly schema: Schema;
  /** The response schema of a query, the result schema of a command. */
  readonly result: Schema | undefined;
  /** From each older version that is read to the next. A copy of the package that knows none leaves it out. */
  readonly steps?: ReadonlyMap<number, (payload: unknown) => unknown> | undefined;
  /** A method, so that a key function of any payload type fits. */
  key?(payload: unknown): unknown;
  /** Whether the value is the contract itself: a spread copy carries the brand too, and must not pass. */
  made(value: unknown): boolean;
}

export type Query<N extends string, I, O, RI, RO> = Contract<"query", N, "", I, O, RI, RO>;
export type Command<N extends string, Q extends string, I, O, RI = never, RO = never> = Contract<
  "command",
  N,
  Q,
  I,
  O,
  RI,
  RO
>;
export type Event<N extends string, T extends string, I, O> = Contract<"event", N, T, I, O>;

/** Any contract of a kind, for constraints: payload types only ever come out of a contract, so `unknown` takes all of them. */
export type AnyContract<K extends Kind = Kind, C extends string = string> = Contract<
  K,
  string,
  C,
  unknown,
  unknown,
  unknown,
  unknown
>;

type Types<C extends AnyContract> = NonNullable<C["~posthorn"]["types"]>;
export type InputOf<C extends AnyContract> = Types<C>["input"];
export type OutputOf<C extends AnyContract> = Types<C>["output"];
export type ResultInputOf<C extends AnyContract> = Types<C>["resultInput"];
export type ResultOf<C extends AnyContract> = Types<C>["resultOutput"];

/** What the registry in the database keeps of a contract. */
export interface Description {
  readonly kind: Kind;
  readonly name: string;
  readonly version: number;
  readonly channel: string;
  readonly keyed: boolean;
  readonly owner: string | null;
}

export function describe(contract: AnyContract): Description {
  const { kind, name, version, channel, keyed, owner } = contract;
  return { kind, name, version, channel, keyed, owner: owner ?? null };
}

/** Whether a value was made by `query`, `command` or `event`, of this copy of the package or another. Never throws. */
export function isContract(value: unknown): value is AnyContract {
  try {
    if (typeof value !== "object" || value === null || !("~posthorn" in value)) return false;
    const brand = value["~posthorn"];
    if (typeof brand !== "object" || brand === null || !("version" in brand) || brand.version !== 1) return false;
    if (!("inside" in brand) || typeof brand.inside !== "object" || brand.inside === null) return false;
    const inside = brand.inside;
    return "made" in inside && typeof inside.made === "function" && inside.made(value) === true;
  } catch {
    return false;
  }
}
