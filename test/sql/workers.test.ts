import { afterAll, beforeAll, expect, test } from "vitest";
import { forgetWorker, holdSessionLock, registerWorker, rescue } from "../../src/store/fleet.js";
import { type Delivery, settle, takeDue as take, work } from "../../src/store/work.js";
import {
  claim,
  die,
  type Engine,
  end,
  failure,
  heartbeat,
  makeQueue,
  makeRescuesPatient,
  makeWorker,
  numberOf,
  openEngine,
  part,
  type Reader,
  rescueAll,
  type Session,
  say,
  upTo,
  waitsForLock,
} from "./engine.js";

let engine: Engine;
beforeAll(async () => {
  engine = await openEngine();
  await makeRescuesPatient(engine);
});
afterAll(() => engine.close());

async function takeAll(
  session: Pick<Session, "query">,
  { subscription, contract }: Reader,
  worker: string,
  limit: number,
) {
  return (await take(session, subscription, worker, [contract], limit)).deliveries;
}

/** Messages that wait for their second delivery, after `crashes` of the workers that held them. */
async function waitingMessages(name: string, count: number, crashes: number): Promise<Reader> {
  const reader = await makeQueue(engine, name);
  const worker = await makeWorker(engine, [reader]);
  await say(engine.db, reader, upTo(count));
  await claim(engine.db, reader, worker, count);
  await die(engine, worker);
  await rescueAll(engine.db);
  await engine.admin.rows("update posthorn.deferred set crashes = $2 where subscription = $1", [
    reader.subscription,
    crashes,
  ]);
  return reader;
}

async function deadLetters({ subscription }: Reader): Promise<Record<string, unknown>[]> {
  return engine.admin.rows(
    "select (payload ->> 'm')::int as m, reason, attempts, crashes from posthorn.dead_letter where subscription = $1 order by message",
    [subscription],
  );
}

test("a forgotten worker can neither claim nor take, and its heartbeat says so", async () => {
  const reader = await makeQueue(engine, "forgotten");
  const worker = await makeWorker(engine, [reader]);
  await say(engine.db, reader, [1]);
  expect(await heartbeat(engine.db, worker, null)).toBeDefined();
  await die(engine, worker);
  await rescueAll(engine.db);
  expect(await heartbeat(engine.db, worker, null)).toBeUndefined();
  expect(await failure(work(engine.db, reader.subscription, worker, 10, []))).toMatchObject({
    code: "PH_WORKER_FORGOTTEN",
  });
  expect(await failure(takeAll(engine.db, reader, worker, 10))).toMatchObject({ code: "PH_WORKER_FORGOTTEN" });
});

/**
 * Goal: no claim is left to a worker that was forgotten in the same moment: nobody would ever rescue it.
 * Method: the claim is made and not committed; the rescuer waits for it, proven by pg_blocking_pids, and finds it.
 */
test("a rescue waits for a claim or a take that its dead worker is making, and frees what that got", async () => {
  for (const what of ["claim", "take"] as const) {
    const reader = await waitingMessages(`making-${what}`, 1, 0);
    const worker = await makeWorker(engine, [reader]);
    if (what === "claim") await say(engine.db, reader, [2]);
    const [holder, rescuer] = [await engine.session(), await engine.session()];
    await holder.rows("begin");
    const got = what === "claim" ? await claim(holder, reader, worker) : await takeAll(holder, reader, worker, 10);
    expect(got).toHaveLength(1);
    await die(engine, worker);
    const rescued = rescueAll(rescuer);
    await waitsForLock(engine, rescuer);
    await holder.rows("commit");
    expect(await rescued, what).toBe(1);
    await Promise.all([holder.close(), rescuer.close()]);
  }
});

/**
 * Goal: the other order: the rescuer commits between the claim's look at the worker and its lock.
 * Method: the key of the worker's lock is computed slowly in one session: the statement has its snapshot already and waits at a
 * gate, proven by pg_blocking_pids, while the rescuer forgets the worker and commits.
 */
test("a claim that began before its worker was forgotten, and gets the lock after, is refused", async () => {
  const reader = await makeQueue(engine, "gate");
  const worker = await makeWorker(engine, [reader]);
  await say(engine.db, reader, [1]);
  const body = String(
    await engine.admin.value("select pg_get_functiondef('posthorn.lock_key(text, bigint, bigint)'::regprocedure)"),
  );
  await engine.admin.rows(`create or replace function posthorn.lock_key(p_purpose text, p_a bigint default 0, p_b bigint default 0) returns bigint
    language plpgsql volatile as $$ begin
      if p_purpose = 'worker' and current_setting('test.gate', true) = 'on' then perform pg_advisory_xact_lock(4711); end if;
      return hashtextextended('posthorn:' || p_purpose || ':' || p_a || ':' || p_b, 0);
    end $$`);
  const late = await engine.session();
  try {
    await late.rows("set test.gate = 'on'");
    await engine.admin.rows("select pg_advisory_lock(4711)");
    const refusal = failure(work(late, reader.subscription, worker, 10, []));
    await waitsForLock(engine, late);
    await die(engine, worker);
    await rescueAll(engine.db);
    await engine.admin.rows("select pg_advisory_unlock(4711)");
    expect(await refusal).toMatchObject({ code: "PH_WORKER_FORGOTTEN" });
  } finally {
    await engine.admin.rows("select pg_advisory_unlock_all()");
    await late.close();
    await engine.admin.rows(body);
  }
});

/**
 * Goal: an open claim is never hidden from the rescuer by the lower bound that heartbeats carry.
 * Method: a claim is under way, and others have drawn claim numbers since, when a heartbeat says "I hold nothing".
 */
test("a heartbeat that says 'nothing open' while a claim is under way does not hide that claim from the rescuer", async () => {
  const [reader, other] = [await makeQueue(engine, "hidden"), await makeQueue(engine, "seen")];
  const worker = await makeWorker(engine, [reader]);
  await say(engine.db, reader, [1]);
  await say(engine.db, other, [1]);
  const holder = await engine.session();
  await holder.rows("begin");
  await claim(holder, reader, worker);
  await claim(engine.db, other, await makeWorker(engine, [other]));
  await heartbeat(engine.db, worker, null);
  await holder.rows("commit");
  await die(engine, worker);
  expect(await rescueAll(engine.db)).toBe(1);
  await holder.close();
});

/**
 * Goal: one dead worker whose rows somebody keeps locked does not keep the messages of the others.
 * Method: a session holds the lock of the first dead worker in an open transaction; the rescuer's patience for it ends.
 */
test("a dead worker whose claim hangs delays the rescue of its own messages alone", async () => {
  const own = await openEngine();
  const reader = await makeQueue(own, "hanging");
  const [hanging, other] = [await makeWorker(own, [reader]), await makeWorker(own, [reader])];
  await say(own.db, reader, [1, 2]);
  const holder = await own.session();
  await claim(own.db, reader, other, 1);
  await holder.rows("begin");
  await claim(holder, reader, hanging, 1);
  await die(own, hanging, other);
  const report = await rescue(own.db, 1_000);
  expect(report).toMatchObject([
    { worker: hanging, messages: 0, done: false },
    { worker: other, messages: 1, done: true },
  ]);
  await holder.rows("commit");
  expect(await rescueAll(own.db)).toBe(1);
  await own.close();
});

test("the rescue of a worker without heartbeats ends its server processes, also while they are claiming, and no others", async () => {
  const reader = await makeQueue(engine, "frozen");
  const [backend, bystander] = [await engine.session(), await engine.session()];
  // A session that shows times in another zone and style than the rescuer's.
  await backend.rows("set timezone = 'Asia/Kathmandu'");
  const started = async (session: Session) =>
    String(await session.value("select backend_start::text from pg_stat_activity where pid = pg_backend_pid()"));
  const worker = await registerWorker(engine.db, {
    service: "test",
    host: "here",
    pid: 1,
    timeoutMs: 3_600_000,
    sessionKey: null,
    backends: [
      { pid: backend.pid, started: await started(backend) },
      { pid: bystander.pid, started: "2001-01-01 00:00:00+00" },
    ],
    attends: [{ subscription: reader.subscription, contracts: [reader.contract] }],
  });
  await say(engine.db, reader, [1]);
  await backend.rows("begin");
  await claim(backend, reader, worker);
  await die(engine, worker);
  // In one pass: it does not wait for a lock that a backend to be ended holds.
  expect(await rescue(engine.db, 1_000)).toMatchObject([{ worker, done: true }]);
  await expect(backend.rows("select 1")).rejects.toThrow();
  expect(await bystander.value("select 1")).toBe(1);
  // The claim that was under way is gone with its session; the message is free.
  expect(await claim(engine.db, reader, await makeWorker(engine, [reader]))).toHaveLength(1);
  await bystander.close();
});

test("a worker dies with its session lock, and lives while a backend holds it, whatever its sign", async () => {
  const reader = await makeQueue(engine, "sessions");
  for (const sessionKey of ["77", "-9223372036854775807", "9223372036854775807"]) {
    const session = await engine.session();
    await holdSessionLock(session, sessionKey);
    const entry = {
      service: "test",
      host: "here",
      pid: 1,
      timeoutMs: 3_600_000,
      sessionKey,
      backends: [],
      attends: [],
    };
    const worker = await registerWorker(engine.db, entry);
    const why = () => engine.admin.value("select why from posthorn.dead_workers() where worker = $1", [worker]);
    expect(await why(), sessionKey).toBeUndefined();
    await session.close();
    await expect.poll(why).toBe("session ended");
    await forgetWorker(engine.db, worker);
  }
  expect(reader.subscription).toBeGreaterThan(0);
});

test("take hands each waiting message to one of many workers, and to one of a worker's sessions", async () => {
  const reader = await waitingMessages("taking", 400, 0);
  // All are there before the first begins.
  const hands = await Promise.all(
    upTo(6).map(async () => ({ session: await engine.session(), worker: await makeWorker(engine, [reader]) })),
  );
  const taken = await Promise.all(
    hands.map(async ({ session, worker }) => {
      const all: Delivery[] = [];
      for (;;) {
        const some = await takeAll(session, reader, worker, 7);
        all.push(...some);
        if (some.length === 0) break;
      }
      await session.close();
      return all;
    }),
  );
  const numbers = taken.flat().map(numberOf);
  expect(numbers.toSorted((a, b) => a - b)).toEqual(upTo(400));
  expect(taken.filter((some) => some.length > 0).length).toBeGreaterThan(1);
});

test("take passes over messages that are not due, and contracts that the worker does not handle", async () => {
  const reader = await waitingMessages("due", 3, 0);
  const worker = await makeWorker(engine, [reader]);
  await engine.admin.rows(
    "update posthorn.deferred set due_at = clock_timestamp() + interval '1 hour' where subscription = $1 and (payload ->> 'm') = '2'",
    [reader.subscription],
  );
  expect((await take(engine.db, reader.subscription, worker, [reader.contract + 1_000], 10)).deliveries).toEqual([]);
  expect((await takeAll(engine.db, reader, worker, 10)).map(numberOf)).toEqual([1, 3]);
});

test("suspects are handed out one at a time to a worker, beside messages that are none", async () => {
  const reader = await waitingMessages("suspects", 5, 0);
  await engine.admin.rows(
    "update posthorn.deferred set crashes = 2 where subscription = $1 and (payload ->> 'm')::int <= 3",
    [reader.subscription],
  );
  const worker = await makeWorker(engine, [reader]);
  const first = await takeAll(engine.db, reader, worker, 10);
  expect(first.map(numberOf).toSorted()).toEqual([1, 4, 5]);
  expect(await takeAll(engine.db, reader, worker, 10)).toEqual([]);
  const elsewhere = await takeAll(engine.db, reader, await makeWorker(engine, [reader]), 10);
  expect(elsewhere.map(numberOf)).toEqual([2]);
});

/**
 * Goal: the rule holds for a worker with several sessions.
 * Method: the first take is not committed when the second asks; neither sees the other's rows.
 */
test("two takes of one worker at once do not give it two suspects", async () => {
  const [reader, other] = [await waitingMessages("twice-a", 2, 2), await waitingMessages("twice-b", 2, 2)];
  const worker = await makeWorker(engine, [reader, other]);
  const session = await engine.session();
  await session.rows("begin");
  expect(await takeAll(session, reader, worker, 10)).toHaveLength(1);
  expect(await takeAll(engine.db, other, worker, 10)).toEqual([]);
  await session.rows("commit");
  expect(await takeAll(engine.db, other, worker, 10)).toEqual([]);
  await session.close();
});

// Both are blamed for the worker's next death, so of three killers or more each made the others' neighbours pay, up to their quarantine.
test("a worker never holds a suspect and a message with one crash together, whichever it takes first", async () => {
  const reader = await waitingMessages("together", 3, 0);
  await engine.admin.rows(`update posthorn.deferred set crashes = 3 - (payload ->> 'm')::int where subscription = $1`, [
    reader.subscription,
  ]);
  const [one, two] = [await makeWorker(engine, [reader]), await makeWorker(engine, [reader])];
  const byOne = await takeAll(engine.db, reader, one, 10);
  expect(byOne.map(({ crashes }) => crashes).toSorted()).toEqual([0, 1]);
  expect(await takeAll(engine.db, reader, one, 10)).toEqual([]);
  const byTwo = await takeAll(engine.db, reader, two, 10);
  expect(byTwo).toMatchObject([{ crashes: 2 }]);
  const [crashed] = byOne.filter(({ crashes }) => crashes === 1);
  if (crashed === undefined) throw new Error("none has one crash");
  await settle(engine.db, [], [end(crashed, "released", { defer: { delayMs: 0, attempts: 0, crashes: 1 } })], null);
  expect(await takeAll(engine.db, reader, two, 10), "beside its suspect").toEqual([]);
  expect(await takeAll(engine.db, reader, one, 10)).toMatchObject([{ crashes: 1 }]);
});

test("a suspect that dies again is blamed, and its neighbours are not", async () => {
  const reader = await waitingMessages("blame", 2, 0);
  await engine.admin.rows(
    "update posthorn.deferred set crashes = 2 where subscription = $1 and (payload ->> 'm') = '1'",
    [reader.subscription],
  );
  const worker = await makeWorker(engine, [reader]);
  expect(await takeAll(engine.db, reader, worker, 10)).toHaveLength(2);
  await die(engine, worker);
  await rescueAll(engine.db);
  const rows = await engine.admin.rows(
    "select (payload ->> 'm')::int as m, crashes, attempts from posthorn.deferred where subscription = $1 order by 1",
    [reader.subscription],
  );
  expect(rows).toEqual([
    { m: 1, crashes: 3, attempts: 0 },
    { m: 2, crashes: 0, attempts: 0 },
  ]);
});

test("a message that kills its fifth worker is quarantined as a dead letter, with every crash in its history", async () => {
  const reader = await makeQueue(engine, "deadly");
  await say(engine.db, reader, [1]);
  for (let crash = 1; crash <= 5; crash += 1) {
    const worker = await makeWorker(engine, [reader]);
    const got = crash === 1 ? await claim(engine.db, reader, worker) : await takeAll(engine.db, reader, worker, 10);
    expect(got, `delivery ${crash}`).toMatchObject([{ delivery: crash, crashes: crash - 1 }]);
    await die(engine, worker);
    expect(await rescueAll(engine.db)).toBe(1);
  }
  expect(await deadLetters(reader)).toEqual([{ m: 1, reason: "killed its workers", attempts: 0, crashes: 5 }]);
  const history = await engine.admin.value(
    "select json_array_length(history) from posthorn.dead_letter where subscription = $1",
    [reader.subscription],
  );
  expect(history).toBe(5);
  expect(await takeAll(engine.db, reader, await makeWorker(engine, [reader]), 10)).toEqual([]);
});

test("at-most-once: what had begun is dead with an unknown outcome, what had not is handed back, what had ended stays ended", async () => {
  const reader = await makeQueue(engine, "once", "at-most-once");
  const worker = await makeWorker(engine, [reader]);
  await say(engine.db, reader, [1, 2, 3]);
  const deliveries = await claim(engine.db, reader, worker);
  await settle(engine.db, [part(deliveries.slice(0, 2), 1, "begun", false)], [], null);
  await settle(engine.db, [part(deliveries.slice(0, 1), 2, "succeeded", false)], [], null);
  await die(engine, worker);
  expect(await rescueAll(engine.db)).toBe(2);
  expect(await deadLetters(reader)).toMatchObject([{ m: 2, reason: "outcome unknown" }]);
  const again = await takeAll(engine.db, reader, await makeWorker(engine, [reader]), 10);
  expect(again.map(numberOf)).toEqual([3]);
  expect(again).toMatchObject([{ delivery: 2, attempts: 0, crashes: 0 }]);
});

test("at-most-once: a delivery from the waiting ones whose worker died is dead with an unknown outcome", async () => {
  const reader = await waitingMessages("once-more", 1, 0);
  await engine.admin.rows("update posthorn.subscription set idempotency = 'at-most-once' where id = $1", [
    reader.subscription,
  ]);
  const worker = await makeWorker(engine, [reader]);
  await takeAll(engine.db, reader, worker, 10);
  await die(engine, worker);
  await rescueAll(engine.db);
  expect(await deadLetters(reader)).toMatchObject([{ m: 1, reason: "outcome unknown" }]);
});

test("a rescue that may free one claim at a time comes to an end, and forgets the worker only then", async () => {
  const reader = await makeQueue(engine, "slices");
  const worker = await makeWorker(engine, [reader]);
  await say(engine.db, reader, upTo(3));
  for (const _ of upTo(3)) await claim(engine.db, reader, worker, 1);
  await die(engine, worker);
  const done: boolean[] = [];
  for (const _ of upTo(4)) done.push(...(await rescue(engine.db, 1)).map((one) => one.done));
  expect(done).toEqual([false, false, false, true]);
  expect(await takeAll(engine.db, reader, await makeWorker(engine, [reader]), 10)).toHaveLength(3);
});
