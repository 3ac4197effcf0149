/**
 * Works on one queue or subscription: claims into free slots, runs handlers, settles what ended.
 *
 * Claims for the free slots; in transaction mode also a few messages ahead while runs are short. What still waits in memory after a moment is
 * handed back; only messages for a handler of many wait longer, for company. The next claim is on its way while the messages of the last one
 * run, and it carries the settlements so far: at full speed one statement does both. One settling statement of a reader is under way at a time,
 * so that the parts of a claim are written in order.
 */
import { Changes } from "../core/changes.js";
import { composed } from "../core/composed.js";
import { StoppedError } from "../core/errors.js";
import { Loop } from "../core/loop.js";
import { askForWork, begin, type Claimed, type Delivery, type Taken, takeDue } from "../store/work.js";
import { type Answer, Asked } from "./asked.js";
import { Batches } from "./batches.js";
import { Circuit } from "./circuit.js";
import { Due } from "./due.js";
import { type Flush, Ledger } from "./ledger.js";
import { Line } from "./line.js";
import { isOf, Order } from "./order.js";
import { Outcomes } from "./outcomes.js";
import { againAfterMs, Permits } from "./permits.js";
import type { ReaderOptions } from "./reading.js";
import { Runs } from "./runs.js";
import { lostIn, write } from "./settler.js";
import type { Slots } from "./slots.js";
import { followMs, lingerMs, manySlots, restMs, settleAloneMs, settleWithinMs } from "./times.js";

export class Reader {
  readonly options: ReaderOptions;
  readonly #ledger: Ledger;
  readonly #permits: Permits;
  readonly #loop: Loop;
  readonly #runs: Runs;
  readonly #line = new Line();
  readonly #contracts: readonly number[];
  readonly #changes = new Changes();
  readonly #asked: Asked;
  readonly #slots: Slots | undefined;
  readonly #unlisten: (() => void) | undefined;
  /** Where order is kept per key. */
  readonly #order: Order | undefined;
  readonly #circuit: Circuit;
  readonly #outcomes: Outcomes;
  /** Where some handlers take many messages at once. */
  readonly #batches: Batches | undefined;
  /** Messages without a handler that are being decided about. */
  #deciding = 0;
  /** There may be more in the log. */
  #hot = true;
  /** The newest claim brought all that it asked for: most likely the next one does as well. */
  #full = false;
  readonly #due = new Due();
  /** When the first of the slots that are free now became so; undefined when nobody waits for more. */
  #freedAt: number | undefined;
  #stopping = false;
  /** Settlements on their way. What follows from one, the next of its key, is known when it is written. */
  #writing = 0;
  #broken = false;

  constructor(options: ReaderOptions) {
    this.options = options;
    this.#ledger = new Ledger(options.policy.idempotency === "transaction");
    this.#permits = new Permits(options.policy);
    const onLook = (): void => {
      this.due(0);
      this.hint();
    };
    this.#circuit = new Circuit({ ...options, subscription: this.subscription, onLook, onBroken: this.#onBroken });
    const told = { ledger: this.#ledger, circuit: this.#circuit, order: () => this.#order };
    this.#outcomes = new Outcomes(options, told);
    const slots = options.policy.idempotency === "transaction" ? options.slots : undefined;
    const broken = (): boolean => this.#broken;
    const onEnded = (ended: readonly Delivery[]): void => this.#ended(ended);
    this.#slots = slots;
    this.#asked = new Asked(slots, () => this.#changes.notify());
    this.#runs = new Runs({ reader: options, slots, outcomes: this.#outcomes, broken, onEnded });
    this.#order = Order.of(options, {
      ledger: this.#ledger,
      runs: this.#runs,
      write: (flush) => this.#write(flush),
      ready: (delivery) => this.#ready(delivery),
      putAside: (delivery) => this.#outcomes.putAside(delivery),
      unstarted: (claim) => this.#line.takeThose((delivery) => isOf(delivery, claim)),
      due: () => this.due(0),
    });
    this.#batches = Batches.of({
      running: options,
      handlers: options.handlers,
      logger: options.logger,
      slots,
      outcomes: this.#outcomes,
      broken,
      onBroken: this.#onBroken,
      onEnded: () => this.#next(),
    });
    this.#contracts = [...options.handlers.keys()];
    this.#loop = new Loop({ pass: () => this.#pass(), onError: this.#onBroken });
    this.#unlisten = this.#slots?.onFreed(() => {
      this.#startWaiting();
      this.#loop.wake();
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
    if (this.#busy || this.#writing > 0 || !this.#ledger.idle) return false;
    if (!this.#circuit.idle || this.#order?.idle === false) return false;
    return this.blocked || (!this.#hot && !this.#due.now);
  }

  /** Its circuit is open: it takes nothing, whatever there is. */
  get blocked(): boolean {
    return this.#circuit.blocked;
  }

  /** What is due is held by others, and looked at after pauses. */
  get held(): boolean {
    return this.#due.held;
  }

  /** Neither its circuit nor a limit of the fleet says to wait. */
  get #mayAsk(): boolean {
    return !this.blocked && this.#permits.waitMs === 0;
  }

  /** Whether it could take more and has seen nothing to take. */
  get hungry(): boolean {
    return !this.#hot && !this.#stopping && this.#free > 0 && this.#mayAsk;
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
    if (this.#due.in(inMs)) this.#loop.wake();
  }

  /** Lets runs finish for `graceMs`, then hands the rest back, settles everything and ends. */
  async stop(graceMs: number): Promise<void> {
    this.#stopping = true;
    this.#handBack();
    for (const delivery of this.#batches?.drain() ?? []) this.#release(delivery);
    this.#loop.wake();
    const until = performance.now() + graceMs;
    while (this.#busy && !this.#broken && performance.now() < until)
      await this.#changes.within(until - performance.now());
    const reason = composed(new StoppedError("PH_STOPPED", "The worker stops; this message is handed back."));
    this.#runs.release(reason);
    this.#batches?.release(reason);
    while (this.#busy && !this.#broken) await this.#changes.within(1_000);
    await this.#end();
    if (!this.#broken) await this.#write(this.#ledger.drain());
    if (!this.#broken) await this.#order?.promote();
    await this.#circuit.stop();
  }

  /** Drops everything unsettled: the connection is gone, or others have rescued it. */
  async abandon(reason: Error): Promise<void> {
    this.#broken = true;
    this.#line.take(this.#line.length);
    this.#runs.abort(reason);
    this.#batches?.abort(reason);
    void this.#circuit.stop();
    this.#changes.notify();
    await this.#end();
  }

  async #end(): Promise<void> {
    await this.#loop.stop();
    await this.#asked.drop();
    this.#unlisten?.();
  }

  get #busy(): boolean {
    const runs = this.#runs.size > 0 || this.#batches?.idle === false;
    return runs || this.#line.length > 0 || this.#deciding > 0 || this.#asked.pending;
  }

  /** Slots of this reader alone. */
  get #own(): number {
    const behind = (this.#order?.behind ?? 0) + (this.#batches?.running ?? 0);
    return this.options.policy.concurrency - this.#runs.size - this.#deciding - this.#asked.kept - behind;
  }

  /** How many can run at once. */
  get #atOnce(): number {
    const { concurrency } = this.options.policy;
    return Math.min(concurrency, this.#slots?.size ?? concurrency);
  }

  /** Without those that batches are about to take. */
  get #free(): number {
    return Math.min(this.#own, this.#slots?.free ?? this.#own) - (this.#batches?.due ?? 0);
  }

  async #pass(): Promise<number> {
    if (this.#broken) return restMs;
    const { answer, kept } = await this.#asked.answered();
    if (this.#foresees) {
      this.#hot = true;
      this.#claim(kept, 0);
    }
    const { arrived, slots } = this.#read(answer, kept);
    if (this.#once) await this.#begin(arrived.filter((delivery) => this.#batches?.takes(delivery) !== true));
    // The next claim goes out before these run, so that the server works while we do; what is due is asked for first.
    else if (!this.#asked.underWay && !this.#due.now && !this.#ledger.urgent && this.#order === undefined) {
      this.#claim(arrived.length, slots);
    }
    this.#start(arrived, slots);
    if (this.#once) await this.#beginBatches();
    if (this.#asked.underWay) return 0;
    if (this.#line.patienceMs <= 0) {
      this.#slots?.stalled();
      this.#handBack();
    }
    if (this.#ledger.urgent) await this.#write(this.#ledger.drain());
    await this.#order?.keep();
    if (this.#due.now && this.#free > 0 && !this.#stopping && this.#mayAsk) {
      const taken = await this.#take();
      this.#start(taken, taken.length);
      if (this.#once) await this.#beginBatches();
    }
    this.#claim(0, 0);
    return this.#asked.underWay ? 0 : this.#rest();
  }

  /** How many messages may wait for a slot here. Retries that are due get the next slots that become free; a permit is for one that begins. */
  get #ahead(): number {
    // What waits here would run although a circuit has opened.
    const none = this.#permits.limited || this.#batches?.all || this.options.policy.circuitBreaker !== undefined;
    return this.#due.now || none ? 0 : (this.#slots?.ahead(this.#atOnce) ?? 0);
  }

  /** How long to wait for more room: while others run, a claim for a few messages costs as much as one for many. */
  #lingerMs(room: number): number {
    if (this.#batches !== undefined && this.#batches.restMs > 0) return this.#batches.restMs;
    const plenty = Math.max(this.#atOnce, this.#ahead) / 2;
    if (this.#runs.size === 0 || room >= plenty) return 0;
    if (this.#line.length > 0) return restMs;
    this.#freedAt ??= performance.now();
    return this.#freedAt + lingerMs - performance.now();
  }

  /** Whether the next claim goes out before this one is read. Where it may depend on what was read, it waits. */
  get #foresees(): boolean {
    const { concurrency, circuitBreaker } = this.options.policy;
    if (!this.#full || this.#due.now || concurrency <= manySlots || circuitBreaker !== undefined || this.#once)
      return false;
    const single = this.#slots === undefined && this.#batches === undefined && this.#order === undefined;
    return single && !this.#permits.limited && !this.#ledger.urgent;
  }

  /**
   * Sends a claim. With many slots for at most half of them, so that some are left for the next one while its messages run. `starting` have
   * come and are about to start, with so many `slots` kept for them.
   */
  #claim(starting: number, slots: number): void {
    const { concurrency } = this.options.policy;
    const most = concurrency > manySlots && this.#order === undefined ? Math.ceil(concurrency / 2) : concurrency;
    const own = this.#own;
    const open = Math.min(own, (this.#slots?.free ?? own) + slots) - (this.#batches?.due ?? 0) - this.#line.length;
    const free = open - starting;
    const single = Math.min(free, most) + this.#ahead;
    const limit = this.#batches?.limit(single, open, starting) ?? single;
    if (!this.#hot || this.#stopping || this.#broken || limit <= 0 || !this.#mayAsk || this.#lingerMs(limit) > 0)
      return;
    if (this.#order?.mustWait(limit, this.#atOnce) || (this.#permits.yields && this.#due.now)) return;
    this.#hot = false;
    this.#freedAt = undefined;
    // Messages that are gathered have no slots of their own.
    this.#asked.send(this.#batches?.all ? 0 : Math.min(limit, Math.max(0, free)), () => this.#work(limit));
  }

  async #work(limit: number): Promise<Answer | undefined> {
    const { session, worker, carrier } = this.options;
    const flush = this.#ledger.drain();
    // A claim carries parts only. Runs may have ended while the pass waited: their ends and what they said go first, with their parts.
    if (flush.ends.length > 0 || flush.says.length > 0) {
      await this.#write(flush);
      return this.#work(limit);
    }
    try {
      const verbatim = carrier !== undefined;
      return { limit, read: await askForWork(session, this.subscription, worker.id, limit, flush.parts, verbatim) };
    } catch (error) {
      if (lostIn(error) === null) throw error;
      // Nothing was settled and nothing claimed. The settlements go alone, without what is lost.
      await this.#write(flush);
      this.#hot = true;
      return undefined;
    }
  }

  /** What an answer brings, and how many of the slots that are kept for it are used. */
  #read(answer: Answer | undefined, kept: number): { readonly arrived: readonly Delivery[]; readonly slots: number } {
    let arrived: readonly Delivery[] = [];
    try {
      if (answer !== undefined) arrived = this.#opened(answer.limit, answer.read());
      return { arrived, slots: Math.min(kept, arrived.length) };
    } finally {
      this.#slots?.give(Math.max(0, kept - arrived.length));
      this.#asked.wasRead();
    }
  }

  #opened(limit: number, claimed: Claimed): readonly Delivery[] {
    const { deliveries, again, more } = claimed;
    const limited = this.#told("log", claimed, deliveries.length);
    const againMs = againAfterMs(claimed) ?? (deliveries.length > 1 && !limited ? followMs : undefined);
    if (againMs !== undefined) setTimeout(() => this.hint(), againMs).unref();
    this.#full = deliveries.length === limit;
    if (again || more || this.#full) this.#hot = true;
    else if (deliveries.length > 0 && !limited) this.options.onDry();
    this.#ledger.opened(deliveries, claimed);
    this.#batches?.claimed(deliveries.length, limit);
    this.#order?.claimed(deliveries.length, limit, again);
    return deliveries;
  }

  /** Waiting deliveries get at most half the slots while the log has more, so that neither starves the other. */
  async #take(): Promise<readonly Delivery[]> {
    const { session, worker, policy, carrier } = this.options;
    const limit = this.#hot ? Math.min(this.#free, Math.ceil(policy.concurrency / 2)) : this.#free;
    this.#slots?.take(limit);
    let deliveries: readonly Delivery[] = [];
    let limited = false;
    let nextInMs: number | undefined;
    try {
      const taken = await takeDue(session, this.subscription, worker.id, this.#contracts, limit, carrier !== undefined);
      ({ deliveries, nextInMs } = taken);
      limited = this.#told("deferred", taken, deliveries.length);
    } finally {
      this.#slots?.give(limit - deliveries.length);
    }
    // A full answer may have left more, and so do limits; otherwise it, or the next peek, tells when there is something.
    if (deliveries.length < limit && !limited) this.#due.looked(nextInMs, deliveries.length);
    return deliveries;
  }

  /** When to ask again. Whether a limit of the fleet left messages for later: then there may be more. */
  #told(asked: "log" | "deferred", taken: Taken, came: number): boolean {
    if (taken.openMs !== undefined) this.#circuit.block(taken.openMs);
    if (!this.#permits.told(asked, taken, came)) return false;
    this.#hot = true;
    if (typeof taken.dueMs === "number") this.due(taken.dueMs);
    return true;
  }

  /** At most once: that runs may have begun is on disk before they do. Should that fail, none does. */
  async #begin(deliveries: readonly Delivery[]): Promise<void> {
    const parts = this.#stopping ? [] : this.#ledger.begunTogether(deliveries);
    if (parts.length > 0) await begin(this.options.session, parts);
  }

  /** The same for batches that are due. */
  async #beginBatches(): Promise<void> {
    const batches = this.#batches;
    if (batches === undefined || this.#stopping || this.#broken) return;
    const due = batches.take(this.#own);
    await this.#begin(due.flatMap(({ deliveries }) => deliveries));
    for (const batch of due) {
      if (!this.#stopping && !this.#broken) batches.run(batch);
      else for (const delivery of batches.giveUp(batch)) this.#release(delivery);
    }
  }

  /** Starts them as far as there are slots; `slots` are kept for them already. */
  #start(deliveries: readonly Delivery[], slots: number): void {
    for (const delivery of deliveries) if (this.#order?.arrived(delivery) ?? true) this.#ready(delivery);
    if (this.#slots === undefined) this.#startWaiting();
    else this.#slots.give(slots, () => this.#startWaiting());
  }

  /** It runs as soon as there is a slot. */
  #ready(delivery: Delivery): void {
    const handled = this.options.handlers.get(delivery.contract);
    if (this.#broken) return;
    if (this.#stopping) this.#release(delivery);
    else if (handled === undefined) void this.#decide(delivery);
    else if (handled.many !== undefined) this.#batches?.add(delivery);
    else this.#line.add(handled, delivery);
  }

  /** Hands back what was not begun, and what waits behind it. */
  #release(delivery: Delivery): void {
    if (!this.#broken) this.#outcomes.release(delivery);
  }

  #startWaiting(): void {
    if (this.#broken) return;
    if (!this.#once && !this.#stopping) this.#batches?.start(this.#own);
    if (this.#line.length === 0) return;
    const count = Math.max(0, Math.min(this.#line.length, this.#free));
    for (const { handled, delivery } of this.#line.take(count)) this.#runs.start(handled, delivery);
  }

  /** Until a batch may go; now where one has come due since the pass looked. */
  get #batchMs(): number {
    return this.#stopping ? restMs : (this.#batches?.goesInMs(this.#own) ?? restMs);
  }

  /** What waits here for a slot is for others. */
  #handBack(): void {
    for (const { delivery } of this.#line.take(this.#line.length)) this.#release(delivery);
  }

  get #once(): boolean {
    return this.options.policy.idempotency === "at-most-once";
  }

  #ended(deliveries: readonly Delivery[]): void {
    // A worker holds one suspect at a time: the next may be taken.
    if (deliveries.some(({ crashes }) => crashes > 0)) this.#due.release();
    if (this.options.policy.fleetConcurrency !== undefined) this.#permits.freed();
    this.#next();
  }

  /** A slot is free: for whoever waits. */
  #next(): void {
    if (this.#slots === undefined) this.#startWaiting();
    else this.#slots.give(1);
    this.#changes.notify();
    this.#loop.wake();
  }

  /** Somebody asked to cancel a message; its run may be here. */
  cancel(message: string): void {
    this.#runs.cancel(message);
    // Handed back with the request, it ends as cancelled.
    for (const delivery of this.#batches?.cancel(message) ?? []) this.#release(delivery);
    this.#loop.wake();
  }

  /** No handler here. */
  async #decide(delivery: Delivery): Promise<void> {
    this.#deciding += 1;
    try {
      if (await this.#outcomes.unhandled(delivery, () => this.#broken)) this.#ready(delivery);
    } catch (error) {
      this.#onBroken(error);
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
      const left = (this.#runs.size > 0 ? settleWithinMs : settleAloneMs) - waitingMs;
      if (left > 0 && !this.#stopping) return Math.min(left, this.#batchMs);
      await this.#write(this.#ledger.drain());
    }
    const order = Math.min(this.#order?.restMs(this.#hot) ?? restMs, this.#batchMs);
    if (this.#free <= 0 || this.#stopping || this.blocked) return Math.max(0, Math.min(this.#line.patienceMs, order));
    // Of a claim that must wait for others, `order` says when.
    const waits = this.#order?.mustWait(this.#free + this.#ahead, this.#atOnce) ?? false;
    const linger = this.#hot && !waits ? this.#lingerMs(this.#free) : restMs;
    return Math.max(0, Math.min(order, Math.max(this.#permits.waitMs, Math.min(linger, this.#due.inMs))));
  }

  async #write(flush: Flush): Promise<void> {
    this.#writing += 1;
    try {
      const written = await write({ ...this.options, ledger: this.#ledger }, flush);
      this.#order?.wrote(written);
      for (const { next } of written.ends) {
        // Looked at when it is due, without waiting for a peek.
        if (next !== null && "defer" in next) this.due(next.defer.delayMs);
      }
    } finally {
      this.#writing -= 1;
    }
  }

  readonly #onBroken = (error: unknown): void => {
    if (this.#broken) return;
    this.#broken = true;
    this.options.onBroken(error);
  };
}
