/**
 * Waits for the ends of messages: one statement looks at all that are waited for in this process, soon at first and then less and less often.
 * Looking is the truth; that a run of this process has ended only makes it look sooner.
 */
import { states } from "../core/states.js";
import { type Place, publicId } from "../store/publish.js";
import type { ReceiverStatus } from "../store/status.js";

/** The states of a message for its receivers; null when there is no such message. */
export type Found = readonly ReceiverStatus[] | null;

export interface SettlementsOptions {
  readonly look: (publicIds: readonly string[]) => Promise<ReadonlyMap<string, Found>>;
  /** Throws once nobody may look any more. */
  readonly check: () => void;
}

interface Waiter {
  readonly until: number;
  readonly resolve: (found: Found) => void;
  readonly reject: (error: unknown) => void;
}

interface Waited {
  readonly waiters: Set<Waiter>;
  nextAt: number;
  pauseMs: number;
}

const firstLookMs = 5;
const longestLookMs = 250;
/** Messages that one statement looks at. */
const idsPerLook = 500;

export class Settlements {
  readonly #options: SettlementsOptions;
  readonly #waited = new Map<string, Waited>();
  #timer: NodeJS.Timeout | undefined;
  #wakesAt = Number.POSITIVE_INFINITY;
  #looking = false;

  constructor(options: SettlementsOptions) {
    this.#options = options;
  }

  /** The state of a message when it has ended, or when `withinMs` have passed. Errors: whatever keeps it from looking. */
  wait(id: string, withinMs: number): Promise<Found> {
    return new Promise((resolve, reject) => {
      const now = performance.now();
      const waited = this.#waited.get(id) ?? { waiters: new Set(), nextAt: now, pauseMs: firstLookMs };
      // Whoever comes later wants to know at once as well.
      waited.nextAt = now;
      waited.waiters.add({ until: now + withinMs, resolve, reject });
      this.#waited.set(id, waited);
      this.#schedule();
    });
  }

  /** A run of this message has ended in this process; where its end is committed already, there is nothing to wait for. */
  near(place: Place, committed: boolean): void {
    // The path of every message: nothing is made where nobody waits.
    if (this.#waited.size === 0) return;
    const waited = this.#waited.get(publicId(place));
    if (waited === undefined) return;
    waited.pauseMs = firstLookMs;
    waited.nextAt = performance.now() + (committed ? 0 : firstLookMs);
    this.#schedule();
  }

  #schedule(): void {
    if (this.#looking) return;
    let at = Number.POSITIVE_INFINITY;
    for (const { nextAt, waiters } of this.#waited.values()) {
      at = Math.min(at, nextAt);
      for (const { until } of waiters) at = Math.min(at, until);
    }
    if (at >= this.#wakesAt) return;
    clearTimeout(this.#timer);
    this.#wakesAt = at;
    this.#timer = setTimeout(() => void this.#look(), Math.max(0, at - performance.now()));
  }

  async #look(): Promise<void> {
    this.#looking = true;
    this.#wakesAt = Number.POSITIVE_INFINITY;
    const due = this.#due();
    for (let from = 0; from < due.length; from += idsPerLook) await this.#lookAt(due.slice(from, from + idsPerLook));
    this.#looking = false;
    if (this.#waited.size > 0) this.#schedule();
  }

  /** Those whose time has come, and those whose time comes soon: one statement is one statement. */
  #due(): readonly string[] {
    const now = performance.now();
    const due: string[] = [];
    for (const [id, { nextAt, pauseMs, waiters }] of this.#waited) {
      if (nextAt <= now + pauseMs / 2 || [...waiters].some(({ until }) => until <= now)) due.push(id);
    }
    return due;
  }

  async #lookAt(ids: readonly string[]): Promise<void> {
    const from = performance.now();
    try {
      this.#options.check();
      const found = await this.#options.look(ids);
      for (const id of ids) this.#tell(id, found.get(id) ?? null, from);
    } catch (error) {
      for (const id of ids) {
        for (const { reject } of this.#waited.get(id)?.waiters ?? []) reject(error);
        this.#waited.delete(id);
      }
    }
  }

  #tell(id: string, found: Found, from: number): void {
    const waited = this.#waited.get(id);
    if (waited === undefined) return;
    const receiver = found?.[0];
    const over = receiver === undefined || states[receiver.state].ended;
    const now = performance.now();
    for (const waiter of waited.waiters) {
      if (!over && waiter.until > now) continue;
      waited.waiters.delete(waiter);
      waiter.resolve(found);
    }
    if (waited.waiters.size === 0) {
      this.#waited.delete(id);
      return;
    }
    // Somebody came, or its run ended, while this look was under way: it may have missed that.
    if (waited.nextAt > from) return;
    waited.nextAt = now + waited.pauseMs;
    waited.pauseMs = Math.min(longestLookMs, waited.pauseMs * 2);
  }
}
