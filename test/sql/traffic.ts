/**
 * Hostile producers and greedy claimers for the test of windows.
 *
 * Producers know the fate of every message: committed, rolled back, or unknown when the server was killed during COMMIT.
 * Claimers note every message that they were handed. Nobody sleeps: who holds a transaction open waits for a number of claims.
 */
import { writeMessages } from "../../src/store/publish.js";
import { type Delivery, work } from "../../src/store/work.js";
import { numberOf, outgoing, part, type Reader, type Session } from "./engine.js";
import type { Random } from "./random.js";

export class Ledger {
  readonly committed = new Set<number>();
  readonly rolledBack = new Set<number>();
  /** COMMIT was sent and never answered. */
  readonly unknown = new Set<number>();
  /** Prepared transactions that nobody has ended yet, with their messages. */
  readonly prepared = new Map<string, readonly number[]>();
  #last = 0;

  numbers(count: number): readonly number[] {
    this.#last += count;
    return Array.from({ length: count }, (_, i) => this.#last - i);
  }

  /** Unique over all producers, also those of other test files: the server has one list of these names. */
  name(): string {
    this.#last += 1;
    return `prepared-${process.pid}-${this.#last}`;
  }

  note(numbers: Iterable<number>, fate: "committed" | "rolledBack" | "unknown"): void {
    for (const number of numbers) this[fate].add(number);
  }
}

/** Counts claims, so that a producer can wait until some have gone by. */
export class Pace {
  #count = 0;
  #ended = false;
  readonly #waiting = new Set<{ readonly until: number; readonly resolve: () => void }>();

  step(): void {
    this.#count += 1;
    this.#wake();
  }

  /** Nobody waits from here on: the server is gone. */
  end(): void {
    this.#ended = true;
    this.#wake();
  }

  after(claims: number): Promise<void> {
    if (this.#ended) return Promise.resolve();
    return new Promise((resolve) => this.#waiting.add({ until: this.#count + claims, resolve }));
  }

  #wake(): void {
    for (const one of this.#waiting) {
      if (!this.#ended && one.until > this.#count) continue;
      this.#waiting.delete(one);
      one.resolve();
    }
  }
}

export interface ProducerOptions {
  readonly session: Session;
  readonly reader: Reader;
  readonly event: string;
  readonly random: Random;
  readonly ledger: Ledger;
  readonly pace: Pace;
  /** The plain insert into the log with ids that were drawn before: channel, contract, ids, numbers. Default: into the first slot. */
  readonly insert?: string;
}

const levels = ["read committed", "read committed", "repeatable read", "serializable"] as const;

export class Producer {
  readonly #options: ProducerOptions;
  /** Messages of the running transaction that will be seen if it commits, and those that a savepoint has taken back. */
  #kept: number[] = [];
  #dropped: number[] = [];
  #earlyIds: string[] = [];
  #prepared: string[] = [];

  constructor(options: ProducerOptions) {
    this.#options = options;
  }

  async run(transactions: number): Promise<void> {
    for (let i = 0; i < transactions; i += 1) {
      await this.#transaction();
      if (this.#prepared.length > 2 || this.#options.random.oneIn(8)) await this.#endPrepared();
    }
    while (this.#prepared.length > 0) await this.#endPrepared();
  }

  async #transaction(): Promise<void> {
    const { session, random, ledger } = this.#options;
    this.#kept = [];
    this.#dropped = [];
    if (random.oneIn(4)) await this.#drawIds(random.int(1, 5));
    let inDoubt = false;
    try {
      await session.rows(`begin isolation level ${random.pick(levels)}`);
      await this.#write();
      const name = ledger.name();
      const how = random.int(1, 10);
      if (how <= 2) {
        await session.rows("rollback");
        ledger.note(this.#kept, "rolledBack");
      } else if (how <= 4) {
        ledger.prepared.set(name, this.#kept);
        inDoubt = true;
        await session.rows(`prepare transaction '${name}'`);
        this.#prepared.push(name);
      } else {
        inDoubt = true;
        await session.rows("commit");
        ledger.note(this.#kept, "committed");
      }
    } catch (error) {
      const serialization = isCode(error, "40");
      ledger.note(this.#kept, inDoubt && !serialization ? "unknown" : "rolledBack");
      if (!serialization) throw error;
      await session.rows("rollback");
    } finally {
      ledger.note(this.#dropped, "rolledBack");
    }
  }

  async #drawIds(count: number): Promise<void> {
    const sql = "select nextval('posthorn.message_id')::text as id from generate_series(1, $1::int)";
    const rows = await this.#options.session.rows(sql, [count]);
    this.#earlyIds.push(...rows.map(({ id }) => String(id)));
    await this.#hold();
  }

  /** Now and then long enough for many windows to open and close meanwhile. */
  async #hold(): Promise<void> {
    const { random, pace } = this.#options;
    if (random.oneIn(3)) await pace.after(random.oneIn(5) ? random.int(50, 200) : random.int(1, 20));
  }

  async #write(): Promise<void> {
    const { session, random } = this.#options;
    if (random.oneIn(3)) {
      await session.rows("select pg_current_xact_id()");
      await this.#hold();
    }
    if (random.oneIn(5)) await this.#drawIds(2);
    for (let step = random.int(1, 3); step > 0; step -= 1) {
      if (random.oneIn(4)) await this.#savepoint();
      else this.#kept.push(...(await this.#say()));
      await this.#hold();
    }
  }

  async #savepoint(): Promise<void> {
    const { session, random } = this.#options;
    await session.rows("savepoint inner_part");
    const said = await this.#say();
    await this.#hold();
    if (random.oneIn(2)) {
      await session.rows("rollback to savepoint inner_part");
      this.#dropped.push(...said);
    } else {
      await session.rows("release savepoint inner_part");
      this.#kept.push(...said);
    }
  }

  async #say(): Promise<readonly number[]> {
    const { session, reader, event, random, ledger } = this.#options;
    if (this.#earlyIds.length > 0 && random.oneIn(2)) return this.#insertEarly();
    if (random.oneIn(3)) {
      const [number] = ledger.numbers(1);
      await session.rows("select posthorn.publish($1::text, json_build_object('m', $2::int))", [event, number]);
      return number === undefined ? [] : [number];
    }
    const numbers = ledger.numbers(random.oneIn(6) ? random.int(20, 80) : random.int(1, 6));
    await writeMessages(
      session,
      numbers.map((m) => ({ ...outgoing(reader), json: JSON.stringify({ m }) })),
    );
    return numbers;
  }

  /** A plain insert with an id that was drawn long ago, perhaps by another transaction. */
  async #insertEarly(): Promise<readonly number[]> {
    const { session, reader, ledger } = this.#options;
    const ids = this.#earlyIds.splice(0);
    const numbers = ledger.numbers(ids.length);
    await session.rows(
      this.#options.insert ??
        `insert into posthorn.message_1 (id, nonce, xid, published_at, channel, lane, contract, payload)
       select e.id, 7, pg_current_xact_id(), clock_timestamp(), $1::int, 0, $2::int, json_build_object('m', e.m)
       from unnest($3::bigint[], $4::int[]) e(id, m)`,
      [reader.channel, reader.contract, ids, numbers],
    );
    return numbers;
  }

  async #endPrepared(): Promise<void> {
    const { session, random, ledger } = this.#options;
    const [name] = this.#prepared.splice(random.int(0, this.#prepared.length - 1), 1);
    if (name !== undefined) await endPrepared(session, name, ledger, !random.oneIn(3));
  }
}

export async function endPrepared(session: Session, name: string, ledger: Ledger, commit: boolean): Promise<void> {
  const numbers = ledger.prepared.get(name) ?? [];
  ledger.prepared.delete(name);
  try {
    await session.rows(`${commit ? "commit" : "rollback"} prepared '${name}'`);
    ledger.note(numbers, commit ? "committed" : "rolledBack");
  } catch (error) {
    ledger.note(numbers, "unknown");
    throw error;
  }
}

export interface ClaimerOptions {
  readonly session: Session;
  readonly reader: Reader;
  readonly worker: string;
  readonly random: Random;
  readonly pace: Pace;
  readonly seen: Delivery[];
  /** Once true, the first empty claim ends the claimer. */
  readonly finished: () => boolean;
}

/** Claims until there is nothing more; settles each batch with the next claim. */
export async function claimAll(options: ClaimerOptions): Promise<void> {
  const { session, reader, worker, random, pace, seen, finished } = options;
  let held: readonly Delivery[] = [];
  for (;;) {
    const last = finished();
    const parts = held.length === 0 ? [] : [part(held, 1, "succeeded", true)];
    const { missed, deliveries } = await work(session, reader.subscription, worker, random.int(1, 50), parts);
    held = deliveries;
    seen.push(...deliveries);
    pace.step();
    if (last && !missed && deliveries.length === 0) return;
  }
}

/** How often each message was handed out. */
export function countByNumber(deliveries: Iterable<Pick<Delivery, "payload">>): ReadonlyMap<number, number> {
  const counts = new Map<number, number>();
  for (const delivery of deliveries) counts.set(numberOf(delivery), (counts.get(numberOf(delivery)) ?? 0) + 1);
  return counts;
}

export function isCode(error: unknown, prefix: string): boolean {
  return typeof error === "object" && error !== null && "code" in error && String(error.code).startsWith(prefix);
}
