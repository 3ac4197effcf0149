/**
 * Asks the database whether there is anything to do: one statement for all readers of a process, soon after activity and once a second
 * when idle. This is the truth; wake-ups only make it sooner. Once a second it also asks whether a worker has died.
 */
import type { Executor } from "../core/database.js";
import { Loop } from "../core/loop.js";
import { peek } from "../store/work.js";
import type { Reader } from "./reader.js";

export interface PollerOptions {
  readonly session: Executor;
  readonly worker: string;
  readonly readers: readonly Reader[];
  readonly onDead: () => void;
  /** Somebody asked to cancel what may run here. */
  readonly onCancels: () => void;
  readonly onError: (error: unknown) => void;
  /** Whether wake-ups arrive here; without them it looks more often while it is idle. */
  readonly hears: boolean;
}

/** Soon after activity; where wake-ups arrive they tell of nearly all that comes. */
const soonMs = { hears: 50, deaf: 20 } as const;
/** Where nothing but a look finds a message. */
const unheardMs = 200;
const idleMs = 1_000;

export class Poller {
  readonly #options: PollerOptions;
  readonly #loop: Loop;
  readonly #soonMs: number;
  #everyMs: number;
  #restsUntil = 0;
  #watchedAt = Number.NEGATIVE_INFINITY;
  /** The snapshot of an empty peek, and which subscriptions it covered. */
  #seen: { readonly snapshot: string; readonly of: string } | undefined;

  constructor(options: PollerOptions) {
    this.#options = options;
    this.#soonMs = options.hears ? soonMs.hears : soonMs.deaf;
    this.#everyMs = this.#soonMs;
    this.#loop = new Loop({ pass: () => this.#pass(), onError: options.onError });
  }

  start(): void {
    this.#loop.start();
  }

  stop(): Promise<void> {
    return this.#loop.stop();
  }

  /** Something happened: more may come soon. */
  soon(): void {
    this.#everyMs = this.#soonMs;
    if (this.#restsUntil - performance.now() > this.#soonMs) this.#loop.wake();
  }

  /** Looks now and afresh; true when there was nothing to do for any reader. */
  async look(): Promise<boolean> {
    const { session, worker, readers } = this.#options;
    const subscriptions = readers.map(({ subscription }) => subscription);
    const found = await peek(session, worker, subscriptions, null, false);
    return this.#tell(readers, found.ready, found.due).nothing;
  }

  async #pass(): Promise<number> {
    const { session, worker, readers, onDead, onCancels } = this.#options;
    const now = performance.now();
    // A little early, so that the once-a-second rhythm of an idle process is not missed by a millisecond each time.
    const watch = now - this.#watchedAt >= idleMs * 0.9;
    const hungry = readers.filter((reader) => reader.hungry);
    if (hungry.length > 0 || watch) {
      const subscriptions = hungry.map(({ subscription }) => subscription);
      const of = subscriptions.join(",");
      const seen = this.#seen?.of === of ? this.#seen.snapshot : null;
      const found = await peek(session, worker, subscriptions, seen, watch);
      if (watch) this.#watchedAt = now;
      if (found.dead) onDead();
      if (found.cancels) onCancels();
      const { calm } = this.#tell(hungry, found.ready, found.due);
      this.#seen = found.ready.length === 0 ? { snapshot: found.snapshot, of } : undefined;
      this.#everyMs = calm ? Math.min(this.#options.hears ? idleMs : unheardMs, this.#everyMs * 2) : this.#soonMs;
    }
    this.#restsUntil = performance.now() + this.#everyMs;
    return this.#everyMs;
  }

  /** Whether there is nothing to do, and whether nothing of it makes it worth while to look again soon. */
  #tell(
    readers: readonly Reader[],
    ready: readonly number[],
    due: readonly (readonly [number, number])[],
  ): { readonly nothing: boolean; readonly calm: boolean } {
    let nothing = true;
    let calm = true;
    for (const reader of readers) {
      // It looks by itself when the database told it to.
      if (reader.blocked) continue;
      if (ready.includes(reader.subscription)) {
        nothing = false;
        calm = false;
        reader.hint();
      }
      const inMs = due.find(([subscription]) => subscription === reader.subscription)?.[1];
      if (inMs === undefined) continue;
      if (inMs <= 0) nothing = false;
      // What is held is looked at by the reader itself.
      if (inMs <= 0 && !reader.held) calm = false;
      reader.due(Math.max(0, inMs));
    }
    return { nothing, calm };
  }
}
