/**
 * What order per key adds to a reader: messages of a claim wait behind those of their key, the next of a key is made due when the first has
 * ended, and a slow claim lets its lane go on without what still runs.
 */
import type { Hold } from "../store/delivery.js";
import { type Delivery, type Next, type Part, promote, type Spill, spill } from "../store/work.js";
import { Keys } from "./keys.js";
import type { Flush, Ledger } from "./ledger.js";
import type { ReaderOptions } from "./reading.js";
import type { Ran, Run } from "./run.js";
import { lostIn } from "./settler.js";

/**
 * A claim that is open longer lets its lane go on without what still runs. Carried messages share the pace of the other side: while it is busy each of them
 * waits for all before it, and to move them costs more than to wait.
 */
const spillAfterMs = { alone: 200, carried: 1_000 } as const;
/** How long the keys of a claim have before the next claim is made beside it, or before one that was stopped by a key is tried again. */
export const claimAgainAfterMs = 10;

/** A message that runs, as far as its claim is concerned. */
export type Held = Pick<Run, "delivery" | "ending" | "moving">;

/** What it needs of its reader. */
export interface Ordering {
  readonly ledger: Ledger;
  readonly runs: Iterable<Held>;
  readonly write: (flush: Flush) => Promise<void>;
  /** It may run now. */
  readonly ready: (delivery: Delivery) => void;
  /** It is to wait in the database, behind one of its key. */
  readonly putAside: (delivery: Delivery) => void;
  /** Takes those of a claim that have no slot yet. */
  readonly unstarted: (claim: string) => readonly Delivery[];
  /** Something of `deferred` is due now. */
  readonly due: () => void;
}

export class Order {
  readonly #reader: Ordering & Pick<ReaderOptions, "policy" | "session" | "worker" | "ids">;
  /** Whether a slow claim can be spilled. A handler's transaction on the only connection would wait for the spill, which waits for its connection. */
  readonly #spills: boolean;
  readonly #spillAfterMs: number;
  readonly #keys = new Keys();
  /** Keys whose first message has ended, so that the next is to be made due. */
  readonly #ended = new Set<string>();
  #promoting = 0;
  /** The last claim was stopped by nothing, though others ran beside it: the next one need not wait for their keys either. */
  #flows = false;

  constructor({ policy, session, worker, ids, database, carrier }: ReaderOptions, reader: Ordering) {
    this.#spillAfterMs = carrier === undefined ? spillAfterMs.alone : spillAfterMs.carried;
    this.#reader = { ...reader, policy, session, worker, ids };
    // Nothing is lost: while such a handler runs nobody else can, so there is nobody to let go on.
    this.#spills = !(database.single && policy.idempotency === "transaction");
  }

  /** Nothing where no order is kept. */
  static of(options: ReaderOptions, reader: Ordering): Order | undefined {
    return options.policy.ordering === "none" ? undefined : new Order(options, reader);
  }

  /** No key waits for its next message to be made due. */
  get idle(): boolean {
    return this.#ended.size === 0 && this.#promoting === 0;
  }

  /** Messages that are held and wait behind others of their key. */
  get behind(): number {
    return this.#keys.waiting;
  }

  /** True when it may run now. */
  arrived(delivery: Delivery): boolean {
    return this.#keys.arrived(delivery);
  }

  /** A run has ended so. */
  ran(delivery: Delivery, ran: Ran): void {
    if (ran.kind === "committed") this.#endedFor(delivery);
    const on = ran.kind === "ended" ? this.#goesOn(ran.end.next) : ran.kind !== "lost";
    this.after(delivery, on);
  }

  /** The next of its key may run, or those behind it are put aside. */
  after(delivery: Delivery, on: boolean): void {
    const next = on ? this.#keys.next(delivery) : undefined;
    if (next !== undefined) this.#reader.ready(next);
    else for (const behind of this.#keys.takeBehind(delivery)) this.#reader.putAside(behind);
  }

  /** These ends are in the database. */
  wrote({ ends }: Flush): void {
    // Also of one that is to run again: if somebody has cancelled it, it has ended all the same.
    for (const { delivery } of ends) this.#endedFor(delivery);
  }

  /** Whether the next message of the key may run after such an end. */
  #goesOn(next: Next): boolean {
    const { ordering } = this.#reader.policy;
    if (next === null || "result" in next) return true;
    return !("defer" in next) && ordering !== "none" && ordering.whenDead === "skip";
  }

  /** Of a delivery that is not the log's: the database makes the next of its key due when it is told. */
  #endedFor({ key, hold }: Delivery): void {
    if (key !== null && hold.from === "deferred") this.#ended.add(key);
  }

  /** The next claim would stop at the first key that runs: it waits until little does, or the last one has had its time. */
  mustWait(room: number, atOnce: number): boolean {
    const { slowest } = this.#reader.ledger;
    return slowest !== undefined && (room < atOnce / 2 || (slowest.forMs < claimAgainAfterMs && !this.#flows));
  }

  /** A claim has brought so many of those that it could: fewer where a key that runs was in the way, or the log ended. `aside`: all that it took waits behind others of its keys. */
  claimed(count: number, limit: number, aside = false): void {
    this.#flows = count === limit;
    // While a circuit is tried a claim is of one message, and all that follows it may wait as well: what they wait behind may be due, and comes first.
    if (aside) this.#reader.due();
  }

  /** How long the reader may rest; undefined for as long as it likes. */
  restMs(hot: boolean): number | undefined {
    const { slowest } = this.#reader.ledger;
    if (slowest === undefined) return undefined;
    if (hot && slowest.forMs < claimAgainAfterMs) return claimAgainAfterMs - slowest.forMs;
    return slowest.forMs < this.#spillAfterMs ? this.#spillAfterMs - slowest.forMs : claimAgainAfterMs;
  }

  /** To be called between settlements: promotes, and spills a claim that has been open too long. */
  async keep(): Promise<void> {
    await this.promote();
    if (!this.#spills) return;
    const { ledger, write } = this.#reader;
    const { slowest } = ledger;
    if (slowest === undefined || slowest.forMs < this.#spillAfterMs) return;
    while (ledger.urgent) await write(ledger.drain());
    await this.#spill(slowest.claim);
  }

  /** Makes the next of ended keys due. Should the process die before, a sweep does. */
  async promote(): Promise<void> {
    if (this.#ended.size === 0) return;
    const ended = [...this.#ended];
    this.#ended.clear();
    const { session, ids, due } = this.#reader;
    this.#promoting += 1;
    try {
      if ((await promote(session, ids.subscription, ended)) > 0) due();
    } finally {
      this.#promoting -= 1;
    }
  }

  /**
   * Moves what is left out of a claim: each that runs becomes the first of its parked key under a hold of its own, the others are put aside, and the
   * claim closes. A run that ends meanwhile waits for its new hold.
   */
  async #spill(claim: string): Promise<void> {
    const { ledger, runs, worker, write, unstarted } = this.#reader;
    // From here to the statement nothing is awaited, so no run can end between.
    const { parts } = ledger.drain();
    const running = [...runs].filter((run) => !run.ending && isOf(run.delivery, claim));
    const first = unstarted(claim);
    const waiting = [...first, ...[...running.map(deliveryOf), ...first].flatMap((one) => this.#keys.takeBehind(one))];
    const head =
      running.length + waiting.length === 0 ? undefined : ledger.spilled(claim, running.length + waiting.length);
    if (head === undefined) return write({ parts, ends: [], says: [] });
    const what = {
      ...head,
      worker: worker.id,
      running: running.map(({ delivery }) => delivery.id),
      waiting: waiting.map(idOf),
    };
    const moved = this.#move(parts, what).then((holds) => {
      for (const { delivery } of running) delivery.hold = holds.get(delivery.id) ?? delivery.hold;
    });
    const settled = moved.catch(() => undefined);
    for (const run of running) run.moving = settled;
    await moved;
    for (const run of running) run.moving = undefined;
  }

  /** No holds when the claim was rescued: the ends of what runs of it will be refused. */
  async #move(parts: readonly Part[], what: Spill): Promise<ReadonlyMap<string, Hold>> {
    try {
      return await this.#spillOrSettle(parts, what);
    } catch (error) {
      if (lostIn(error) === null) throw error;
      this.#reader.ledger.lost([what.claim]);
      return new Map();
    }
  }

  /** Both in one transaction; where something of the parts is lost, they go alone first. */
  async #spillOrSettle(parts: readonly Part[], what: Spill): Promise<ReadonlyMap<string, Hold>> {
    const { session, write } = this.#reader;
    try {
      return await spill(session, parts, what);
    } catch (error) {
      if (lostIn(error) === null || parts.length === 0) throw error;
      await write({ parts, ends: [], says: [] });
      return spill(session, [], what);
    }
  }
}

export function isOf({ hold }: Delivery, claim: string): boolean {
  return hold.from === "log" && hold.claim === claim;
}

function deliveryOf({ delivery }: Held): Delivery {
  return delivery;
}

function idOf({ id }: Delivery): string {
  return id;
}
