/**
 * Handler transactions that may be open at once in this process, shared by all its readers in transaction mode: each needs a connection
 * of the pool, and what is claimed must not wait for one. One connection is left to producers where there are several.
 */
import type { Database } from "../core/database.js";

export class Slots {
  readonly #size: number;
  #used = 0;
  readonly #freed = new Set<() => void>();

  constructor(database: Pick<Database, "transactions">) {
    this.#size = Math.max(1, database.transactions - 1);
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
    for (const tell of this.#freed) tell();
  }

  /** Calls back each time slots become free, until the returned function is called. */
  onFreed(tell: () => void): () => void {
    this.#freed.add(tell);
    return () => this.#freed.delete(tell);
  }
}
