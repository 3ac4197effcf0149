/** How much flows: how fast and how many messages run in the fleet, and how many may wait. The optional part of a policy. */
import { ConfigurationError } from "../core/errors.js";
import { limits } from "../core/limits.js";
import type { Fields } from "../core/options.js";

/** At most `messages` begin within `perMs`, evenly spread, in the whole fleet. */
export interface Rate {
  readonly messages: number;
  readonly perMs: number;
  /**
   * How many may begin at once after a pause. Any time of `perMs` holds at most `messages` and `burst` less one.
   *
   * Default: what begins in a fifth of a second, at least 1. Range 1 to `messages`.
   */
  readonly burst?: number;
}

export interface BacklogLimit {
  /** From so many waiting messages on the queue is full. */
  readonly messages: number;
  /** What `send` does then outside a transaction: it rejects, or waits for room. */
  readonly whenFull: "reject" | "wait";
  /**
   * How long `send` waits at most; then it rejects.
   *
   * Default 30000. Range 1 to 3600000.
   */
  readonly waitMs?: number;
}

export interface Flow {
  /** Handlers that run at once in the whole fleet. */
  readonly fleetConcurrency?: number;
  /** Handlers that run at once for one key in the whole fleet. Not where order is kept per key. */
  readonly keyConcurrency?: number;
  /** How fast handlers begin in the whole fleet. */
  readonly rateLimit?: Rate;
  /** How fast handlers begin for one key in the whole fleet. Not where order is kept per key. */
  readonly keyRateLimit?: Rate;
}

export type CheckedRate = Required<Rate>;
export interface CheckedFlow extends Flow {
  readonly rateLimit?: CheckedRate;
  readonly keyRateLimit?: CheckedRate;
  readonly backlogLimit?: Required<BacklogLimit>;
}

const atOnce = { type: "integer", min: 1, max: limits.concurrency } as const;
const rate = {
  messages: { type: "integer", min: 1, max: limits.rateMessages, required: true, doc: "So many begin" },
  perMs: { type: "duration", min: 1, max: limits.rateMs, required: true, doc: "within this time" },
  burst: {
    type: "integer",
    min: 1,
    max: limits.rateMessages,
    doc: "How many may begin at once after a pause, at most `messages`; when absent, what begins in a fifth of a second",
  },
} as const satisfies Fields;

export const backlogLimitField = {
  type: "object",
  doc: "What a producer meets when too much waits; only a queue has one",
  fields: {
    messages: { type: "integer", min: 1, max: limits.backlog, required: true, doc: "The queue is full from here on" },
    whenFull: {
      type: "choice",
      values: ["reject", "wait"],
      required: true,
      doc: "What `send` does then: it rejects, or waits for room; in a transaction it always rejects",
    },
    waitMs: { type: "duration", min: 1, max: limits.backlogWaitMs, default: 30_000, doc: "The longest wait" },
  },
} as const;

/** A topic is not full: a fact has happened, and cannot be refused. */
export const noBacklogLimitField = {
  type: "custom",
  doc: "Refused: a fact cannot be refused, so a topic is never full",
  words: "absent",
  check: (_value: unknown, path: string): never => {
    const message = `${path} is for queues: an event has happened and cannot be refused because much waits. Limit the queue that its handler sends to, or watch alerts.backlog.`;
    throw new ConfigurationError("PH_OPTION_INVALID", message, { path });
  },
} as const;

export const flowOptions = {
  fleetConcurrency: { ...atOnce, doc: "Handlers that run at once in the whole fleet" },
  keyConcurrency: {
    ...atOnce,
    doc: "Handlers that run at once for one key, in the whole fleet; not where order is kept per key",
  },
  rateLimit: { type: "object", doc: "How fast handlers begin, in the whole fleet", fields: rate },
  keyRateLimit: {
    type: "object",
    doc: "How fast handlers begin for one key, in the whole fleet; not where order is kept per key",
    fields: rate,
  },
} as const satisfies Fields;

/** Long enough that a short pause of all workers costs nothing of the rate. */
const burstMs = 200;
/** Times are kept in microseconds. */
const mostPerMs = 1_000;

/** Completes a rate. Errors: a burst of more than the rate allows at all, and a rate that is none. */
export function checkRate(given: Rate, path: string): CheckedRate {
  const { messages, perMs } = given;
  const burst = given.burst ?? Math.min(messages, Math.max(1, Math.ceil((messages * burstMs) / perMs)));
  if (burst > messages) {
    const message = `${path}.burst (${burst}) must not be larger than ${path}.messages (${messages}).`;
    throw new ConfigurationError("PH_OPTION_INVALID", message, { path: `${path}.burst` });
  }
  if (messages > perMs * mostPerMs) {
    const message = `${path} allows more than ${mostPerMs * 1_000} messages a second, which is no limit. Leave it out.`;
    throw new ConfigurationError("PH_OPTION_INVALID", message, { path });
  }
  return Object.freeze({ messages, perMs, burst });
}

/** Whether messages must have keys. */
export function limitsKeys({ keyConcurrency, keyRateLimit }: Flow): boolean {
  return keyConcurrency !== undefined || keyRateLimit !== undefined;
}
