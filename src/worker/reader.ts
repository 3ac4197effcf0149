/**
 * Works on one queue or subscription: claims into free slots, runs handlers, settles what ended.
 *
 * Never claims more than the free slots, so nothing that is claimed waits in memory. The next claim is on its way while the
 * messages of the last one run, and it carries the settlements so far: at full speed one statement does both. One settling
 * statement of a reader is under way at a time, so that the parts of a claim are written in order.
 */
import type { Executor } from "../core/database.js";
import { StoppedError } from "../core/errors.js";
import type { Logger } from "../core/logger.js";
import { Loop } from "../core/loop.js";
import { publicId } from "../store/publish.js";
import type { SubscriptionIds } from "../store/registry.js";
import { begin, type Delivery, type End, takeDue, work } from "../store/work.js";
import { failureOf } from "./failure.js";
import { type Flush, Ledger } from "./ledger.js";
import { type Handled, type Ran, Run, type Running, released } from "./run.js";
import { lostIn, write } from "./settler.js";
import type { Slots } from "./slots.js";

export interface ReaderOptions extends Running {
  readonly kind: "command" | "event";
  readonly ids: SubscriptionIds;
  /** Handlers by the id of their contract in the registry. */
  readonly handlers: ReadonlyMap<number, Handled>;
  readonly session: Executor;
  /** In transaction mode: the transactions that this process may hold open, shared with its other readers. */
  readonly slots: Slots;
  readonly logger: Logger;
  /** These channels got messages that handlers said. */
  readonly onSaid: (channels: ReadonlySet<number>) => void;
  /** Whether a live worker somewhere has a handler for this contract. */
  readonly attended: (contract: number) => Promise<boolean>;
  /** The log was emptied: more may come soon. */
  readonly onDry: () => void;
  /** The reader cannot go on: the connection is gone, or this worker counts as dead. */
  readonly onBroken: (error: unknown) => void;
}

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

/** When to look again at what is due and held by somebody else, a producer for instance. */
const heldMs = 10;

export class Reader {
  readonly options: ReaderOptions;
  readonly #ledger: Ledger;
  readonly #loop: Loop;
  readonly #runs = new Set<Run>();
  readonly #contracts: readonly number[];
  readonly #waiters = new Set<() => void>();
  /** The claim that is under way, and the slots that are kept for it. */
  #claiming: Promise<readonly Delivery[]> | undefined;
  #reserved = 0;
  readonly #slots: Slots | undefined;
  readonly #unlisten: (() => void) | undefined;
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
    this.#contracts = [...options.handlers.keys()];
    this.#loop = new Loop({ pass: () => this.#pass(), onError: (error) => this.#break(error) });
    this.#slots = this.#endsThemselves ? options.slots : undefined;
    this.#unlisten = this.#slots?.onFreed(() => this.#loop.wake());
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
    const until = performance.now() + graceMs;
    while (this.#busy && !this.#broken && performance.now() < until) await this.#changed(until - performance.now());
    const reason = new StoppedError("PH_STOPPED", "The worker stops; this message is handed back.");
    for (const run of this.#runs) run.release(reason);
    while (this.#busy && !this.#broken) await this.#changed(1_000);
    await this.#end();
    if (!this.#broken) await this.#write(this.#ledger.drain());
  }

  /** Drops everything unsettled: the connection is gone, or others have rescued it. */
  async abandon(reason: Error): Promise<void> {
    this.#broken = true;
    for (const run of this.#runs) run.abort(reason);
    this.#notify();
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
    return this.#runs.size > 0 || this.#deciding > 0 || this.#claiming !== undefined;
  }

  /** Slots of this reader alone. */
  get #own(): number {
    return this.options.policy.concurrency - this.#runs.size - this.#deciding - this.#reserved;
  }

  get #free(): number {
    return Math.min(this.#own, this.#slots?.free ?? this.#own);
  }

  get #isDue(): boolean {
    return this.#dueAt !== undefined && this.#dueAt <= performance.now();
  }

  async #pass(): Promise<number> {
    if (this.#broken) return restMs;
    const arrived = await this.#arrived();
    const once = this.options.policy.idempotency === "at-most-once";
    if (once) await this.#begin(arrived);
    // The next claim goes out before these run, so that the server works while we do.
    else if (!this.#ledger.urgent) this.#claim(arrived.length);
    this.#start(arrived);
    if (this.#claiming !== undefined) return 0;
    if (this.#ledger.urgent) await this.#write(this.#ledger.drain());
    if (this.#isDue && this.#free > 0 && !this.#stopping) this.#start(await this.#take());
    this.#claim(0);
    return this.#claiming === undefined ? this.#rest() : 0;
  }

  /** How long to wait for more slots: while others run, a claim for a few slots costs as much as one for many. */
  #lingerMs(free: number): number {
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
      this.#notify();
    }
  }

  /** Sends a claim. With many slots for at most half of them, so that some are left for the next one while its messages run. */
  #claim(starting: number): void {
    const { concurrency } = this.options.policy;
    const most = concurrency > manySlots ? Math.ceil(concurrency / 2) : concurrency;
    // Those that are starting have taken their shared slots already.
    const limit = Math.min(this.#own - starting, this.#slots?.free ?? most, most);
    if (!this.#hot || this.#stopping || limit <= 0 || this.#lingerMs(limit) > 0) return;
    this.#hot = false;
    this.#freedAt = undefined;
    this.#reserved = limit;
    this.#slots?.take(limit);
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
      const { missed, more, deliveries } = await work(session, this.subscription, worker.id, limit, flush.parts);
      if (missed) setTimeout(() => this.hint(), missedMs()).unref();
      if (deliveries.length > 0 && deliveries.length < limit && !more) this.options.onDry();
      if (deliveries.length === limit || more) this.#hot = true;
      this.#ledger.opened(deliveries);
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
      ({ deliveries, nextInMs } = await takeDue(session, this.subscription, worker.id, this.#contracts, limit));
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

  #start(deliveries: readonly Delivery[]): void {
    for (const delivery of deliveries) {
      const handled = this.options.handlers.get(delivery.contract);
      if (handled !== undefined && !this.#stopping && !this.#broken) {
        this.#run(new Run(this.options, handled, delivery));
        continue;
      }
      this.#slots?.give(1);
      if (this.#broken) continue;
      if (this.#stopping) this.#ledger.ended(released(delivery, this.#endsThemselves));
      else void this.#decide(delivery);
    }
  }

  get #endsThemselves(): boolean {
    return this.options.policy.idempotency === "transaction";
  }

  #run(run: Run): void {
    this.#runs.add(run);
    void run.execute().then((ran) => {
      this.#runs.delete(run);
      this.#slots?.give(1);
      if (!this.#broken) this.#ran(run.delivery, ran);
      this.#notify();
      this.#loop.wake();
    });
  }

  #ran(delivery: Delivery, ran: Ran): void {
    switch (ran.kind) {
      case "succeeded":
        this.#ledger.succeeded(delivery, ran.batch);
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
        this.#tell(ran.end, ran.error);
    }
  }

  /** An error is never only in the database: it is told when it happens, as it is kept in the history and without the payload. */
  #tell({ delivery, outcome, next }: End, thrown: unknown): void {
    const { name, logger, handlers } = this.options;
    const what = `${handlers.get(delivery.contract)?.contract.name ?? "a message"} in "${name}"`;
    const facts = { reader: name, message: publicId(delivery), attempt: delivery.attempts + 1 };
    if (outcome === "invalid") {
      logger.warn(`${what} does not fit its schema; it is in the invalid list`, { ...facts, ...next });
    }
    if (outcome === "expired") logger.info(`${what} expired before a run of it began`, facts);
    if (outcome !== "failed" || next === null) return;
    const error = failureOf(thrown);
    const why = error.message.slice(0, 200);
    if ("dead" in next)
      logger.error(`${what} ${next.dead.reason} and is a dead letter now: ${why}`, { ...facts, error });
    if ("defer" in next) {
      logger.warn(`${what} failed and is tried again in ${next.defer.delayMs} ms: ${why}`, { ...facts, error });
    }
  }

  /** No handler here. A command is handed back for a worker that has one; an event that no live worker listens to is skipped. */
  async #decide(delivery: Delivery): Promise<void> {
    this.#deciding += 1;
    try {
      const skip = this.options.kind === "event" && !(await this.options.attended(delivery.contract));
      if (this.#broken) return;
      if (skip) this.#ledger.skipped(delivery);
      else {
        const facts = { reader: this.options.name, message: publicId(delivery), contract: delivery.contract };
        this.options.logger.warn(
          `a message of "${this.options.name}" has no handler here; it waits for a worker that has one`,
          facts,
        );
        this.#ledger.ended(released(delivery, this.#endsThemselves));
      }
    } catch (error) {
      this.#break(error);
    } finally {
      this.#deciding -= 1;
      this.#notify();
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
    if (this.#free <= 0 || this.#stopping) return restMs;
    const linger = this.#hot ? this.#lingerMs(this.#free) : restMs;
    const due = this.#dueAt === undefined ? restMs : this.#dueAt - performance.now();
    return Math.max(0, Math.min(restMs, linger, due));
  }

  async #write(flush: Flush): Promise<void> {
    const { session, logger, onSaid } = this.options;
    const written = await write({ session, logger, onSaid, ledger: this.#ledger }, flush);
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

  #notify(): void {
    for (const waiter of this.#waiters) waiter();
  }

  /** Settles when a run has ended, at the latest after `ms`. */
  #changed(ms: number): Promise<void> {
    return new Promise((resolve) => {
      const done = (): void => {
        clearTimeout(timer);
        this.#waiters.delete(done);
        resolve();
      };
      const timer = setTimeout(done, Math.max(0, ms));
      this.#waiters.add(done);
    });
  }
}
