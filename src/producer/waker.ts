/**
 * Wake-ups after commits: tells this process's worker at once and the other processes by NOTIFY.
 *
 * Never in a caller's transaction: a notify there costs a third of all transactions, breaks two-phase commit, and is swallowed by a rollback. A
 * single message in a transaction of its own may take the notification with it (rides.ts); all others go out by the library's own connection.
 * They are coalesced: while one is under way, the next gathers channels. All of this is a hint; an error is reported and forgotten.
 */
import type { Executor } from "../core/database.js";
import { notify, transactionStatus } from "../store/wake.js";
import { Rides } from "./rides.js";

export interface WakerOptions {
  readonly side: Executor;
  /** Whether other processes may be listening. */
  readonly remote: boolean;
  readonly onError: (error: unknown) => void;
}

/** One message on its way into the log, and what is to be told with it. */
export interface Ride {
  /** What its transaction is to tell; undefined where it is to tell nothing. */
  readonly channels: ReadonlySet<number> | undefined;
  /** To be set when it was written: whether somebody listened. */
  heard?: boolean;
  /** To be called when it was written, or was not. */
  end(): void;
}

/** How long a caller's transaction is watched, and how often: soon at first. */
const watchMs = [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024] as const;
/** The shortest time between two notifications of one process: each costs as much as a small transaction. */
const gapMs = 4;
/** When no worker was there to hear it. One that begins looks for itself, and polls often while it is busy. */
const unheardMs = 250;

export class Waker {
  readonly #options: WakerOptions;
  readonly #rides = new Rides();
  #local: ((channels: Iterable<number>) => void) | undefined;
  #waiting = new Set<number>();
  #busy = false;
  #closed = false;

  constructor(options: WakerOptions) {
    this.#options = options;
  }

  /** Where this process's own worker is told; undefined when it has none. */
  listen(local: ((channels: Iterable<number>) => void) | undefined): void {
    this.#local = local;
  }

  /** Call after the commit. */
  wake(channels: ReadonlySet<number>): void {
    if (channels.size === 0 || this.#closed) return;
    this.#local?.(channels);
    if (!this.#options.remote) return;
    for (const channel of channels) this.#waiting.add(channel);
    if (!this.#busy) void this.#drain();
  }

  /** Call before one message is written in a transaction of its own, in place of `wake`. */
  ride(channel: number): Ride {
    const own = new Set([channel]);
    const began = performance.now();
    if (this.#closed || !this.#options.remote || this.#busy || !this.#rides.next()) {
      return {
        channels: undefined,
        end: () => {
          this.#rides.took(performance.now() - began, false);
          this.wake(own);
        },
      };
    }
    this.#busy = true;
    const channels = new Set([...this.#waiting, channel]);
    this.#waiting = new Set();
    const ride: Ride = {
      channels,
      end: () => {
        this.#local?.(own);
        // It was not written, perhaps; who else waited to be told of is told by the next. How long that took says nothing of riding.
        if (ride.heard === undefined) for (const other of channels) this.#waiting.add(other);
        else this.#rides.took(performance.now() - began, true);
        void this.#rest(ride.heard !== false).then(() => {
          if (this.#waiting.size > 0 && !this.#busy) void this.#drain();
        });
      },
    };
    return ride;
  }

  /** For a transaction whose commit we cannot see: looks at it for a moment, then wakes. */
  async watch(xid: string | null, channels: ReadonlySet<number>): Promise<void> {
    if (!this.#options.remote || xid === null) {
      // One connection: what we would ask has to wait for the transaction anyway; polling finds the message.
      this.#local?.(channels);
      return;
    }
    try {
      for (const ms of watchMs) {
        await pause(ms);
        if (this.#closed) return;
        const status = await transactionStatus(this.#options.side, xid);
        if (status === "in progress") continue;
        if (status === "committed") this.wake(channels);
        return;
      }
    } catch (error) {
      this.#report(error);
    }
  }

  async #drain(): Promise<void> {
    this.#busy = true;
    try {
      while (this.#waiting.size > 0 && !this.#closed) {
        const channels = this.#waiting;
        this.#waiting = new Set();
        const heard = await notify(this.#options.side, channels);
        if (heard && this.#waiting.size === 0) continue;
        await pause(heard ? gapMs : unheardMs);
      }
    } catch (error) {
      this.#report(error);
    } finally {
      this.#busy = false;
    }
  }

  /** After a notification, until the next may go out. */
  async #rest(heard: boolean): Promise<void> {
    if (!heard || this.#waiting.size > 0) await pause(heard ? gapMs : unheardMs);
    this.#busy = false;
  }

  #report(error: unknown): void {
    if (!this.#closed) this.#options.onError(error);
  }

  close(): void {
    this.#closed = true;
    this.#local = undefined;
  }
}

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms).unref());
}
