/**
 * Ends runs that take too long. One timer for all runs of a reader: they have the same time, so the one that began first is due first.
 */
export interface Overdue {
  /** Called once, when the time has passed. */
  overdue(): void;
}

export class Deadlines {
  readonly #limitMs: number;
  /** In the order in which they began, with the time at which each is due. */
  readonly #running = new Map<Overdue, number>();
  #timer: NodeJS.Timeout | undefined;

  constructor(limitMs: number) {
    this.#limitMs = limitMs;
  }

  begin(run: Overdue): void {
    this.#running.set(run, performance.now() + this.#limitMs);
    if (this.#timer === undefined) this.#wait(this.#limitMs);
  }

  end(run: Overdue): void {
    this.#running.delete(run);
  }

  /** The process is kept alive by what runs and by the worker, not by this. */
  #wait(ms: number): void {
    this.#timer = setTimeout(() => this.#look(), ms).unref();
  }

  #look(): void {
    this.#timer = undefined;
    for (const [run, dueAt] of this.#running) {
      const left = dueAt - performance.now();
      if (left > 0) {
        this.#wait(Math.ceil(left));
        return;
      }
      this.#running.delete(run);
      run.overdue();
    }
  }
}
