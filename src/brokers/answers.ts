/** Waits for the answers to many messages that are on their way at once. */

export interface Patience {
  readonly signal: AbortSignal;
  /** How long the other side may answer nothing at all. */
  readonly timeoutMs: number;
  /** What to say then. */
  readonly silence: (timeoutMs: number) => Error;
}

/**
 * `start` sends `count` messages, and calls `settle` once for each with its number and what became of it. Resolves when all are settled, when the signal
 * fires, or when nothing was settled for so long; `missing` says then what became of the others. Never rejects.
 */
export function gather<T extends object>(
  count: number,
  { signal, timeoutMs, silence }: Patience,
  start: (settle: (i: number, outcome: T) => void) => void,
  missing: (error: unknown) => T,
): Promise<readonly T[]> {
  return new Promise((resolve) => {
    const outcomes = new Array<T | undefined>(count).fill(undefined);
    let open = count;
    const end = (error: unknown) => {
      clearInterval(watch);
      signal.removeEventListener("abort", abort);
      resolve(outcomes.map((outcome) => outcome ?? missing(error)));
    };
    const abort = () => end(signal.reason);
    let seen = -1;
    // Looks now and then, so that an answer costs no timer: silence is noticed after once to twice the time.
    const watch = setInterval(() => {
      if (seen === open) end(silence(timeoutMs));
      seen = open;
    }, timeoutMs);
    if (open === 0 || signal.aborted) {
      abort();
      return;
    }
    signal.addEventListener("abort", abort, { once: true });
    start((i, outcome) => {
      outcomes[i] ??= outcome;
      open -= 1;
      if (open === 0) end(undefined);
    });
  });
}
