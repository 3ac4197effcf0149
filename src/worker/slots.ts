/**
 * Handler transactions that this process claims for, shared by all its readers in transaction mode: each needs a connection of the pool,
 * and what is claimed must not wait for one. One connection is left to producers where there are several.
 *
 * With one connection for everybody they run one after the other anyway. A few are claimed ahead and wait in line: a claim for each
 * single message would cost as much as the message.
 */
import type { Database } from "../core/database.js";

const aheadOnOneConnection = 16;

export class Slots {
  readonly #size: number;
  #used = 0;
  readonly #freed = new Set<() => void>();

  constructor({ single, transactions }: Pick<Database, "single" | "transactions">) {
    this.#size = single ? aheadOnOneConnection : Math.max(1, transactions - 1);
  }

  get free(): number {
    return this.#size - this.#used;
  }

  take(count: number): void {
    this.#used += count;
  }

  give(count: number): void {
    // Whoever is told looks again, and gives back nothing: telling of nothing would never end.
    if (count === 0) return;
    this.#used -= count;
    // Who is told first takes first. Each is first in turn: otherwise the first reader with a backlog leaves nothing to the others.
    const told = [...this.#freed];
    const [first] = told;
    if (first !== undefined && this.#freed.delete(first)) this.#freed.add(first);
    for (const tell of told) tell();
  }

  /** Calls back each time slots become free, until the returned function is called. */
  onFreed(tell: () => void): () => void {
    this.#freed.add(tell);
    return () => this.#freed.delete(tell);
  }
}
