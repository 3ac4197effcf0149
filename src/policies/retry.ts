/**
 * The decision about retries, as frozen data, and the wait that follows from it.
 *
 * The functions only build the object. Its numbers are checked with the policy that holds it, because only there is the name
 * of the queue known that belongs in the message.
 */

export interface ExponentialRetry {
  readonly kind: "exponential";
  /** Runs in all, the first included. */
  readonly attempts: number;
  readonly firstMs: number;
  readonly maxMs: number;
}
export interface FixedRetry {
  readonly kind: "fixed";
  /** Runs in all, the first included. */
  readonly attempts: number;
  readonly delayMs: number;
}
export interface NoRetry {
  readonly kind: "none";
  readonly attempts: 1;
}
export type Retry = ExponentialRetry | FixedRetry | NoRetry;

export const retry = Object.freeze({
  /** Waits `firstMs`, then twice as long after each further failure, never longer than `maxMs`; `attempts` runs in all. */
  exponential: (options: Omit<ExponentialRetry, "kind">): ExponentialRetry =>
    Object.freeze({ ...options, kind: "exponential" }),
  /** Waits `delayMs` after each failure, without jitter; `attempts` runs in all. */
  fixed: (options: Omit<FixedRetry, "kind">): FixedRetry => Object.freeze({ ...options, kind: "fixed" }),
  /** One run. What fails is a dead letter at once. */
  none: Object.freeze({ kind: "none", attempts: 1 }) satisfies NoRetry,
});

/**
 * The wait after the given number of failures, without jitter: the longest that `delayMs` returns.
 *
 * Limits: whether another attempt is left is the caller's question; beyond `attempts` the series goes on.
 */
export function nominalDelayMs(decision: Retry, failures: number): number {
  switch (decision.kind) {
    case "exponential":
      return Math.min(decision.maxMs, decision.firstMs * 2 ** Math.max(0, failures - 1));
    case "fixed":
      return decision.delayMs;
    case "none":
      return 0;
  }
}

/**
 * The wait before the next attempt after the given number of failures (1 after the first).
 *
 * Exponential waits are spread evenly over the upper half, from base / 2 to base ("equal jitter" in "Exponential Backoff And
 * Jitter", AWS Architecture Blog, 2015). Full jitter spreads a little better and may wait nothing at all, so that a policy's
 * attempts could be spent in an instant; here the described schedule is a true upper bound and half of it a true lower one.
 */
export function delayMs(decision: Retry, failures: number, random: () => number = Math.random): number {
  const base = nominalDelayMs(decision, failures);
  return decision.kind === "exponential" ? Math.round(base / 2 + (random() * base) / 2) : base;
}
