/**
 * Works on one queue or subscription: claims into free slots, runs handlers, settles what ended.
 *
 * Never claims more than the free slots, so nothing that is claimed waits in memory. The next claim is on its way while the
 * messages of the last one run, and it carries the settlements so far: at full speed one statement does both. One settling
 * statement of a reader is under way at a time, so that the parts of a claim are written in order.
 */
import { StoppedError } from "../core/errors.js";
import { Loop } from "../core/loop.js";
import { publicId } from "../store/publish.js";
import { begin, type Delivery, promote, take, work } from "../store/work.js";
import { Batches } from "./batches.js";
import { Changes } from "./changes.js";
import { Keys } from "./keys.js";
import { type Flush, Ledger } from "./ledger.js";
import { claimAgainAfterMs, goesOn, nextAfter, spillAfterMs, spillFrom } from "./order.js";
import type { ReaderOptions } from "./reader-options.js";
import { putAside, type Ran, Run, released } from "./run.js";
import { lostIn, write } from "./settler.js";
import type { Slots } from "./slots.js";
import { tell } from "./tell.js";

/** How long a settlement waits for company while others run. */
const settleWithinMs = 20;
/** The longest rest of the loop; it is woken for everything that matters. */
const restMs = 60_000;
/** How long a few free slots wait for company. */
const lingerMs = 3;
/** With fewer slots than this, the time of a claim is mostly its round trip, and taking as many as possible pays. */
const manySlots = 100;
/** A lane that somebody else was claiming is tried again after a short, uneven pause. */
const missedMs = (): number => 1 + Math.random() * 4;

export class Reader {
  readonly options: ReaderOptions;
  readonly #ledger: Ledger;
  readonly #loop: Loop;
  readonly #runs = new Set<Run>();
  readonly #contracts: readonly number[];
  readonly #changes = new Changes();
  /** The claim that is under way, and the slots that are kept for it. */
  #claiming: Promise<readonly Delivery[]> | undefined;
  #reserved = 0;
  readonly #slots: Slots | undefined;
  readonly #unlisten: (() => void) | undefined;
  /** Where some handlers take many messages at once. */
  readonly #batches: Batches | undefined;
  /** Where order is kept per key. */
  readonly #keys: Keys | undefined;
  /** Keys whose first message has ended, so that the next is to be made due. */
  readonly #ended = new Set<string>();
  /** Messages without a handler that are being decided about. */
  #deciding = 0;
  /** There may be more in the log. */
  #hot = true;
  /** When waiting deliveries are due, on the clock of `performance.now`; undefined when none is known. */
  #dueAt: number | undefined = 0;
  /** When the first of the slots that are free now became so; undefined when nobody waits for more. */
  #freedAt: number | undefined;
  #stopping = false;
  #broken = false;

  constructor(options: ReaderOptions) {
    this.options = options;
    this.#ledger = new Ledger(options.policy.idempotency === "transaction");
    this.#keys = options.policy.ordering === "none" ? undefined : new Keys();
    this.#contracts = [...options.handlers.keys()];
    this.#loop = new Loop({ pass: () => this.#pass(), onError: (error) => this.#break(error) });
    this.#batches = this.#gather();
    this.#slots = this.#endsThemselves && this.#batches?.all !== true ? options.slots : undefined;
    this.#unlisten = this.#endsThemselves ? options.slots.onFreed(() => this.#loop.wake()) : undefined;
  }

  #gather(): Batches | undefined {
    const { handlers, logger, slots } = this.options;
    return Batches.of({
      running: this.options,
      handlers,
      logger,
      slots: this.#endsThemselves ? slots : undefined,
      onRan: (delivery, ran, quiet) => this.#broken || this.#ran(delivery, ran, quiet),
      onTogether: (deliveries, batch) => this.#broken || this.#ledger.succeededTogether(deliveries, batch),
      onBroken: (error) => this.#break(error),
      onEnded: () => {
        this.#changes.notify();
        this.#loop.wake();
      },
    });
  }

  get subscription(): number {
    return this.options.ids.subscription;
  }

  get claims(): { readonly firstOpen: bigint | undefined; readonly highest: bigint | undefined } {
    return this.#ledger;
  }

  /** Nothing runs, nothing is to be settled, and nothing was found at the last look. */
  get idle(): boolean {
    return !this.#busy && this.#ledger.idle && !this.#hot && !this.#isDue;
  }

  /** Whether it could take more and has seen nothing to take. */
  get hungry(): boolean {
    return !this.#hot && !this.#stopping && this.#free > 0;
  }

  start(): void {
    this.#loop.start();
  }

  /** There may be something in the log. */
  hint(): void {
    this.#hot = true;
    this.#loop.wake();
  }

  /** A waiting delivery is due in so many milliseconds. */
  due(inMs: number): void {
    const at = performance.now() + inMs;
    if (this.#dueAt !== undefined && this.#dueAt <= at) return;
    this.#dueAt = at;
    this.#loop.wake();
  }

  /** Lets runs finish for `graceMs`, then hands the rest back, settles everything and ends. */
  async stop(graceMs: number): Promise<void> {
    this.#stopping = true;
    this.#loop.wake();
    for (const delivery of this.#batches?.drain() ?? []) this.#handBack(delivery);
    const until = performance.now() + graceMs;
    while (this.#busy && !this.#broken && performance.now() < until)
      await this.#changes.next(until - performance.now());
    const reason = new StoppedError("PH_STOPPED", "The worker stops; this message is handed back.");
    for (const run of this.#runs) run.release(reason);
    this.#batches?.release(reason);
    while (this.#busy && !this.#broken) await this.#changes.next(1_000);
    await this.#end();
    if (!this.#broken) await this.#write(this.#ledger.drain());
    if (!this.#broken) await this.#promote();
  }

  /** Drops everything unsettled: the connection is gone, or others have rescued it. */
  async abandon(reason: Error): Promise<void> {
    this.#broken = true;
    for (const run of this.#runs) run.abort(reason);
    this.#batches?.abort(reason);
    this.#changes.notify();
    await this.#end();
  }

  async #end(): Promise<void> {
    await this.#loop.stop();
    // What a claim brings now is nobody's; its slots are given back.
    await this.#arrived().then(
      (late) => this.#slots?.give(late.length),
      () => undefined,
    );
    this.#unlisten?.();
  }

  get #busy(): boolean {
    const runs = this.#runs.size > 0 || this.#batches?.idle === false;
    return runs || this.#deciding > 0 || this.#claiming !== undefined;
  }

  /** Slots of this reader alone, but for batches that are due. */
  get #unused(): number {
    const waiting = (this.#keys?.waiting ?? 0) + (this.#batches?.running ?? 0);
    const reserved = this.#batches?.all ? 0 : this.#reserved;
    return this.options.policy.concurrency - this.#runs.size - this.#deciding - reserved - waiting;
  }

  get #own(): number {
    return this.#unused - (this.#batches?.due ?? 0);
  }

  get #free(): number {
    return this.#endsThemselves ? Math.min(this.#own, this.options.slots.free) : this.#own;
  }

  get #isDue(): boolean {
    return this.#dueAt !== undefined && this.#dueAt <= performance.now();
  }

  async #pass(): Promise<number> {
    if (this.#broken) return restMs;
    const arrived = await this.#arrived();
    const once = this.options.policy.idempotency === "at-most-once";
    if (once) await this.#begin(arrived.filter((delivery) => this.#batches?.takes(delivery) !== true));
    // The next claim goes out before these run, so that the server works while we do.
    else if (!this.#ledger.urgent && this.#keys === undefined) this.#claim(arrived.length);
    this.#start(arrived);
    if (this.#batches !== undefined) await this.#startBatches(this.#batches);
    if (this.#claiming !== undefined) return 0;
    if (this.#ledger.urgent) await this.#write(this.#ledger.drain());
    if (this.#keys !== undefined) await this.#keepOrder(this.#keys);
    if (this.#isDue && this.#free > 0 && !this.#stopping) {
      this.#start(await this.#take());
      if (this.#batches !== undefined) await this.#startBatches(this.#batches);
    }
    this.#claim(0);
    return this.#claiming === undefined ? this.#rest() : 0;
  }

  /** How long to wait for more slots: while others run, a claim for a few slots costs as much as one for many. */
  #lingerMs(free: number): number {
    if (this.#batches !== undefined && this.#batches.restMs > 0) return this.#batches.restMs;
    if (this.#runs.size === 0 || free >= this.options.policy.concurrency / 2) return 0;
    this.#freedAt ??= performance.now();
    return this.#freedAt + lingerMs - performance.now();
  }

  /** What the claim under way has brought. */
  async #arrived(): Promise<readonly Delivery[]> {
    let deliveries: readonly Delivery[] = [];
    try {
      deliveries = (await this.#claiming) ?? [];
      return deliveries;
    } finally {
      this.#slots?.give(this.#reserved - deliveries.length);
      this.#claiming = undefined;
      this.#reserved = 0;
      // Whoever waits for nothing to be under way.
      this.#changes.notify();
    }
  }

  /** Sends a claim. With many slots for at most half of them, so that some are left for the next one while its messages run. */
  #claim(starting: number): void {
    const { concurrency } = this.options.policy;
    const most = concurrency > manySlots && this.#keys === undefined ? Math.ceil(concurrency / 2) : concurrency;
    // Those that are starting have taken their shared slots already.
    const single = Math.min(this.#own - starting, this.#slots?.free ?? most, most);
    const limit = this.#batches?.limit(single, this.#free, starting) ?? single;
    if (!this.#hot || this.#stopping || limit <= 0 || this.#lingerMs(limit) > 0 || this.#mustWait(limit)) return;
    this.#hot = false;
    this.#freedAt = undefined;
    this.#reserved = limit;
    this.#slots?.take(limit);
    this.#claiming = this.#work(limit);
    // It is awaited in the next pass; until then a rejection must not count as unhandled.
    this.#claiming.catch(() => undefined);
  }

  /** Where order is kept, the next claim would stop at the first key that runs: it waits until little does, or the last one has had its time. */
  #mustWait(free: number): boolean {
    const slowest = this.#keys === undefined ? undefined : this.#ledger.slowest;
    if (slowest === undefined) return false;
    return free < this.options.policy.concurrency / 2 || slowest.forMs < claimAgainAfterMs;
  }

  async #work(limit: number): Promise<readonly Delivery[]> {
    const { session, worker } = this.options;
    const flush = this.#ledger.drain();
    // A claim carries parts only. Runs may have ended while the pass waited: their ends and what they said go first, with their parts.
    if (flush.ends.length > 0 || flush.says.length > 0) {
      await this.#write(flush);
      return this.#work(limit);
    }
    try {
      const { missed, blocked, again, parts, deliveries } = await work(
        session,
        this.subscription,
        worker.id,
        limit,
        flush.parts,
      );
      if (missed) setTimeout(() => this.hint(), missedMs()).unref();
      if (blocked) setTimeout(() => this.hint(), claimAgainAfterMs).unref();
      if (again) this.#hot = true;
      if (deliveries.length > 0 && deliveries.length < limit) this.options.onDry();
      if (deliveries.length === limit) this.#hot = true;
      this.#ledger.opened(deliveries, parts);
      this.#batches?.claimed(deliveries.length, limit);
      return deliveries;
    } catch (error) {
      if (lostIn(error) === null) throw error;
      // Nothing was settled and nothing claimed. The settlements go alone, without what is lost.
      await this.#write(flush);
      this.#hot = true;
      return [];
    }
  }

  /** Waiting deliveries get at most half the slots while the log has more, so that neither starves the other. */
  async #take(): Promise<readonly Delivery[]> {
    const { session, worker, policy } = this.options;
    const limit = this.#hot ? Math.min(this.#free, Math.ceil(policy.concurrency / 2)) : this.#free;
    this.#slots?.take(limit);
    let deliveries: readonly Delivery[] = [];
    try {
      deliveries = await take(session, this.subscription, worker.id, this.#contracts, limit);
    } finally {
      this.#slots?.give(limit - deliveries.length);
    }
    // A full answer may have left more; otherwise the next peek tells when there is something.
    if (deliveries.length < limit) this.#dueAt = undefined;
    return deliveries;
  }

  /** At most once: that runs may have begun is on disk before they do. Should that fail, none does. */
  async #begin(deliveries: readonly Delivery[]): Promise<void> {
    const parts = this.#stopping ? [] : this.#ledger.begunTogether(deliveries);
    if (parts.length > 0) await begin(this.options.session, parts);
  }

  /** Batches that are due go into the slots that they have taken, and those that are free beside them. */
  async #startBatches(batches: Batches): Promise<void> {
    if (this.#stopping || this.#broken) return;
    const due = batches.take(this.#unused);
    if (this.options.policy.idempotency === "at-most-once") await this.#begin(due.flatMap((one) => one.deliveries));
    for (const batch of due) {
      if (!this.#stopping && !this.#broken) batches.run(batch);
      else for (const delivery of batches.giveUp(batch)) this.#handBack(delivery);
    }
  }

  #start(deliveries: readonly Delivery[]): void {
    for (const delivery of deliveries) {
      if (this.#keys === undefined || this.#keys.arrived(delivery)) this.#startOne(delivery);
    }
  }

  #startOne(delivery: Delivery): void {
    const handled = this.options.handlers.get(delivery.contract);
    if (handled !== undefined && !this.#stopping && !this.#broken) {
      if (handled.many !== undefined) {
        this.#slots?.give(1);
        this.#batches?.add(delivery);
        return;
      }
      this.#run(new Run(this.options, handled, delivery));
      return;
    }
    this.#slots?.give(1);
    if (this.#broken) return;
    if (!this.#stopping) {
      void this.#decide(delivery);
      return;
    }
    this.#handBack(delivery);
  }

  #handBack(delivery: Delivery): void {
    if (this.#broken) return;
    this.#ledger.ended(released(delivery, this.#endsThemselves));
    this.#after(delivery, false);
  }

  /** The next of its key, or those behind it are put aside. */
  #after(delivery: Delivery, on: boolean): void {
    const next = on && !this.#stopping ? this.#keys?.next(delivery) : undefined;
    if (next !== undefined) {
      this.#startOne(next);
      return;
    }
    for (const behind of this.#keys?.takeBehind(delivery) ?? []) {
      this.#slots?.give(1);
      this.#ledger.ended(putAside(behind, this.#endsThemselves));
    }
  }

  /** Makes the next of ended keys due, and moves what runs for long out of its claim, so that the lane goes on. */
  async #keepOrder(keys: Keys): Promise<void> {
    await this.#promote();
    const slowest = this.#ledger.slowest;
    if (slowest === undefined || slowest.forMs < spillAfterMs) return;
    while (this.#ledger.urgent) await this.#write(this.#ledger.drain());
    const { session, worker } = this.options;
    const left = await spillFrom(
      { session, worker: worker.id, ledger: this.#ledger, keys, write: (flush) => this.#write(flush) },
      slowest.claim,
      this.#runs,
    );
    this.#slots?.give(left);
  }

  async #promote(): Promise<void> {
    if (this.#ended.size === 0) return;
    const ended = [...this.#ended];
    this.#ended.clear();
    if ((await promote(this.options.session, this.subscription, ended)) > 0) this.due(0);
  }

  get #endsThemselves(): boolean {
    return this.options.policy.idempotency === "transaction";
  }

  #run(run: Run): void {
    this.#runs.add(run);
    void run.execute().then((ran) => {
      if (run.moving === undefined) this.#finished(run, ran);
      else void run.moving.then(() => this.#finished(run, ran));
    });
  }

  #finished(run: Run, ran: Ran): void {
    this.#runs.delete(run);
    this.#slots?.give(1);
    if (!this.#broken) {
      this.#ran(run.delivery, ran);
      if (this.#keys !== undefined) this.#after(run.delivery, goesOn(ran, this.options.policy));
    }
    this.#changes.notify();
    this.#loop.wake();
  }

  #ran(delivery: Delivery, ran: Ran, quiet = false): void {
    switch (ran.kind) {
      case "succeeded":
        this.#ledger.succeeded(delivery, ran.batch);
        return;
      case "committed":
        this.#ledger.endedElsewhere(delivery);
        this.#endedFor(delivery);
        this.options.onSaid(ran.channels);
        return;
      case "lost":
        this.#ledger.endedElsewhere(delivery);
        return;
      case "ended":
        this.#ledger.ended(ran.end);
        tell(this.options, ran.end, ran.error, quiet);
    }
  }

  /** No handler here. A command is handed back for a worker that has one; an event that no live worker listens to is skipped. */
  async #decide(delivery: Delivery): Promise<void> {
    this.#deciding += 1;
    try {
      const skip = this.options.kind === "event" && !(await this.options.attended(delivery.contract));
      if (this.#broken) return;
      if (skip) {
        this.#ledger.skipped(delivery);
        this.#after(delivery, true);
      } else {
        const facts = { reader: this.options.name, message: publicId(delivery), contract: delivery.contract };
        this.options.logger.warn(
          `a message of "${this.options.name}" has no handler here; it waits for a worker that has one`,
          facts,
        );
        this.#handBack(delivery);
      }
    } catch (error) {
      this.#break(error);
    } finally {
      this.#deciding -= 1;
      this.#changes.notify();
      this.#loop.wake();
    }
  }

  /** Settles what has waited long enough, or has no company to wait for; else says how long to rest. */
  async #rest(): Promise<number> {
    const { waitingMs } = this.#ledger;
    if (waitingMs !== undefined) {
      const left = settleWithinMs - waitingMs;
      if (this.#runs.size > 0 && left > 0 && !this.#stopping) return left;
      await this.#write(this.#ledger.drain());
    }
    // One may have come due since this pass looked.
    if (!this.#stopping && this.#batches?.ready(this.#unused)) return 0;
    if (this.#free <= 0 || this.#stopping) return restMs;
    const linger = this.#hot ? this.#lingerMs(this.#free) : restMs;
    const due = this.#dueAt === undefined ? restMs : this.#dueAt - performance.now();
    return Math.max(0, Math.min(restMs, linger, due, this.#orderMs(), this.#batches?.dueInMs ?? restMs));
  }

  /** Where order is kept: until the slowest claim lets others go on. */
  #orderMs(): number {
    const slowest = this.#keys === undefined ? undefined : this.#ledger.slowest;
    if (slowest === undefined) return restMs;
    const { forMs } = slowest;
    if (this.#hot && forMs < claimAgainAfterMs) return claimAgainAfterMs - forMs;
    return forMs < spillAfterMs ? spillAfterMs - forMs : claimAgainAfterMs;
  }

  /** Of a delivery that is not the log's: the next of its key is to be made due. */
  #endedFor({ key, hold }: Delivery): void {
    if (this.#keys !== undefined && key !== null && hold.from === "deferred") this.#ended.add(key);
  }

  async #write(flush: Flush): Promise<void> {
    const { session, logger, onSaid } = this.options;
    const written = await write({ session, logger, onSaid, ledger: this.#ledger }, flush);
    for (const { delivery, next } of written.ends) {
      // Looked at when it is due, without waiting for a peek.
      if (next !== null && "defer" in next) this.due(next.defer.delayMs);
      else if (nextAfter(next, this.options.policy)) this.#endedFor(delivery);
    }
  }

  #break(error: unknown): void {
    if (this.#broken) return;
    this.#broken = true;
    this.options.onBroken(error);
  }
}
