/**
 * Handler transactions that this process claims for, shared by all its readers in transaction mode: each needs a connection of the pool,
 * and what is claimed must not wait long for one. One connection is left to producers where there are several.
 *
 * Few slots make small claims, and a claim for one message costs as much as one for twenty. So while runs are short, some messages are claimed
 * ahead of the slots: as many as begin within some milliseconds.
 *
 * With one connection for everybody they run one after the other anyway. A few are claimed ahead and wait in line: a claim for each
 * single message would cost as much as the message.
 */
import type { Database } from "../core/database.js";

const aheadOnOneConnection = 16;
/** How long what is claimed ahead is expected to wait for a slot, and how many messages that are at most. */
const aheadMs = 30;
const mostAhead = 64;
/** How much the newest run counts in the mean. */
const weight = 0.1;

export class Slots {
  readonly size: number;
  readonly #most: number;
  #used = 0;
  /** How long a run takes, as the newest show; undefined before the first. */
  #runMs: number | undefined;
  readonly #freed = new Set<() => void>();

  constructor({ single, transactions }: Pick<Database, "single" | "transactions">) {
    this.size = single ? aheadOnOneConnection : Math.max(1, transactions - 1);
    this.#most = single ? 0 : mostAhead;
  }

  get free(): number {
    return this.size - this.#used;
  }

  /** How many messages a reader with so many runs at once may hold beyond its slots. */
  ahead(atOnce: number): number {
    if (this.#runMs === undefined) return 0;
    return Math.min(this.#most, Math.floor((atOnce * aheadMs) / this.#runMs));
  }

  took(runMs: number): void {
    this.#runMs = this.#runMs === undefined ? runMs : this.#runMs + (runMs - this.#runMs) * weight;
  }

  /** What was claimed ahead got no slot in time. Nothing more is, until a run has ended. */
  stalled(): void {
    this.#runMs = undefined;
  }

  take(count: number): void {
    this.#used += count;
  }

  /** `first` takes again what is its own, before anybody is told. */
  give(count: number, first?: () => void): void {
    this.#used -= count;
    first?.();
    // Whoever is told looks again, and gives back nothing: telling of nothing would never end.
    if (count === 0) return;
    // Who is told first takes first. Each is first in turn: otherwise the first reader with a backlog leaves nothing to the others.
    const told = [...this.#freed];
    const [next] = told;
    if (next !== undefined && this.#freed.delete(next)) this.#freed.add(next);
    for (const tell of told) tell();
  }

  /** Calls back each time slots become free, until the returned function is called. */
  onFreed(tell: () => void): () => void {
    this.#freed.add(tell);
    return () => this.#freed.delete(tell);
  }
}
