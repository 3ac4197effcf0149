/** Bounds a wait for something that may never answer, such as a half-open connection. */
import { Deadlines, type Overdue } from "../core/deadlines.js";
import { DatabaseUnavailableError } from "../core/errors.js";

/** By their time, of which there are as many as settings. */
const all = new Map<number, Deadlines>();

function deadlinesOf(limitMs: number): Deadlines {
  const found = all.get(limitMs) ?? new Deadlines(limitMs);
  all.set(limitMs, found);
  return found;
}

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
    const deadlines = deadlinesOf(timeoutMs);
    const wait: Overdue = {
      dueAt: performance.now() + timeoutMs,
      overdue: () => {
        deadlines.end(at, wait);
        reject(
          new DatabaseUnavailableError(
            "PH_DATABASE_TIMEOUT",
            `${what} got no answer within ${timeoutMs} ms, and its connection was given up. It may be repeated if that is safe.`,
            { timeoutMs },
          ),
        );
        giveUp();
      },
    };
    const at = deadlines.begin(wait);
    const fail = (error: unknown): void => {
      deadlines.end(at, wait);
      reject(error);
    };
    try {
      start((value) => {
        deadlines.end(at, wait);
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
