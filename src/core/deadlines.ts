/** Ends what takes too long. One timer for all that have the same time: a timer of its own costs each as much as a small statement. */
import { Roster } from "./roster.js";

export interface Overdue {
  /** When its time will have passed, on the clock of `performance.now`. */
  readonly dueAt: number;
  /** The time has passed. It is ended by this. */
  overdue(): void;
}

export class Deadlines {
  readonly limitMs: number;
  readonly #running = new Roster<Overdue>();
  #timer: NodeJS.Timeout | undefined;

  constructor(limitMs: number) {
    this.limitMs = limitMs;
  }

  /** Returns the number to end it by. */
  begin(run: Overdue): number {
    if (this.#timer === undefined) this.#wait(this.limitMs);
    return this.#running.add(run);
  }

  end(at: number, run: Overdue): void {
    this.#running.remove(at, run);
  }

  /** The process is kept alive by what runs and by the worker, not by this. */
  #wait(ms: number): void {
    this.#timer = setTimeout(() => this.#look(), ms).unref();
  }

  #look(): void {
    this.#timer = undefined;
    const now = performance.now();
    let next = Number.POSITIVE_INFINITY;
    for (const run of this.#running) {
      if (run.dueAt <= now) run.overdue();
      else next = Math.min(next, run.dueAt);
    }
    if (next < Number.POSITIVE_INFINITY) this.#wait(Math.ceil(next - now));
  }
}
