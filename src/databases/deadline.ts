/** Bounds a wait for something that may never answer, such as a half-open connection. */
import { DatabaseUnavailableError } from "../core/errors.js";

/**
 * Rejects with PH_DATABASE_TIMEOUT when `work` has not settled in time, after `giveUp` has cut what it waits for. A later
 * rejection of `work` is of no interest to anybody and is not reported as unhandled.
 */
export function withDeadline<T>(work: Promise<T>, timeoutMs: number, what: string, giveUp: () => void): Promise<T> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => {
      reject(
        new DatabaseUnavailableError(
          "PH_DATABASE_TIMEOUT",
          `${what} got no answer within ${timeoutMs} ms, and its connection was given up. It may be repeated if that is safe.`,
          { timeoutMs },
        ),
      );
      giveUp();
    }, timeoutMs);
    work.then(resolve, reject).finally(() => clearTimeout(timer));
  });
}
