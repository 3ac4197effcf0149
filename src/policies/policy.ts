/**
 * The six decisions about how the messages of a queue or subscription are carried. None has a silent default.
 *
 * `policyFields` is the table: validator, reference and description come from it. A policy that was checked is frozen and
 * complete, so the engine never asks twice.
 */
import { ConfigurationError } from "../core/errors.js";
import { limits } from "../core/limits.js";
import { checkName } from "../core/names.js";
import { checkOptions, type Fields, type OptionsOf } from "../core/options.js";
import { show } from "../core/show.js";
import {
  type BacklogLimit,
  backlogLimitField,
  type CheckedFlow,
  checkRate,
  type Flow,
  flowOptions,
  noBacklogLimitField,
} from "./flow.js";
import type { NoRetry, Retry } from "./retry.js";
import { checkRetry, retryWords } from "./retry-fields.js";

/** Where a subscription begins that is new. */
export type StartFrom = "now" | "oldest";

export type Idempotency = "transaction" | "handler" | "at-most-once";

/** When you are told. */
export interface Alerts {
  /** The oldest message waits or runs longer than this. */
  readonly oldestAgeMs: number;
  /** This many messages wait. */
  readonly backlog: number;
  /** There are this many dead letters. */
  readonly deadLetters: number;
  /** No worker has been there for this long. */
  readonly noWorkerMs: number;
}

/** What happens to the messages behind a dead one is part of the decision for order. */
export type Ordering = "none" | { readonly per: "key"; readonly whenDead: "park" | "skip" };

export interface Policy<I extends Idempotency = Idempotency> extends Flow {
  readonly idempotency: I;
  /** At most once cannot retry: the compiler says so. */
  readonly retry: I extends "at-most-once" ? NoRetry : Retry;
  readonly ordering: Ordering;
  /** A run that takes longer is ended, and the message delivered again. */
  readonly visibilityTimeoutMs: number;
  readonly deadLetter: { readonly keepMs: number };
  readonly alerts: Alerts;
  /** Handlers that run at once in one process. */
  readonly concurrency?: number;
  /** Lets the whole fleet pause when runs fail, and try one message before all go on. */
  readonly circuitBreaker?: CircuitBreaker;
}

/** When the fleet stops taking messages of a queue or subscription, and for how long. */
export interface CircuitBreaker {
  /** So many failed runs within `windowMs`, in the whole fleet, open the circuit. */
  readonly failures: number;
  readonly windowMs: number;
  /** How long nobody takes anything; then one message is tried. */
  readonly openMs: number;
}

/** The policy of a queue of commands. A topic has no bound, because facts cannot be refused, and events have no results. */
export interface QueuePolicy<I extends Idempotency = Idempotency> extends Policy<I> {
  /** What becomes of what handlers return, where the contract has a result. */
  readonly results?: {
    /**
     * How long a result can be read. Too small and whoever asks comes too late; too large and results take space.
     *
     * Default 86400000, a day. Range 1 to 315360000000.
     */
    readonly keepMs?: number;
  };
  /** What a producer meets when too much waits. */
  readonly backlogLimit?: BacklogLimit;
}

/** A policy after `checkPolicy`: complete and frozen. */
export interface CheckedPolicy extends CheckedFlow {
  readonly idempotency: Idempotency;
  readonly retry: Retry;
  readonly ordering: Ordering;
  readonly visibilityTimeoutMs: number;
  readonly deadLetter: { readonly keepMs: number };
  readonly alerts: Alerts;
  readonly concurrency: number;
  readonly circuitBreaker?: CircuitBreaker;
  /** Of a queue, where it was said. */
  readonly results?: { readonly keepMs: number };
  /** Of a relay: the broker that its messages go to. */
  readonly relay?: RelayedTo;
}

/** For people: `where` has no credentials in it. */
export interface RelayedTo {
  /** What it is: "kafka". */
  readonly broker: string;
  readonly where: string;
}

const duration = { type: "duration", min: 1, max: limits.durationMs } as const;
const count = { type: "integer", min: 1, max: limits.count } as const;
const orderingFields = {
  per: { type: "choice", values: ["key"], required: true, doc: "What order is kept within" },
  whenDead: {
    type: "choice",
    values: ["park", "skip"],
    required: true,
    doc: "What happens to the messages behind a dead one: they wait, or go on",
  },
} as const satisfies Fields;

function checkOrdering(value: unknown, path: string): Ordering {
  if (value === "none") return value;
  if (typeof value === "object" && value !== null) return checkOptions(value, orderingFields, path);
  const message = `${path} must be "none" or { per: "key", whenDead: "park" | "skip" }; got ${show(value)}.`;
  throw new ConfigurationError("PH_OPTION_INVALID", message, { path });
}

export const policyFields = {
  retry: {
    type: "custom",
    doc: "How often and when a failed message is tried again",
    words: retryWords,
    required: true,
    check: checkRetry,
  },
  idempotency: {
    type: "choice",
    doc: "What happens when a message is delivered twice: the effects are rows here, are elsewhere, or must never repeat",
    values: ["transaction", "handler", "at-most-once"],
    required: true,
  },
  ordering: {
    type: "custom",
    doc: "Whether messages are handled in order",
    words: '"none", or { per: "key", whenDead: "park" | "skip" }',
    required: true,
    check: checkOrdering,
  },
  visibilityTimeoutMs: {
    ...duration,
    max: limits.visibilityMs,
    doc: "How long one run may take; too small and slow runs are ended, too large and hanging ones are noticed late",
    required: true,
  },
  deadLetter: {
    type: "object",
    doc: "How long a message is kept that could not be handled",
    required: true,
    fields: { keepMs: { ...duration, doc: "How long a dead letter is kept", required: true } },
  },
  alerts: {
    type: "object",
    doc: "When you are told",
    required: true,
    fields: {
      oldestAgeMs: { ...duration, doc: "The oldest message waits or runs longer than this", required: true },
      backlog: { ...count, doc: "This many messages wait", required: true },
      deadLetters: {
        ...count,
        doc: "There are this many dead letters, or this many invalid messages: each list by itself",
        required: true,
      },
      noWorkerMs: { ...duration, doc: "No worker has been there for this long", required: true },
    },
  },
  concurrency: {
    type: "integer",
    doc: "Handlers that run at once in one process; too small and messages wait, too large and what they call is flooded",
    min: 1,
    max: limits.concurrency,
    default: 10,
  },
  ...flowOptions,
  backlogLimit: backlogLimitField,
  circuitBreaker: {
    type: "object",
    doc: "Lets the whole fleet pause when runs fail, and try one message before all go on; without it each message fails by itself",
    fields: {
      failures: {
        type: "integer",
        min: 1,
        max: limits.circuitFailures,
        required: true,
        doc: "Failed runs within windowMs that open the circuit; too few and one bad message stops its queue, too many and attempts are spent first",
      },
      windowMs: { ...duration, required: true, doc: "How long a failed run counts" },
      openMs: {
        ...duration,
        required: true,
        doc: "How long nobody takes a message; too short and what is down is asked for nothing, too long and it is noticed late that it is back",
      },
    },
  },
  results: {
    type: "object",
    doc: "What becomes of the results of its commands",
    fields: {
      keepMs: {
        ...duration,
        doc: "How long a result can be read; too small and whoever asks comes too late, too large and they take space",
        default: 86_400_000,
      },
    },
  },
} as const satisfies Fields;

const { results: _ofCommands, ...fieldsOfEvents } = policyFields;

/** The six decisions, which nobody else takes. The rest of a policy are options. */
export const decisions: readonly string[] = Object.entries(policyFields).flatMap(([name, field]) =>
  "required" in field ? [name] : [],
);

/** `topic` beside the six decisions. An event has no result. */
export const subscriptionFields = {
  topic: {
    type: "custom",
    doc: "The topic that is read",
    words: "the name of a topic",
    required: true,
    check: (value: unknown) => checkName(value, "topic"),
  },
  startFrom: {
    type: "choice",
    doc: "Where it begins when it is new: with what is said from then on, or with the oldest message that is kept. One that is known goes on where it is",
    values: ["now", "oldest"],
    default: "now",
  },
  ...fieldsOfEvents,
  backlogLimit: noBacklogLimitField,
} as const satisfies Fields;

/**
 * Checks a policy and returns it complete and frozen.
 *
 * Errors: `ConfigurationError` naming every missing decision at once; `NotBuiltError` for what is planned.
 */
export function checkPolicy(value: unknown, where: string): CheckedPolicy {
  return checkRelations(checkOptions(value, policyFields, where, { decisions }), where);
}

/** Checks the options of a subscription: its topic, and its policy as `checkPolicy` does. */
export function checkSubscription(
  value: unknown,
  where: string,
): { readonly topic: string; readonly startFrom: StartFrom; readonly policy: CheckedPolicy } {
  const { topic, startFrom, ...policy } = checkOptions(value, subscriptionFields, where, { decisions });
  return {
    topic,
    startFrom: startFrom === "oldest" ? "oldest" : "now",
    policy: checkRelations(Object.freeze(policy), where),
  };
}

/** A policy as the registry keeps it: JSON, in which a function is said to be one. */
export function storedPolicy(policy: CheckedPolicy): object {
  return policy.retry.kind === "custom" ? { ...policy, retry: { ...policy.retry, delayMs: "function" } } : policy;
}

/** Checks a policy that comes from the registry. A function is where its worker is: here it can be described, not called. */
export function readStoredPolicy(value: unknown, where: string): CheckedPolicy {
  return checkAgain(value, where, readWithoutRelay);
}

/** Checks a policy that may have been checked: a relay's then says where it goes, which no user writes. */
export function recheckPolicy(value: QueuePolicy | CheckedPolicy, where: string): CheckedPolicy {
  return checkAgain(value, where, checkPolicy);
}

function checkAgain(value: unknown, where: string, check: typeof checkPolicy): CheckedPolicy {
  if (typeof value !== "object" || value === null || !("relay" in value)) return check(value, where);
  const { relay, ...rest } = value;
  return Object.freeze({ ...check(rest, where), relay: checkOptions(relay, relayedFields, `${where}.relay`) });
}

/** Letters of where a broker is. */
export const whereLength = 1_000;
const relayedFields = {
  broker: { type: "string", doc: "What it is", maxLength: limits.nameLength, required: true },
  where: { type: "string", doc: "Where it is", maxLength: whereLength, required: true },
} as const satisfies Fields;

function readWithoutRelay(value: unknown, where: string): CheckedPolicy {
  if (typeof value !== "object" || value === null || !("retry" in value)) return checkPolicy(value, where);
  const { retry } = value;
  const elsewhere = typeof retry === "object" && retry !== null && "delayMs" in retry && retry.delayMs === "function";
  return checkPolicy(elsewhere ? { ...value, retry: { ...retry, delayMs: () => Number.NaN } } : value, where);
}

/** Why order per key rules them out. */
const keyLimits = {
  keyConcurrency:
    "is not for a queue that keeps order per key: one of a key runs at a time there anyway. Leave it out.",
  keyRateLimit:
    'is not for a queue that keeps order per key: what a key\'s rate keeps back is put aside, past its order. Limit the queue with rateLimit, or say ordering: "none".',
} as const;

function checkRelations(policy: OptionsOf<typeof policyFields>, where: string): CheckedPolicy {
  if (policy.idempotency === "at-most-once" && policy.retry.kind !== "none") {
    const message = `${where}.retry must be retry.none because ${where}.idempotency is "at-most-once": a second run is what it rules out.`;
    throw new ConfigurationError("PH_OPTION_INVALID", message, { path: `${where}.retry` });
  }
  const keyLimit = (["keyConcurrency", "keyRateLimit"] as const).find((name) => policy[name] !== undefined);
  if (policy.ordering !== "none" && keyLimit !== undefined) {
    const message = `${where}.${keyLimit} ${keyLimits[keyLimit]}`;
    throw new ConfigurationError("PH_OPTION_INVALID", message, { path: `${where}.${keyLimit}` });
  }
  const { rateLimit, keyRateLimit, ...rest } = policy;
  return Object.freeze({
    ...rest,
    ...(rateLimit && { rateLimit: checkRate(rateLimit, `${where}.rateLimit`) }),
    ...(keyRateLimit && { keyRateLimit: checkRate(keyRateLimit, `${where}.keyRateLimit`) }),
  });
}
