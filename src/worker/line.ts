/** Messages that were claimed ahead of the slots and wait for one, in order. */
import type { Delivery } from "../store/work.js";
import type { Handled } from "./run.js";
import { patienceMs, restMs } from "./times.js";

export interface Waiting {
  readonly handled: Handled;
  readonly delivery: Delivery;
  readonly since: number;
}

export class Line {
  #waiting: Waiting[] = [];

  get length(): number {
    return this.#waiting.length;
  }

  add(handled: Handled, delivery: Delivery): void {
    this.#waiting.push({ handled, delivery, since: performance.now() });
  }

  /** Takes the first. */
  take(count: number): readonly Waiting[] {
    return this.#waiting.splice(0, count);
  }

  /** Takes those that fit. */
  takeThose(fits: (delivery: Delivery) => boolean): readonly Delivery[] {
    const those = this.#waiting.filter(({ delivery }) => fits(delivery)).map(({ delivery }) => delivery);
    if (those.length > 0) this.#waiting = this.#waiting.filter(({ delivery }) => !fits(delivery));
    return those;
  }

  /** How long the first may still wait. */
  get patienceMs(): number {
    const [first] = this.#waiting;
    return first === undefined ? restMs : first.since + patienceMs - performance.now();
  }
}
