/**
 * Order per key within one reader: of the messages that its claims brought, each key runs one at a time; the others wait here behind it.
 *
 * Deliveries from `deferred` do not pass through here: the database makes only the first of each key due.
 */
import type { Delivery } from "../store/work.js";

export class Keys {
  /** Behind each key that runs, or is being decided about. */
  readonly #behind = new Map<string, Delivery[]>();
  #waiting = 0;

  /** How many wait. Each keeps its slot, so that what is claimed is bounded. */
  get waiting(): number {
    return this.#waiting;
  }

  /** True when it may run now; otherwise it waits until `ended` of the one before it. */
  arrived(delivery: Delivery): boolean {
    const { key } = delivery;
    if (key === null || delivery.hold.from !== "log") return true;
    const behind = this.#behind.get(key);
    if (behind === undefined) {
      this.#behind.set(key, []);
      return true;
    }
    behind.push(delivery);
    this.#waiting += 1;
    return false;
  }

  /** One has ended for good: the next of its key, which may run now. */
  next({ key, hold }: Delivery): Delivery | undefined {
    if (key === null || hold.from !== "log") return undefined;
    const next = this.#behind.get(key)?.shift();
    if (next === undefined) this.#behind.delete(key);
    else this.#waiting -= 1;
    return next;
  }

  /** One lies in the way of its key, or was moved out of its claim: what waits behind it, to be put aside in this order. */
  takeBehind({ key, hold }: Delivery): readonly Delivery[] {
    if (key === null || hold.from !== "log") return [];
    const behind = this.#behind.get(key) ?? [];
    this.#behind.delete(key);
    this.#waiting -= behind.length;
    return behind;
  }
}
