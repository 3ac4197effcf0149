/**
 * Works on one queue or subscription: claims into free slots, runs handlers, settles what ended.
 *
 * Claims for the free slots; in transaction mode also a few messages ahead while runs are short. What still waits in memory after a moment is
 * handed back. The next claim is on its way while the messages of the last one run, and it carries the settlements so far: at full speed one
 * statement does both. One settling statement of a reader is under way at a time, so that the parts of a claim are written in order.
 */

import { Changes } from "../core/changes.js";
import { CancelledError, StoppedError } from "../core/errors.js";
import { Loop } from "../core/loop.js";
import { Roster } from "../core/roster.js";
import { publicId } from "../store/publish.js";
import { begin, type Delivery, takeDue, work } from "../store/work.js";
import { Circuit, eventOf } from "./circuit.js";
import { type Flush, Ledger } from "./ledger.js";
import { Line } from "./line.js";
import { claimAgainAfterMs, isOf, Order } from "./order.js";
import type { ReaderOptions } from "./reading.js";
import { putAside, type Ran, Run, released } from "./run.js";
import { lostIn, write } from "./settler.js";
import type { Slots } from "./slots.js";
import { tell } from "./tell.js";

/** How long a settlement waits for company while others run. */
const settleWithinMs = 20;
/** And when nothing runs: where messages come one by one, the next claim carries it. */
const settleAloneMs = 10;
/** The longest rest of the loop; it is woken for everything that matters. */
const restMs = 60_000;
/** How long a few free slots wait for company. */
const lingerMs = 3;
/** The longest that a message waits here for a slot; then whoever has one may take it. */
const patienceMs = 500;
/** With fewer slots than this, the time of a claim is mostly its round trip, and taking as many as possible pays. */
const manySlots = 100;
/** A lane that somebody else was claiming is tried again after a short, uneven pause. */
const missedMs = (): number => 1 + Math.random() * 4;

/** When to look again at what is due and held by somebody else, a producer for instance. */
const heldMs = 10;

export class Reader {
  readonly options: ReaderOptions;
  readonly #ledger: Ledger;
  readonly #loop: Loop;
  readonly #runs = new Roster<Run>();
  readonly #line = new Line();
  readonly #contracts: readonly number[];
  readonly #changes = new Changes();
  /** The claim that is under way, and the slots that are kept for it. */
  #claiming: Promise<readonly Delivery[]> | undefined;
  #reserved = 0;
  readonly #slots: Slots | undefined;
  readonly #unlisten: (() => void) | undefined;
  /** Where order is kept per key. */
  readonly #order: Order | undefined;
  readonly #circuit: Circuit;
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
    this.#order = options.policy.ordering === "none" ? undefined : this.#orderly();
    this.#contracts = [...options.handlers.keys()];
    this.#loop = new Loop({ pass: () => this.#pass(), onError: (error) => this.#break(error) });
    this.#slots = this.#endsThemselves ? options.slots : undefined;
    this.#unlisten = this.#slots?.onFreed(() => {
      this.#startWaiting();
      this.#loop.wake();
    });
    this.#circuit = this.#guard();
  }

  #guard(): Circuit {
    const { name, session, logger } = this.options;
    const onLook = (): void => {
      this.due(0);
      this.hint();
    };
    const onBroken = (error: unknown): void => this.#break(error);
    return new Circuit({ name, session, logger, subscription: this.subscription, onLook, onBroken });
  }

  get subscription(): number {
    return this.options.ids.subscription;
  }

  get claims(): { readonly firstOpen: bigint | undefined; readonly highest: bigint | undefined } {
    return this.#ledger;
  }

  /** Nothing runs, nothing is to be settled, and nothing was found at the last look. */
  get idle(): boolean {
    if (this.#busy || !this.#ledger.idle || !this.#circuit.idle) return false;
    return this.blocked || (!this.#hot && !this.#isDue);
  }

  /** Its circuit is open: it takes nothing, whatever there is. */
  get blocked(): boolean {
    return this.#circuit.blocked;
  }

  /** Whether it could take more and has seen nothing to take. */
  get hungry(): boolean {
    return !this.#hot && !this.#stopping && this.#free > 0 && !this.blocked;
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
    this.#handBack();
    this.#loop.wake();
    const until = performance.now() + graceMs;
    while (this.#busy && !this.#broken && performance.now() < until)
      await this.#changes.within(until - performance.now());
    const reason = new StoppedError("PH_STOPPED", "The worker stops; this message is handed back.");
    for (const run of this.#runs) run.release(reason);
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
    for (const run of this.#runs) run.abort(reason);
    void this.#circuit.stop();
    this.#changes.notify();
    await this.#end();
  }

  async #end(): Promise<void> {
    await this.#loop.stop();
    // What a claim brings now is nobody's; its slots are given back.
    await this.#arrived().then(
      ({ slots }) => this.#slots?.give(slots),
      () => undefined,
    );
    this.#unlisten?.();
  }

  get #busy(): boolean {
    return this.#runs.size > 0 || this.#line.length > 0 || this.#deciding > 0 || this.#claiming !== undefined;
  }

  /** Slots of this reader alone. */
  get #own(): number {
    const behind = this.#order?.behind ?? 0;
    return this.options.policy.concurrency - this.#runs.size - this.#deciding - this.#reserved - behind;
  }

  /** How many can run at once. */
  get #atOnce(): number {
    const { concurrency } = this.options.policy;
    return Math.min(concurrency, this.#slots?.size ?? concurrency);
  }

  get #free(): number {
    return Math.min(this.#own, this.#slots?.free ?? this.#own);
  }

  get #isDue(): boolean {
    return this.#dueAt !== undefined && this.#dueAt <= performance.now();
  }

  async #pass(): Promise<number> {
    if (this.#broken) return restMs;
    const { arrived, slots } = await this.#arrived();
    const once = this.options.policy.idempotency === "at-most-once";
    if (once) await this.#begin(arrived);
    // The next claim goes out before these run, so that the server works while we do.
    else if (!this.#ledger.urgent && this.#order === undefined) this.#claim(arrived.length, slots);
    this.#start(arrived, slots);
    if (this.#claiming !== undefined) return 0;
    if (this.#patienceMs <= 0) {
      this.#slots?.stalled();
      this.#handBack();
    }
    if (this.#ledger.urgent) await this.#write(this.#ledger.drain());
    await this.#order?.keep();
    if (this.#isDue && this.#free > 0 && !this.#stopping && !this.blocked) {
      const taken = await this.#take();
      this.#start(taken, taken.length);
    }
    this.#claim(0, 0);
    return this.#claiming === undefined ? this.#rest() : 0;
  }

  /** How many messages may wait for a slot here. Retries that are due get the next slots that become free. */
  get #ahead(): number {
    return this.#isDue ? 0 : (this.#slots?.ahead(this.#atOnce) ?? 0);
  }

  /** How long to wait for more room: while others run, a claim for a few messages costs as much as one for many. */
  #lingerMs(room: number): number {
    const plenty = Math.max(this.#atOnce, this.#ahead) / 2;
    if (this.#runs.size === 0 || room >= plenty) return 0;
    if (this.#line.length > 0) return restMs;
    this.#freedAt ??= performance.now();
    return this.#freedAt + lingerMs - performance.now();
  }

  /** What the claim under way has brought, and for how many of them shared slots are kept. */
  async #arrived(): Promise<{ readonly arrived: readonly Delivery[]; readonly slots: number }> {
    let arrived: readonly Delivery[] = [];
    let slots = 0;
    try {
      arrived = (await this.#claiming) ?? [];
      slots = Math.min(this.#reserved, arrived.length);
      return { arrived, slots };
    } finally {
      this.#slots?.give(this.#reserved - slots);
      this.#claiming = undefined;
      this.#reserved = 0;
      // Whoever waits for nothing to be under way.
      this.#changes.notify();
    }
  }

  /**
   * Sends a claim. With many slots for at most half of them, so that some are left for the next one while its messages run. `starting` have
   * come and are about to start, with so many `slots` kept for them.
   */
  #claim(starting: number, slots: number): void {
    const { concurrency } = this.options.policy;
    const most = concurrency > manySlots && this.#order === undefined ? Math.ceil(concurrency / 2) : concurrency;
    const own = this.#own;
    const free = Math.min(own, (this.#slots?.free ?? own) + slots) - starting - this.#line.length;
    const limit = Math.min(free, most) + this.#ahead;
    if (!this.#hot || this.#stopping || limit <= 0 || this.blocked || this.#lingerMs(limit) > 0) return;
    if (this.#order?.mustWait(limit, this.#atOnce)) return;
    this.#hot = false;
    this.#freedAt = undefined;
    this.#reserved = Math.min(limit, Math.max(0, free));
    this.#slots?.take(this.#reserved);
    this.#claiming = this.#work(limit);
    // It is awaited in the next pass; until then a rejection must not count as unhandled.
    this.#claiming.catch(() => undefined);
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
      const claimed = await work(session, this.subscription, worker.id, limit, flush.parts);
      const { deliveries, more } = claimed;
      if (claimed.missed) setTimeout(() => this.hint(), missedMs()).unref();
      if (claimed.blocked) setTimeout(() => this.hint(), claimAgainAfterMs).unref();
      if (claimed.again) this.#hot = true;
      if (claimed.openMs !== undefined) this.#circuit.block(claimed.openMs);
      if (deliveries.length > 0 && deliveries.length < limit && !more) this.options.onDry();
      if (deliveries.length === limit || more) this.#hot = true;
      this.#ledger.opened(deliveries, claimed.parts);
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
    let nextInMs: number | undefined;
    try {
      const taken = await takeDue(session, this.subscription, worker.id, this.#contracts, limit);
      ({ deliveries, nextInMs } = taken);
      if (taken.openMs !== undefined) this.#circuit.block(taken.openMs);
    } finally {
      this.#slots?.give(limit - deliveries.length);
    }
    // A full answer may have left more; otherwise it says when the next one is due.
    if (deliveries.length < limit) this.#dueAt = undefined;
    // Due already and not taken: somebody holds it just now.
    if (nextInMs !== undefined) this.due(nextInMs > 0 ? nextInMs : heldMs);
    return deliveries;
  }

  /** At most once: that runs may have begun is on disk before they do. Should that fail, none does. */
  async #begin(deliveries: readonly Delivery[]): Promise<void> {
    const part = this.#stopping ? undefined : this.#ledger.begun(deliveries);
    if (part !== undefined) await begin(this.options.session, part);
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
    else this.#line.add(handled, delivery);
  }

  /** Hands back what was not begun, and what waits behind it. */
  #release(delivery: Delivery): void {
    this.#circuit.ended(delivery);
    this.#ledger.ended(released(delivery, this.#endsThemselves));
    this.#order?.after(delivery, false);
  }

  #orderly(): Order {
    const { policy, session, worker } = this.options;
    return new Order({
      policy,
      session,
      worker: worker.id,
      subscription: this.subscription,
      ledger: this.#ledger,
      runs: this.#runs,
      write: (flush) => this.#write(flush),
      ready: (delivery) => this.#ready(delivery),
      putAside: (delivery) => this.#ledger.ended(putAside(delivery, this.#endsThemselves)),
      unstarted: (claim) => this.#line.takeThose((delivery) => isOf(delivery, claim)),
      due: () => this.due(0),
    });
  }

  #startWaiting(): void {
    if (this.#broken) return;
    const count = Math.max(0, Math.min(this.#line.length, this.#free));
    for (const { handled, delivery } of this.#line.take(count)) this.#run(new Run(this.options, handled, delivery));
  }

  /** How long the first that waits may still wait. */
  get #patienceMs(): number {
    const { forMs } = this.#line;
    return forMs === undefined ? restMs : patienceMs - forMs;
  }

  /** What waits here for a slot is for others. */
  #handBack(): void {
    for (const { delivery } of this.#line.take(this.#line.length)) this.#release(delivery);
  }

  get #endsThemselves(): boolean {
    return this.options.policy.idempotency === "transaction";
  }

  #run(run: Run): void {
    const at = this.#runs.add(run);
    this.#slots?.take(1);
    const begun = performance.now();
    void run.execute().then((ran) => {
      this.#slots?.took(performance.now() - begun);
      if (run.moving === undefined) this.#finished(at, run, ran);
      else void run.moving.then(() => this.#finished(at, run, ran));
    });
  }

  #finished(at: number, run: Run, ran: Ran): void {
    this.#runs.remove(at, run);
    if (run.told) this.options.progress.ended(run.delivery);
    if (!this.#broken) {
      this.#ran(run.delivery, ran);
      this.#order?.ran(run.delivery, ran);
    }
    this.options.asking.settlements.near(run.delivery, ran.kind === "committed");
    if (this.#slots === undefined) this.#startWaiting();
    else this.#slots.give(1);
    this.#changes.notify();
    this.#loop.wake();
  }

  #ran(delivery: Delivery, ran: Ran): void {
    if (this.options.policy.circuitBreaker !== undefined || delivery.probe !== undefined) {
      this.#circuit.ended(delivery, eventOf(ran));
    }
    switch (ran.kind) {
      case "succeeded":
        this.#ledger.succeeded(delivery, ran.batch, ran.result);
        return;
      case "committed":
        this.#ledger.endedElsewhere(delivery);
        this.options.onSaid(ran.channels);
        return;
      case "lost":
        this.#ledger.endedElsewhere(delivery);
        return;
      case "ended":
        this.#ledger.ended(ran.end);
        tell(this.options, ran);
    }
  }

  /** Somebody asked to cancel a message; its run may be here. */
  cancel(message: string): void {
    for (const run of this.#runs) {
      if (run.delivery.id !== message) continue;
      const id = publicId(run.delivery);
      run.cancel(new CancelledError("PH_CANCELLED", `Somebody asked to cancel the message ${id}.`, { id }));
    }
  }

  /** No handler here. A command is handed back for a worker that has one; an event that no live worker listens to is skipped. */
  async #decide(delivery: Delivery): Promise<void> {
    this.#deciding += 1;
    try {
      const skip = this.options.kind === "event" && !(await this.options.attended(delivery.contract));
      if (this.#broken) return;
      if (skip) {
        this.#circuit.ended(delivery);
        this.#ledger.skipped(delivery);
        this.#order?.after(delivery, true);
      } else {
        const facts = { reader: this.options.name, message: publicId(delivery), contract: delivery.contract };
        this.options.logger.warn(
          `a message of "${this.options.name}" has no handler here; it waits for a worker that has one`,
          facts,
        );
        this.#release(delivery);
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
      const left = (this.#runs.size > 0 ? settleWithinMs : settleAloneMs) - waitingMs;
      if (left > 0 && !this.#stopping) return left;
      await this.#write(this.#ledger.drain());
    }
    const order = this.#order?.restMs(this.#hot) ?? restMs;
    if (this.#free <= 0 || this.#stopping || this.blocked) return Math.max(0, Math.min(this.#patienceMs, order));
    const linger = this.#hot ? this.#lingerMs(this.#free) : restMs;
    const due = this.#dueAt === undefined ? restMs : this.#dueAt - performance.now();
    return Math.max(0, Math.min(restMs, linger, due, order));
  }

  async #write(flush: Flush): Promise<void> {
    const { session, logger, onSaid } = this.options;
    const written = await write({ session, logger, onSaid, ledger: this.#ledger }, flush);
    this.#order?.wrote(written);
    for (const { next } of written.ends) {
      // Looked at when it is due, without waiting for a peek.
      if (next !== null && "defer" in next) this.due(next.defer.delayMs);
    }
  }

  #break(error: unknown): void {
    if (this.#broken) return;
    this.#broken = true;
    this.options.onBroken(error);
  }
}
