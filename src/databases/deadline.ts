/** Bounds a wait for something that may never answer, such as a half-open connection. */
import { DatabaseUnavailableError } from "../core/errors.js";

/**
 * Rejects with PH_DATABASE_TIMEOUT when what `start` begins has not settled in time, after `giveUp` has cut what it waits for. What it says
 * later is of no interest to anybody.
 */
export function within<T>(
  start: (resolve: (value: T) => void, reject: (error: unknown) => void) => void,
  timeoutMs: number,
  what: string,
  giveUp: () => void,
): Promise<T> {
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
    const fail = (error: unknown): void => {
      clearTimeout(timer);
      reject(error);
    };
    try {
      start((value) => {
        clearTimeout(timer);
        resolve(value);
      }, fail);
    } catch (error) {
      fail(error);
    }
  });
}

/** The same for a promise. A later rejection of it is not reported as unhandled. */
export function withDeadline<T>(work: Promise<T>, timeoutMs: number, what: string, giveUp: () => void): Promise<T> {
  return within((resolve, reject) => void work.then(resolve, reject), timeoutMs, what, giveUp);
}
