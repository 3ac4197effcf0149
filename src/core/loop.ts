/**
 * A background loop: wait or stop, one pass, report. The pass does the work and returns how long to wait; what it throws is
 * reported and waited out with growing pauses, because only a background loop may log an error and go on.
 */

export interface LoopOptions {
  readonly pass: () => Promise<number>;
  readonly onError: (error: unknown) => void;
  /** First and longest pause after an error. */
  readonly pauseMs?: { readonly first: number; readonly longest: number };
}

export class Loop {
  readonly #options: LoopOptions;
  #stopped = false;
  #ended: Promise<void> = Promise.resolve();
  #wake: (() => void) | undefined;
  #woken = false;

  constructor(options: LoopOptions) {
    this.#options = options;
  }

  start(): void {
    this.#ended = this.#run();
  }

  /** Ends the wait at once; during a pass, the wait after it. */
  wake(): void {
    this.#woken = true;
    this.#wake?.();
  }

  /** Waits for the pass that runs. Safe to call twice. */
  async stop(): Promise<void> {
    this.#stopped = true;
    this.wake();
    await this.#ended;
  }

  async #run(): Promise<void> {
    const { first, longest } = this.#options.pauseMs ?? { first: 100, longest: 5_000 };
    let pause = first;
    while (!this.#stopped) {
      this.#woken = false;
      let wait: number;
      try {
        wait = await this.#options.pass();
        pause = first;
      } catch (error) {
        this.#options.onError(error);
        wait = pause;
        pause = Math.min(longest, pause * 2);
      }
      if (!this.#stopped) await this.#sleep(wait);
    }
  }

  #sleep(ms: number): Promise<void> {
    // Even without a pause others get their turn: a loop that is always busy must not starve the process.
    if (this.#woken || ms <= 0) return new Promise((resolve) => setImmediate(resolve));
    return new Promise((resolve) => {
      const timer = setTimeout(done, ms);
      const self = this;
      function done(): void {
        clearTimeout(timer);
        self.#wake = undefined;
        resolve();
      }
      this.#wake = done;
    });
  }
}
