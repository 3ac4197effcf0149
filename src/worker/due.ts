/**
 * When waiting deliveries of a reader are due, as far as it knows.
 *
 * What is due and cannot be taken is held: by a producer that has not committed, or because this worker holds a suspect already. It stays due all
 * the while, and whoever says so says nothing new. So it is looked at after pauses that grow, until something of this reader has changed.
 */
import { heldMs, restMs } from "./times.js";

export class Due {
  /** On the clock of `performance.now`; undefined when none is known. */
  #at: number | undefined = 0;
  #heldUntil = 0;
  #pauseMs: number = heldMs.first;

  get now(): boolean {
    return this.inMs <= 0;
  }

  get inMs(): number {
    return this.#at === undefined ? restMs : this.#at - performance.now();
  }

  /** What is due could not be taken at the last look. */
  get held(): boolean {
    return this.#heldUntil > performance.now();
  }

  /** Something is due in so many milliseconds. Whether that is sooner than what was known. */
  in(ms: number): boolean {
    const at = Math.max(this.#heldUntil, performance.now() + ms);
    if (this.#at !== undefined && this.#at <= at) return false;
    this.#at = at;
    return true;
  }

  /** A look took all that it could, so many. The next is due in so many milliseconds, if there is one; where that is now, it is held. */
  looked(nextInMs: number | undefined, taken: number): void {
    const held = nextInMs !== undefined && nextInMs <= 0;
    if (!held || taken > 0) this.#pauseMs = heldMs.first;
    this.#heldUntil = held ? performance.now() + this.#pauseMs : 0;
    if (held) this.#pauseMs = Math.min(heldMs.longest, this.#pauseMs * 2);
    this.#at = undefined;
    if (nextInMs !== undefined) this.in(nextInMs);
  }

  /** What was held may be free. */
  release(): void {
    if (this.held) this.#at = 0;
    this.#heldUntil = 0;
    this.#pauseMs = heldMs.first;
  }
}
