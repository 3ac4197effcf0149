/** Defines contracts. What is said, never how it is carried: no handler and no policy, safe to share between services. */

import { ConfigurationError } from "../core/errors.js";
import { limits } from "../core/limits.js";
import { checkContractName, checkName } from "../core/names.js";
import { type CustomField, checkOptions, type Fields } from "../core/options.js";
import { show } from "../core/show.js";
import type { Command, Contract, Event, Inside, Kind, Query } from "./contract.js";
import { checkReading } from "./naming.js";
import { isSchema, type Schema } from "./standard-schema.js";
import { checkSteps, type Steps, type StepsTo, type Upcast, upcastField } from "./upcast.js";

/** The definition of a query. */
export interface QueryDefinition<I, O, RI, RO> {
  readonly request: Schema<I, O>;
  readonly response: Schema<RI, RO>;
  /** How long a caller waits for the answer. */
  readonly deadlineMs: number;
  readonly version?: number;
}
/** The definition of a command. */
export interface CommandDefinition<Q extends string, I, O, RI, RO, V extends number = number, U extends Steps = Steps> {
  /** The one queue in the fleet that handles it. */
  readonly queue: Q;
  readonly schema: Schema<I, O>;
  /** What the handler returns, where the sender wants it: checked, kept for the time that the queue's policy says, read by `receipt.result()`. */
  readonly result?: Schema<RI, RO>;
  readonly key?: (payload: NoInfer<O>) => string;
  /** Counts incompatible changes of the payload. */
  readonly version?: V;
  /**
   * Brings payloads of older versions to this one, before the schema: `{ 1: (v1: V1) => v2, 2: (v2: V2) => v3 }`. Steps are synchronous and pure.
   * Messages of a version without a step are not read any more: they are invalid, and can be redriven once there is one.
   */
  readonly upcast?: U & StepsTo<U, V, NoInfer<I>>;
}
/** The definition of an event. */
export interface EventDefinition<T extends string, I, O, V extends number = number, U extends Steps = Steps> {
  readonly topic: T;
  readonly schema: Schema<I, O>;
  /** Order is kept per key. */
  readonly key?: (payload: NoInfer<O>) => string;
  /** The service that alone may publish it. */
  readonly owner?: string;
  /** Counts incompatible changes of the payload. */
  readonly version?: V;
  /** Brings payloads of older versions to this one, before the schema; as of a command. */
  readonly upcast?: U & StepsTo<U, V, NoInfer<I>>;
}

/**
 * Defines a query: asks for an answer now.
 *
 * Delivery: never stored; answered in the calling process, or an error by the deadline.
 * Errors: `ConfigurationError` for a name that reads as a fact, or an option that does not fit.
 */
export function query<const N extends string, I, O, RI, RO>(
  name: N,
  definition: QueryDefinition<I, O, RI, RO>,
): Query<N, I, O, RI, RO> {
  checkReading("query", checkContractName(name, "query"));
  const { request, response, deadlineMs, version } = checkOptions(definition, contractFields.query, name);
  const inside = { schema: request, result: response };
  return seal({ kind: "query", name, channel: "", version, keyed: false, deadlineMs }, inside);
}

/**
 * Defines a command: asks for something to be done.
 *
 * Delivery: stored in its queue and handled by the one handler of the fleet, as often as its queue's policy says.
 * Errors: `ConfigurationError` for a name that reads as a fact, or an option that does not fit.
 */
export function command<
  const N extends string,
  const Q extends string,
  I,
  O,
  RI = never,
  RO = never,
  const V extends number = 1,
  U extends Steps = Steps,
>(name: N, definition: CommandDefinition<Q, I, O, RI, RO, V, U>): Command<N, Q, I, O, RI, RO> {
  checkReading("command", checkContractName(name, "command"));
  const { queue, schema, result, key, version, upcast } = checkOptions(definition, contractFields.command, name);
  const head = { kind: "command", name, channel: queue as Q, version, keyed: key !== undefined } as const;
  return seal(head, { schema, result, key, steps: checkSteps(upcast, version, name) });
}

/**
 * Defines an event: states a fact.
 *
 * Delivery: stored in its topic; every subscription of the topic receives it, none waits for another.
 * Order: per key where there is one; nothing is promised across keys.
 * Errors: `ConfigurationError` for a name that does not read as a fact, or an option that does not fit.
 */
export function event<
  const N extends string,
  const T extends string,
  I,
  O,
  const V extends number = 1,
  U extends Steps = Steps,
>(name: N, definition: EventDefinition<T, I, O, V, U>): Event<N, T, I, O> {
  checkReading("event", checkContractName(name, "event"));
  const { topic, schema, key, owner, version, upcast } = checkOptions(definition, contractFields.event, name);
  const head = { kind: "event", name, channel: topic as T, version, keyed: key !== undefined } as const;
  const steps = checkSteps(upcast, version, name);
  return seal(owner === undefined ? head : { ...head, owner }, { schema, result: undefined, key, steps });
}

type Head<K extends Kind, N extends string, C extends string> = Omit<Contract<K, N, C, unknown, unknown>, "~posthorn">;
interface Parts {
  readonly schema: Schema;
  readonly result: Schema | undefined;
  readonly key?: ((payload: never) => unknown) | undefined;
  readonly steps?: Upcast | undefined;
}

function seal<K extends Kind, N extends string, C extends string, I, O, RI, RO>(
  head: Head<K, N, C>,
  { schema, result, key, steps }: Parts,
): Contract<K, N, C, I, O, RI, RO> {
  const made = (value: unknown): boolean => value === contract;
  const inside: Inside = Object.freeze(
    key === undefined
      ? { schema, result, made, steps }
      : { schema, result, made, steps, key: (payload: unknown) => key(payload as never) },
  );
  const contract = Object.freeze({ ...head, "~posthorn": Object.freeze({ version: 1, inside } as const) });
  return contract;
}

function schemaField<const F extends { readonly doc: string; readonly required?: true }>(
  field: F,
): F & CustomField<Schema> {
  const words = "a Standard Schema, for instance of Zod, Valibot or ArkType, or type<Payload>()";
  const check = (value: unknown, path: string): Schema => {
    if (isSchema(value)) return value;
    throw new ConfigurationError("PH_OPTION_INVALID", `${path} must be ${words}; got ${show(value)}.`, { path });
  };
  return { ...field, type: "custom", words, check };
}

type KeyFunction = (payload: never) => unknown;
const keyField = {
  type: "custom",
  doc: "Reads the key from the checked payload: messages of one key keep their order",
  words: "a function from the payload to a string",
  check: (value: unknown, path: string): KeyFunction => {
    if (typeof value === "function") return (payload) => value(payload);
    throw new ConfigurationError(
      "PH_OPTION_INVALID",
      `${path} must be a function from the payload to a string; got ${show(value)}.`,
      { path },
    );
  },
} as const;
const versionField = {
  type: "integer",
  doc: "Counts incompatible changes of the payload",
  min: 1,
  max: limits.contractVersion,
  default: 1,
} as const;

function nameField<const F extends { readonly doc: string; readonly required?: true }>(
  field: F,
  what: "queue" | "topic" | "owner",
) {
  const words = `the name of ${what === "owner" ? "a service" : `a ${what}`}`;
  return { ...field, type: "custom", words, check: (value: unknown) => checkName(value, what) } as const;
}

/** The options of each definition function, as data. */
export const contractFields = {
  query: {
    request: schemaField({ doc: "The schema of the request", required: true }),
    response: schemaField({ doc: "The schema of the answer", required: true }),
    deadlineMs: {
      type: "duration",
      doc: "How long a caller waits; too small and slow answers fail, too large and callers hang",
      min: 1,
      max: limits.deadlineMs,
      required: true,
    },
    version: versionField,
  },
  command: {
    queue: nameField({ doc: "The queue that handles it", required: true }, "queue"),
    schema: schemaField({ doc: "The schema of the payload", required: true }),
    result: schemaField({
      doc: "The schema of what the handler returns: it is checked, kept with the end of the message, and read by receipt.result(); what does not fit is a failed run",
    }),
    key: keyField,
    version: versionField,
    upcast: upcastField,
  },
  event: {
    topic: nameField({ doc: "The topic that stores it", required: true }, "topic"),
    schema: schemaField({ doc: "The schema of the payload", required: true }),
    key: keyField,
    owner: nameField({ doc: "The service that alone may publish it" }, "owner"),
    version: versionField,
    upcast: upcastField,
  },
} as const satisfies Record<Kind, Fields>;
