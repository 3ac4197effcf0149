import { afterAll, beforeAll, beforeEach, expect, test } from "vitest";
import { writeMessages } from "../../src/store/publish.js";
import { type Delivery, peek, settle, takeDue as take, work } from "../../src/store/work.js";
import {
  claim,
  die,
  type Engine,
  end,
  endInTransaction,
  failure,
  type Idempotency,
  makeQueue,
  makeWorker,
  numberOf,
  openEngine,
  outgoing,
  part,
  type Reader,
  rescueAll,
  retryNow,
  type Session,
  say,
  startedAt,
  upTo,
  waitsForLock,
} from "./engine.js";
import { makeRandom, seedOf } from "./random.js";
import { claimAll, countByNumber, Ledger, Pace } from "./traffic.js";

let engine: Engine;
beforeAll(async () => {
  engine = await openEngine();
});
afterAll(() => engine.close());
beforeEach(async () => {
  await engine.admin.rows("update posthorn.ring set slots = '{1}', slot = 1");
});

/** What a rotation will do first: messages go to the next slot from now on. */
async function openSlot(slot: number): Promise<void> {
  await engine.admin.rows("update posthorn.ring set slots = slots || $1::smallint, slot = $1::smallint", [slot]);
}

/** And then, lane by lane, under the lane's lock: the position becomes the base in the new slot, and its ticks go with it. */
async function moveLane(session: Session, { subscription }: Reader, slot: number): Promise<void> {
  await session.rows("begin");
  await session.rows("select pg_advisory_xact_lock(posthorn.lock_key('lane', $1, 0))", [subscription]);
  await session.rows(
    `insert into posthorn.tick_${slot}
     select t.id, t.ceiling_id, t.snapshot, clock_timestamp() from posthorn.position_of($1, 0) p
     cross join lateral unnest(array(select distinct unnest(array[p.floor, p.ceiling]))) e(id)
     cross join lateral posthorn.tick_of(p.slot, e.id) t on conflict do nothing`,
    [subscription],
  );
  await session.rows(
    `update posthorn.lane l set slot = $2, n = p.n, floor = p.floor, ceiling = p.ceiling, last_id = p.last_id, late = p.late, late_xids = p.late_xids
     from posthorn.position_of($1, 0) p where l.subscription = $1 and l.lane = 0`,
    [subscription, slot],
  );
  await session.rows("commit");
}

async function queueWithWorker(name: string, idempotency: Idempotency = "handler") {
  const reader = await makeQueue(engine, name, idempotency);
  return { reader, worker: await makeWorker(engine, [reader]) };
}

async function slotsOf(table: string, where: string, params: readonly unknown[]): Promise<unknown[]> {
  const found: number[] = [];
  for (const slot of upTo(8)) {
    const sql = `select count(*)::int from posthorn.${table}_${slot} where ${where}`;
    if ((await engine.admin.value(sql, params)) !== 0) found.push(slot);
  }
  return found;
}

test("a producer that knew the old slot writes to the new one after the edge, and nothing twice", async () => {
  const { reader } = await queueWithWorker("producer");
  await writeMessages(engine.db, [outgoing(reader)]);
  await openSlot(2);
  await writeMessages(engine.db, [outgoing(reader), outgoing(reader)]);
  await engine.db.query("select posthorn.send('Doproducer', '{}'::json)");
  expect(
    await engine.admin.value("select count(*)::int from posthorn.message_1 where channel = $1", [reader.channel]),
  ).toBe(1);
  expect(
    await engine.admin.value("select count(*)::int from posthorn.message_2 where channel = $1", [reader.channel]),
  ).toBe(3);
});

test("one claim takes messages from both sides of the edge by id, and says in which slot each lies", async () => {
  const { reader, worker } = await queueWithWorker("both");
  await say(engine.db, reader, [1, 2]);
  await openSlot(2);
  await writeMessages(engine.db, [{ ...outgoing(reader), json: '{"m":3}' }]);
  expect(await peek(engine.db, worker, [reader.subscription], null, false)).toMatchObject({
    ready: [reader.subscription],
  });
  const deliveries = await claim(engine.db, reader, worker);
  expect(deliveries.map(numberOf)).toEqual([1, 2, 3]);
  expect(deliveries.map(({ hold }) => (hold.from === "log" ? [hold.claimSlot, hold.messageSlot] : []))).toEqual([
    [1, 1],
    [1, 1],
    [1, 2],
  ]);
  await settle(engine.db, [part(deliveries, 1, "succeeded", true)], [], null);
  const next = await work(engine.db, reader.subscription, worker, 10, []);
  expect(next.deliveries).toEqual([]);
});

test("a message that was written before the edge and committed after it is delivered once, also when it is late", async () => {
  const { reader, worker } = await queueWithWorker("straddle");
  const writer = await engine.session();
  await writer.rows("begin");
  await say(writer, reader, [1]);
  await say(engine.db, reader, [2]);
  expect((await claim(engine.db, reader, worker)).map(numberOf)).toEqual([2]);
  await openSlot(2);
  await moveLane(engine.admin, reader, 2);
  await say(engine.db, reader, [3]);
  expect((await claim(engine.db, reader, worker)).map(numberOf)).toEqual([3]);
  await writer.rows("commit");
  expect((await claim(engine.db, reader, worker)).map(numberOf)).toEqual([1]);
  expect((await work(engine.db, reader.subscription, worker, 10, [])).deliveries).toEqual([]);
  await writer.close();
});

/**
 * Goal: no message of the new slot is passed over by a claim that began before the edge.
 * Method: the claim has looked at the ring and then hangs at a gate in the lookup of its lane's lock, proven by pg_blocking_pids.
 * Meanwhile the new slot opens and gets a message. Its window covers that message's id, so it must read the new slot.
 */
test("a claim that began before the edge reads the new slot too when its window covers it", async () => {
  const { reader, worker } = await queueWithWorker("gate");
  await say(engine.db, reader, [1]);
  const body = String(
    await engine.admin.value("select pg_get_functiondef('posthorn.lock_key(text, bigint, bigint)'::regprocedure)"),
  );
  await engine.admin.rows(`create or replace function posthorn.lock_key(p_purpose text, p_a bigint default 0, p_b bigint default 0) returns bigint
    language plpgsql volatile as $$ begin
      if p_purpose = 'worker' and current_setting('test.gate', true) = 'on' then perform pg_advisory_xact_lock(4712); end if;
      return hashtextextended('posthorn:' || p_purpose || ':' || p_a || ':' || p_b, 0);
    end $$`);
  const early = await engine.session();
  try {
    await early.rows("set test.gate = 'on'");
    await engine.admin.rows("select pg_advisory_lock(4712)");
    const claimed = claim(early, reader, worker);
    await waitsForLock(engine, early);
    await openSlot(2);
    await say(engine.db, reader, [2]);
    await engine.admin.rows("select pg_advisory_unlock(4712)");
    const numbers = (await claimed).map(numberOf);
    const rest = await work(engine.db, reader.subscription, worker, 10, []);
    expect([...numbers, ...rest.deliveries.map(numberOf)]).toEqual([1, 2]);
  } finally {
    await engine.admin.rows("select pg_advisory_unlock_all()");
    await early.close();
    await engine.admin.rows(body);
  }
});

test("settlements go to the claim's slot and endings to the message's, whatever slot is open", async () => {
  const { reader, worker } = await queueWithWorker("places", "transaction");
  await say(engine.db, reader, [1, 2]);
  const old = await claim(engine.db, reader, worker);
  await openSlot(2);
  await moveLane(engine.admin, reader, 2);
  await say(engine.db, reader, [3]);
  const fresh = await claim(engine.db, reader, worker);
  await endAll(old);
  await endAll(fresh);
  await settle(engine.db, [part(old, 1, null, true), part(fresh, 1, null, true)], [], null);
  const claims = [old, fresh].map(([first]) => (first?.hold.from === "log" ? first.hold.claim : ""));
  expect(await slotsOf("settlement", "claim = $1", [claims[0]])).toEqual([1]);
  expect(await slotsOf("settlement", "claim = $1", [claims[1]])).toEqual([2]);
  expect(await slotsOf("ending", "message = $1", [old[0]?.id])).toEqual([1]);
  expect(await slotsOf("ending", "message = $1", [fresh[0]?.id])).toEqual([2]);
});

async function endAll(deliveries: readonly Delivery[]): Promise<void> {
  const session = await engine.session();
  for (const delivery of deliveries) {
    await session.rows("begin");
    await endInTransaction(session, delivery, await startedAt(session), null);
    await session.rows("commit");
  }
  await session.close();
}

/**
 * Goal: unique indexes do not reach across tables, so holder and rescuer must meet in one slot even when the edge lies between them.
 * Method: claim before the edge; the worker dies and is rescued after it, or ends after it; then the other one tries.
 */
test.each(["handler", "transaction"] as const)(
  "a holder and a rescuer on either side of the edge meet on the same row, in %s mode",
  async (mode) => {
    const { reader, worker } = await queueWithWorker(`meet-${mode}`, mode);
    await say(engine.db, reader, [1, 2]);
    const [first, second] = await claim(engine.db, reader, worker);
    if (first === undefined || second === undefined) throw new Error("two were said");
    await openSlot(2);
    await moveLane(engine.admin, reader, 2);
    if (mode === "transaction") await endAll([first]);
    else await settle(engine.db, [part([first], 1, "succeeded", false)], [], null);
    await die(engine, worker);
    expect(await rescueAll(engine.db)).toBe(1);
    if (mode === "transaction")
      for (const one of [first, second]) await expect(endAll([one])).rejects.toMatchObject({ code: "PH_CLAIM_LOST" });
    const late = settle(
      engine.db,
      [part([second], 2, "succeeded", true)],
      [end(second, "failed", retryNow, mode === "transaction")],
      null,
    );
    expect(await failure(late)).toMatchObject({ code: "PH_CLAIM_LOST" });
    const { deliveries: again } = await take(
      engine.db,
      reader.subscription,
      await makeWorker(engine, [reader]),
      [reader.contract],
      10,
    );
    expect(again.map(numberOf)).toEqual([2]);
  },
);

/**
 * Goal: invariant 2 across edges under load.
 * Method: four producers and four claimers run while the ring turns through all eight slots, each turn in the two steps that a
 * rotation will take, at moments of no consideration for what is under way.
 */
test("under load each committed message is claimed exactly once while the ring turns through its slots", async () => {
  const seed = seedOf("ring");
  const { reader, worker } = await queueWithWorker("load");
  const [ledger, pace] = [new Ledger(), new Pace()];
  const seen: Delivery[] = [];
  let turned = false;
  let finished = false;
  const claimers = upTo(4).map(async (i) => {
    const random = makeRandom(seed + i);
    await claimAll({ session: await engine.session(), reader, worker, random, pace, seen, finished: () => finished });
  });
  const producers = upTo(4).map(async (i) => {
    const random = makeRandom(seed + 100 + i);
    const session = await engine.session();
    while (!turned) {
      await session.rows("begin");
      const numbers = ledger.numbers(random.int(1, 8));
      await writeMessages(
        session,
        numbers.map((m) => ({ ...outgoing(reader), json: JSON.stringify({ m }) })),
      );
      if (random.oneIn(4)) await pace.after(random.int(1, 30));
      const commit = !random.oneIn(5);
      await session.rows(commit ? "commit" : "rollback");
      ledger.note(numbers, commit ? "committed" : "rolledBack");
    }
  });
  const turning = (async () => {
    const session = await engine.session();
    for (const slot of upTo(7, 2)) {
      await pace.after(60);
      await openSlot(slot);
      if (slot % 2 === 0) await pace.after(20);
      await moveLane(session, reader, slot);
    }
    await pace.after(60);
  })().finally(() => {
    turned = true;
  });
  await Promise.all([turning, ...producers]).finally(() => {
    finished = true;
  });
  await Promise.all(claimers);
  const counts = countByNumber(seen);
  expect(
    [...ledger.committed].filter((number) => counts.get(number) !== 1),
    "lost or twice",
  ).toEqual([]);
  expect(counts.size).toBe(ledger.committed.size);
  expect(await slotsOf("message", "channel = $1", [reader.channel])).toEqual(upTo(8));
});
