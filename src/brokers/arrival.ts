/** Something to receive, or the end of it: whoever receives waits here for what comes in beside it. */

/** A timer does not count further. */
const longestMs = 2_000_000_000;

export class Arrival {
  #wake: (() => void) | undefined;

  /** Ends the wait that is on. It is not kept for the next one, so look whether something is there before waiting. */
  tell(): void {
    this.#wake?.();
  }

  /** Until something is told, the time is over or the signal fires. One waits at a time. Never throws. */
  wait(ms: number, signal: AbortSignal): Promise<void> {
    return new Promise((resolve) => {
      if (signal.aborted) return resolve();
      const end = () => {
        clearTimeout(timer);
        signal.removeEventListener("abort", end);
        this.#wake = undefined;
        resolve();
      };
      const timer = setTimeout(end, Math.min(ms, longestMs));
      signal.addEventListener("abort", end, { once: true });
      this.#wake = end;
    });
  }
}
