/**
 * A fleet in the middle of its work, for tests of what becomes of a copy of it: transactions that are open for long, claims that are open, messages that
 * failed, keys that are parked. And what a copy must do: exactly what was not done in it.
 */
import { writeMessages } from "../../src/store/publish.js";
import { registerContract, registerSubscription } from "../../src/store/registry.js";
import { type Delivery, settle, takeDue, work } from "../../src/store/work.js";
import {
  type Engine,
  end,
  type Idempotency,
  makeTopic,
  makeWorker,
  numberOf,
  part,
  type Reader,
} from "../sql/engine.js";
import type { Random } from "../sql/random.js";

export interface Fleet {
  readonly readers: readonly Reader[];
  readonly ordered: ReadonlySet<number>;
  /** At most once. */
  readonly once: number;
}

/** Queues of every mode, one that keeps order, and a topic with two readers. */
export async function makeFleet(engine: Engine): Promise<Fleet> {
  const topic = await makeTopic(engine, "facts", ["first", "second"]);
  const queues = [
    await queue(engine, "plain", "handler", false),
    await queue(engine, "inside", "transaction", false),
    await queue(engine, "once", "at-most-once", false),
    await queue(engine, "turns", "handler", true),
  ];
  const [, , once, turns] = queues.map((one) => one.subscription);
  if (once === undefined || turns === undefined) throw new Error("four queues were made");
  return { readers: [...topic, ...queues], ordered: new Set([turns]), once };
}

async function queue(engine: Engine, name: string, idempotency: Idempotency, ordered: boolean): Promise<Reader> {
  const entry = { kind: "command", name: `Do${name}`, version: 1, channel: name, keyed: ordered, owner: null };
  const { contract, channel } = await registerContract(engine.db, entry, "test", false);
  const policy = JSON.stringify({
    deadLetter: { keepMs: 3_600_000 },
    ordering: ordered ? { per: "key", whenDead: "park" } : "none",
  });
  const declared = { name, kind: "command", channel: name, idempotency, policy } as const;
  const { subscription } = await registerSubscription(engine.db, declared, "test");
  return { subscription, channel, contract };
}

const keys = ["a", "b", "c", "d", "e"];

/** Says messages in transactions of all kinds until `until` is aborted. Messages of a key are said under its lock. */
async function produce(engine: Engine, { readers, ordered }: Fleet, random: Random, until: AbortSignal): Promise<void> {
  const session = await engine.session();
  const other = await engine.session();
  while (!until.aborted) {
    await session.rows("begin");
    const reader = random.pick(readers);
    const key = ordered.has(reader.subscription) ? random.pick(keys) : null;
    if (key !== null) await session.rows("select pg_advisory_xact_lock(hashtext($1))", [key]);
    // Ids are drawn now, and the row is seen much later than others.
    await writeMessages(session, some(reader, key, random));
    for (let i = random.int(0, 3); i > 0; i -= 1) {
      const quick = random.pick(readers.filter((one) => !ordered.has(one.subscription)));
      await writeMessages(other, some(quick, null, random));
    }
    await session.rows(random.int(0, 5) === 0 ? "rollback" : "commit");
  }
  await Promise.all([session.close(), other.close()]);
}

let last = 0;

function some({ contract, channel }: Reader, key: string | null, random: Random) {
  return Array.from({ length: 1 + random.int(0, 2) }, () => {
    last += 1;
    return { contract, channel, key, json: JSON.stringify({ m: last }), headers: null };
  });
}

/** Claims, and settles what it claimed: all, a part, with failures, or not at all. */
async function consume(
  engine: Engine,
  reader: Reader,
  once: number,
  random: Random,
  until: AbortSignal,
): Promise<void> {
  const session = await engine.session();
  const worker = await makeWorker(engine, [reader]);
  while (!until.aborted) {
    const { deliveries, parts: written = 0 } = await work(
      session,
      reader.subscription,
      worker,
      1 + random.int(0, 7),
      [],
    );
    if (deliveries.length === 0) {
      await new Promise((resolve) => setTimeout(resolve, 2));
      continue;
    }
    const [first, ...rest] = deliveries;
    const chosen = random.int(0, 5);
    if (chosen === 0) continue;
    if (first === undefined || chosen > 2) {
      await settle(session, [part(deliveries, written + 1, "succeeded", true)], [], null);
    } else if (chosen === 1) {
      const begun = reader.subscription === once && random.oneIn(2);
      await settle(session, [part([first], written + 1, begun ? "begun" : "succeeded", false)], [], null);
    } else {
      const next = { defer: { delayMs: random.int(0, 1) * 3_600_000, attempts: 1, crashes: 0 } };
      const parts = [part([first], written + 1, "failed", rest.length === 0)];
      if (rest.length > 0) parts.push(part(rest, written + 2, "succeeded", true));
      await settle(session, parts, [end(first, "failed", next)], null);
    }
  }
  await session.close();
}

/** Runs the fleet until `work` is done. */
export async function underLoad<T>(engine: Engine, fleet: Fleet, random: Random, work: () => Promise<T>): Promise<T> {
  const over = new AbortController();
  const running = [
    ...[0, 1, 2].map(() => produce(engine, fleet, random, over.signal)),
    ...fleet.readers.map((reader) => consume(engine, reader, fleet.once, random, over.signal)),
  ];
  try {
    return await work();
  } finally {
    over.abort();
    await Promise.all(running);
  }
}

/** What is left to do by the tables alone: [subscription, message] of all that were said and have no good end. What is dead, or had begun and may
 * not be repeated, is left to nobody. */
export async function leftToDo(engine: Engine): Promise<ReadonlySet<string>> {
  const slots = [1, 2, 3, 4, 5, 6, 7, 8];
  const union = (table: string, columns: string) =>
    slots.map((slot) => `select ${columns} from posthorn.${table}_${slot}`).join(" union all ");
  const rows = await engine.admin.rows(`
    with m as (${union("message", "id, channel")}), c as (${union("claim", "id, subscription, messages")}),
      t as (${union("settlement", "claim, outcome, messages")}), e as (${union("ending", "subscription, message, outcome")}),
      done as (
        select c.subscription, m.id from t join c on c.id = t.claim cross join lateral unnest(coalesce(t.messages, c.messages)) m(id) where t.outcome in ('succeeded', 'begun')
        union select e.subscription, e.message from e where e.outcome = 'succeeded'
        union select subscription, message from posthorn.dead_letter)
    select s.id || '/' || m.id as one from m join posthorn.subscription s on s.channel = m.channel
      where not exists (select from done d where d.subscription = s.id and d.id = m.id)`);
  return new Set(rows.map(({ one }) => String(one)));
}

export interface Done {
  /** Every delivery, in order: subscription/message. */
  readonly deliveries: readonly string[];
  /** Numbers of ordered messages by their key, in the order of deliveries. */
  readonly byKey: ReadonlyMap<string, readonly number[]>;
}

/** Works everything off, also what is due later. */
export async function drain(engine: Engine, { readers, ordered }: Fleet): Promise<Done> {
  const deliveries: string[] = [];
  const byKey = new Map<string, number[]>();
  for (const reader of readers) {
    const worker = await makeWorker(engine, [reader]);
    const take = (one: Delivery) => {
      deliveries.push(`${reader.subscription}/${one.id}`);
      if (!ordered.has(reader.subscription) || one.key === null) return;
      byKey.set(one.key, [...(byKey.get(one.key) ?? []), numberOf(one)]);
    };
    for (;;) {
      await engine.admin.rows(
        "update posthorn.deferred set due_at = clock_timestamp() where due_at < 'infinity' and due_at > clock_timestamp()",
      );
      const { deliveries: taken } = await takeDue(engine.db, reader.subscription, worker, [reader.contract], 50);
      for (const one of taken) take(one);
      if (taken.length > 0)
        await settle(
          engine.db,
          [],
          taken.map((one) => end(one, "succeeded", null)),
          null,
        );
      const { deliveries: claimed, parts = 0 } = await work(engine.db, reader.subscription, worker, 50, []);
      for (const one of claimed) take(one);
      if (claimed.length > 0) await settle(engine.db, [part(claimed, parts + 1, "succeeded", true)], [], null);
      if (ordered.has(reader.subscription)) await promoteAll(engine, reader);
      if (taken.length + claimed.length === 0 && !(await waits(engine, reader))) break;
    }
  }
  return { deliveries, byKey };
}

async function promoteAll(engine: Engine, reader: Reader): Promise<void> {
  await engine.admin.rows(
    "select posthorn.promote_key(p.subscription, p.key) from posthorn.parked_key p where p.subscription = $1",
    [reader.subscription],
  );
}

async function waits(engine: Engine, reader: Reader): Promise<boolean> {
  const n = await engine.admin.value(
    "select (select count(*) from posthorn.deferred where subscription = $1) + (select messages from posthorn.waiting_in_log($1, 1000))",
    [reader.subscription],
  );
  return Number(n) > 0;
}
