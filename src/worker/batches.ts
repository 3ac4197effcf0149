/**
 * The batches of one reader: gathers messages for handlers of many, and lets a batch go when it is full or its oldest message has waited long
 * enough, and a slot is free. A batch that runs takes one slot of the policy's concurrency, and in transaction mode one connection.
 *
 * What waits here is claimed: the database is asked for messages, not for how many there are. It is bounded by `limit`, and handed back at a stop.
 */
import type { Logger } from "../core/logger.js";
import { Roster } from "../core/roster.js";
import type { Batch } from "../producer/buffer.js";
import type { Delivery } from "../store/work.js";
import { BatchRun, type BatchRunOptions } from "./batch-run.js";
import { Gathering } from "./gathering.js";
import type { Outcomes } from "./outcomes.js";
import type { Handled, Ran, Running } from "./run.js";
import type { Slots } from "./slots.js";

export interface BatchesOptions {
  readonly running: Running;
  readonly handlers: ReadonlyMap<number, Handled>;
  readonly logger: Logger;
  /** In transaction mode: the transactions that this process may hold open. */
  readonly slots: Slots | undefined;
  readonly outcomes: Outcomes;
  /** Nothing is to be written any more. */
  readonly broken: () => boolean;
  /** A batch has ended. Its slot is not given back yet. */
  readonly onEnded: () => void;
  /** Outcomes could not be taken. */
  readonly onBroken: (error: unknown) => void;
  /** The clock. */
  readonly now?: () => number;
}

type Handler = Pick<BatchRunOptions, "handled" | "many">;

/** A batch that has its slot. */
export interface Taken {
  readonly deliveries: readonly Delivery[];
  readonly handler: Handler;
}

/** After a claim that found all there was, the next one waits a part of the time that messages wait here anyway. */
const pauseOf = { maxWait: 1 / 4, longestMs: 20 } as const;
/** Messages of one claim at most, where batches are smaller: taking as many as possible pays. */
const claimedAtOnce = 100;

export class Batches {
  readonly #options: BatchesOptions;
  readonly #gatherings = new Map<number, Gathering>();
  readonly #handlers = new Map<number, Handler>();
  readonly #largest: number;
  readonly #now: () => number;
  readonly #pauseMs: number;
  #claimsAt = 0;
  /** What has failed or was under a crash: none of them may trouble others. */
  #lonely: Delivery[] = [];
  readonly #runs = new Roster<BatchRun>();
  /** Batches that were taken and do not run yet. */
  #going = 0;
  /** All handlers of the reader take many at once. */
  readonly all: boolean;

  static of(options: BatchesOptions): Batches | undefined {
    const some = [...options.handlers.values()].some(({ many }) => many !== undefined);
    return some ? new Batches(options) : undefined;
  }

  constructor(options: BatchesOptions) {
    this.#options = options;
    const { handlers, now = () => performance.now() } = options;
    for (const [contract, handled] of handlers) {
      const { many } = handled;
      if (many === undefined) continue;
      this.#gatherings.set(contract, new Gathering(many, now));
      this.#handlers.set(contract, { handled, many });
    }
    this.#now = now;
    const waits = [...this.#handlers.values()].map(({ many }) => many.maxWaitMs);
    this.#pauseMs = Math.min(pauseOf.longestMs, ...waits.map((ms) => ms * pauseOf.maxWait));
    this.#largest = Math.max(...[...this.#gatherings.values()].map(({ size }) => size));
    this.all = this.#gatherings.size === handlers.size;
  }

  /** Nothing waits and nothing runs. */
  get idle(): boolean {
    return this.#waiting === 0 && this.#going === 0 && this.#runs.size === 0;
  }

  get #waiting(): number {
    let count = this.#lonely.length;
    for (const gathering of this.#gatherings.values()) count += gathering.count;
    return count;
  }

  get running(): number {
    return this.#runs.size + this.#going;
  }

  /** Batches that may go as soon as a slot is free. They come before what is claimed. */
  get due(): number {
    let count = this.#lonely.length;
    for (const gathering of this.#gatherings.values()) count += gathering.due;
    return count;
  }

  /** In so many milliseconds a batch may go, with so many slots that are free. */
  goesInMs(free: number): number {
    if (this.#ready(free)) return 0;
    let inMs = Number.POSITIVE_INFINITY;
    for (const gathering of this.#gatherings.values()) inMs = Math.min(inMs, gathering.dueInMs ?? inMs);
    return inMs;
  }

  /** How many messages may be claimed. What is gathered takes no slot of its own until it runs, and is bounded by itself. */
  limit(single: number, free: number, starting: number): number {
    const room = free <= 0 ? 0 : this.#room(free) - starting;
    return this.all ? room : Math.min(single, room);
  }

  /** What fills the free slots: for the next of them at least one message that each gathering lacks. */
  #room(free: number): number {
    let room = (free - 1) * this.#largest - this.#waiting;
    for (const { size } of this.#gatherings.values()) room += size;
    return Math.min(room, Math.max(this.#largest, claimedAtOnce));
  }

  /** How long the next claim waits, so that messages that come one by one are not claimed one by one. */
  get restMs(): number {
    return this.all ? this.#claimsAt - this.#now() : 0;
  }

  /** A claim has brought so many of those that it could. */
  claimed(count: number, limit: number): void {
    if (count > 0 && count < limit) this.#claimsAt = this.#now() + this.#pauseMs;
  }

  takes({ contract }: Delivery): boolean {
    return this.#gatherings.has(contract);
  }

  add(delivery: Delivery): void {
    if (runsAlone(delivery, this.#once)) this.#lonely.push(delivery);
    else this.#gatherings.get(delivery.contract)?.add(delivery);
  }

  get #once(): boolean {
    return this.#options.running.policy.idempotency === "at-most-once";
  }

  /** Whether one is due and has a slot. */
  #ready(free: number): boolean {
    return this.due > 0 && free > 0 && (this.#options.slots?.free ?? free) > 0;
  }

  /** Takes batches that are due into free slots. Each must be run or given up. */
  take(free: number): readonly Taken[] {
    const taken: Taken[] = [];
    const { slots } = this.#options;
    const most = Math.min(free, slots?.free ?? free);
    for (const [contract, handler] of this.#handlers) {
      while (taken.length < most) {
        const deliveries = this.#next(contract);
        if (deliveries === undefined) break;
        taken.push({ deliveries, handler });
      }
    }
    this.#going += taken.length;
    slots?.take(taken.length);
    return taken;
  }

  run({ deliveries, handler }: Taken): void {
    const { running, logger } = this.#options;
    const onRan: BatchRunOptions["onRan"] = (...ran) => this.#ran(...ran);
    const onTogether: BatchRunOptions["onTogether"] = (...succeeded) => this.#together(...succeeded);
    const run = new BatchRun({ ...handler, running, logger, onRan, onTogether }, deliveries);
    this.#going -= 1;
    const at = this.#runs.add(run);
    void run.execute().then(() => {
      this.#runs.remove(at, run);
      this.#options.onEnded();
    });
  }

  #ran(delivery: Delivery, ran: Ran, quiet: boolean): void {
    const { broken, outcomes } = this.#options;
    if (!broken()) outcomes.ran(delivery, ran, quiet);
    outcomes.near(delivery, ran.kind);
  }

  #together(deliveries: readonly Delivery[], batch: Batch): void {
    const { broken, outcomes, onBroken } = this.#options;
    try {
      if (!broken()) outcomes.together(deliveries, batch);
    } catch (error) {
      onBroken(error);
    }
    for (const delivery of deliveries) outcomes.near(delivery, "succeeded");
  }

  #next(contract: number): readonly Delivery[] | undefined {
    const i = this.#lonely.findIndex((delivery) => delivery.contract === contract);
    if (i >= 0) return this.#lonely.splice(i, 1);
    const gathering = this.#gatherings.get(contract);
    return gathering !== undefined && gathering.due > 0 ? gathering.take() : undefined;
  }

  /** A batch that was taken does not run: its messages. */
  giveUp({ deliveries }: Taken): readonly Delivery[] {
    this.#going -= 1;
    this.#options.slots?.give(1);
    return deliveries;
  }

  /** Starts what is due and has a slot. */
  start(free: number): void {
    if (this.due > 0) for (const taken of this.take(free)) this.run(taken);
  }

  /** Somebody asked to cancel a message. Returns it where it only waits here, and waits no more. */
  cancel(message: string): readonly Delivery[] {
    for (const run of this.#runs) run.cancel(message);
    const is = ({ id }: Delivery): boolean => id === message;
    const waiting = this.#lonely.filter(is);
    this.#lonely = this.#lonely.filter((delivery) => !is(delivery));
    for (const gathering of this.#gatherings.values()) waiting.push(...gathering.takeThose(is));
    return waiting;
  }

  /** Everything that waits, for nobody is to wait any more. */
  drain(): readonly Delivery[] {
    const all = [...this.#lonely, ...[...this.#gatherings.values()].flatMap((gathering) => gathering.drain())];
    this.#lonely = [];
    return all;
  }

  release(reason: Error): void {
    for (const run of this.#runs) run.release(reason);
  }

  abort(reason: Error): void {
    this.drain();
    for (const run of this.#runs) run.abort(reason);
  }
}

/**
 * At most once, what comes back is of unknown outcome from the moment it is taken: it does not wait. Nor does the one message that is tried while
 * a circuit is half open: everybody waits for what becomes of it.
 */
function runsAlone({ attempts, crashes, hold, probe }: Delivery, once: boolean): boolean {
  return attempts > 0 || crashes > 0 || probe !== undefined || (once && hold.from === "deferred");
}
