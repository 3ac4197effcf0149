/**
 * The decision about retries, as frozen data, and the wait that follows from it.
 *
 * The functions only build the object. Its numbers are checked with the policy that holds it, because only there is the name
 * of the queue known that belongs in the message.
 */
import { limits } from "../core/limits.js";
import { show } from "../core/show.js";

/**
 * How a growing wait is spread, so that messages that failed together do not come back together: over all of it ("full"), over its
 * upper half ("equal"), or not at all ("none"). The words of "Exponential Backoff And Jitter", AWS Architecture Blog, 2015.
 */
export const jitters = ["full", "equal", "none"] as const;
export type Jitter = (typeof jitters)[number];

/**
 * Full jitter is for callers that nothing else holds back. Here `concurrency` bounds how many come back at once, and what a schedule has to
 * tell is how long an outage it survives: with "equal" that is at least half of what it says, with "full" there is no lower bound.
 */
export const defaultJitter = "equal" satisfies Jitter;

interface Tried {
  /** Runs in all, the first included. */
  readonly attempts: number;
}
interface Immediate {
  /** The first so many retries come at once; the waits begin after them. They count as attempts. */
  readonly immediate?: number;
}
export interface ExponentialRetry extends Tried, Immediate {
  readonly kind: "exponential";
  readonly firstMs: number;
  readonly maxMs: number;
  readonly jitter?: Jitter;
}
export interface FixedRetry extends Tried, Immediate {
  readonly kind: "fixed";
  readonly delayMs: number;
}
export interface DelaysRetry extends Tried {
  readonly kind: "delays";
  /** The wait after the first failure, after the second, and so on; there is one attempt more than waits. */
  readonly delaysMs: readonly number[];
}
export interface CustomRetry extends Tried {
  readonly kind: "custom";
  /** The wait after the given number of failures, of which `error` is the newest. */
  readonly delayMs: (attempt: number, error: unknown) => number;
}
export interface NoRetry extends Tried {
  readonly kind: "none";
  readonly attempts: 1;
}
/** Retries whose waits are known before anything fails. */
export type ScheduledRetry = ExponentialRetry | FixedRetry | DelaysRetry | NoRetry;
export type Retry = ScheduledRetry | CustomRetry;

export const retry = Object.freeze({
  /**
   * Waits `firstMs`, then twice as long after each further failure, never longer than `maxMs`; `attempts` runs in all. The waits are spread by
   * `jitter`: over their upper half unless it says otherwise. The first `immediate` retries come at once.
   */
  exponential: (options: Omit<ExponentialRetry, "kind">): ExponentialRetry =>
    Object.freeze({ jitter: defaultJitter, immediate: 0, ...options, kind: "exponential" }),
  /** Waits `delayMs` after each failure, without jitter; `attempts` runs in all. The first `immediate` retries come at once. */
  fixed: (options: Omit<FixedRetry, "kind">): FixedRetry => Object.freeze({ immediate: 0, ...options, kind: "fixed" }),
  /** Waits as listed, without jitter: `retry.delays([0, seconds(10), hours(1)])` runs four times in all. */
  delays: (delaysMs: readonly number[]): DelaysRetry => {
    const list = Array.isArray(delaysMs) ? Object.freeze([...delaysMs]) : delaysMs;
    return Object.freeze({ kind: "delays", delaysMs: list, attempts: Array.isArray(list) ? list.length + 1 : 1 });
  },
  /**
   * Asks a function of yours: `delayMs(attempt, error)` with the number of failures so far, 1 after the first.
   *
   * Limits: a message is not lost by it. When it throws, or returns anything but milliseconds from 0 to `limits.durationMs`, the wait is
   * `limits.retryFallbackMs`, and the history and the log say so. It must return at once: it holds up all other runs of the process.
   */
  custom: (options: Omit<CustomRetry, "kind">): CustomRetry => Object.freeze({ ...options, kind: "custom" }),
  /** One run. What fails is a dead letter at once. */
  none: Object.freeze({ kind: "none", attempts: 1 }) satisfies NoRetry,
});

/**
 * The wait after the given number of failures, without jitter: the longest that `delayMs` returns.
 *
 * Limits: whether another attempt is left is the caller's question; beyond `attempts` the series goes on.
 */
export function nominalDelayMs(decision: ScheduledRetry, failures: number): number {
  switch (decision.kind) {
    case "exponential": {
      const { firstMs, maxMs, immediate = 0 } = decision;
      return failures <= immediate ? 0 : Math.min(maxMs, firstMs * 2 ** Math.max(0, failures - immediate - 1));
    }
    case "fixed":
      return failures <= (decision.immediate ?? 0) ? 0 : decision.delayMs;
    case "delays":
      return decision.delaysMs[Math.min(failures, decision.delaysMs.length) - 1] ?? 0;
    case "none":
      return 0;
  }
}

/** The wait before the next attempt after the given number of failures (1 after the first). */
export function delayMs(decision: ScheduledRetry, failures: number, random: () => number = Math.random): number {
  const base = nominalDelayMs(decision, failures);
  if (decision.kind !== "exponential") return base;
  const { jitter = defaultJitter } = decision;
  if (jitter === "none") return base;
  return Math.round(jitter === "full" ? random() * base : base / 2 + (random() * base) / 2);
}

/** A wait, and what went wrong where it was worked out. */
export interface Wait {
  readonly delayMs: number;
  readonly note?: string;
}

/** The wait before the next attempt, whatever the decision. Never throws. */
export function waitAfter(decision: Retry, failures: number, error: unknown): Wait {
  return decision.kind === "custom" ? customWait(decision, failures, error) : { delayMs: delayMs(decision, failures) };
}

function customWait(decision: CustomRetry, failures: number, error: unknown): Wait {
  let returned: unknown;
  try {
    returned = decision.delayMs(failures, error);
  } catch (thrown) {
    return fallback(`threw ${show(thrown)}`);
  }
  if (typeof returned === "number" && returned >= 0 && returned <= limits.durationMs) {
    return { delayMs: Math.round(returned) + 0 };
  }
  // A promise that nobody waits for must not end the process when it is rejected.
  if (typeof returned === "object" && returned !== null) void Promise.resolve(returned).catch(() => undefined);
  return fallback(`returned ${show(returned)}`);
}

function fallback(what: string): Wait {
  const note = `retry.custom: delayMs ${what}; it must return milliseconds from 0 to ${limits.durationMs}, so the wait is ${limits.retryFallbackMs} ms`;
  return { delayMs: limits.retryFallbackMs, note };
}
