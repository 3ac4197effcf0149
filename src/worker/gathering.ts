/**
 * Messages of one contract that wait for company. A batch is due when it is full, or when its oldest message has waited for the longest
 * time: a maximum age, which later messages do not move. No I/O and no timer; whoever asks brings the time with the clock.
 */
import type { BatchOptions } from "../policies/batch.js";
import type { Delivery } from "../store/work.js";

interface Waiting {
  readonly delivery: Delivery;
  readonly arrivedAt: number;
}

export class Gathering {
  readonly size: number;
  readonly #maxWaitMs: number;
  readonly #now: () => number;
  #waiting: Waiting[] = [];

  constructor({ size, maxWaitMs }: BatchOptions, now: () => number) {
    this.size = size;
    this.#maxWaitMs = maxWaitMs;
    this.#now = now;
  }

  get count(): number {
    return this.#waiting.length;
  }

  add(delivery: Delivery): void {
    this.#waiting.push({ delivery, arrivedAt: this.#now() });
  }

  /** How many batches could go now. */
  get due(): number {
    const full = Math.floor(this.count / this.size);
    const inMs = this.#lastDueInMs;
    return inMs !== undefined && inMs <= 0 ? full + 1 : full;
  }

  /** When the batch that is not full will be due; undefined when there is none. */
  get dueInMs(): number | undefined {
    const inMs = this.#lastDueInMs;
    return inMs !== undefined && inMs > 0 ? inMs : undefined;
  }

  get #lastDueInMs(): number | undefined {
    const oldest = this.#waiting[this.count - (this.count % this.size)];
    return oldest === undefined ? undefined : oldest.arrivedAt + this.#maxWaitMs - this.#now();
  }

  /** The oldest, as many as one batch takes. */
  take(): Delivery[] {
    return this.#waiting.splice(0, this.size).map(({ delivery }) => delivery);
  }

  /** Those that fit. */
  takeThose(fits: (delivery: Delivery) => boolean): Delivery[] {
    const those = this.#waiting.map(({ delivery }) => delivery).filter(fits);
    if (those.length > 0) this.#waiting = this.#waiting.filter(({ delivery }) => !fits(delivery));
    return those;
  }

  /** Everything, for nobody is to wait any more. */
  drain(): Delivery[] {
    const all = this.#waiting.map(({ delivery }) => delivery);
    this.#waiting = [];
    return all;
  }
}
