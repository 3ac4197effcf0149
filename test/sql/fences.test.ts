import { afterAll, beforeAll, expect, test } from "vitest";
import { ClaimLostError } from "../../src/core/errors.js";
import { forgetWorker } from "../../src/store/fleet.js";
import { writeProgress } from "../../src/store/results.js";
import { type Delivery, settle, takeDue as take } from "../../src/store/work.js";
import {
  claim,
  die,
  type Engine,
  end,
  endInTransaction,
  failure,
  giveUp,
  makeQueue,
  makeRescuesPatient,
  makeWorker,
  openEngine,
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

let engine: Engine;
let queues = 0;
beforeAll(async () => {
  engine = await openEngine();
  await makeRescuesPatient(engine);
  await engine.admin.rows("create table effect (message text not null, by text not null)");
});
afterAll(() => engine.close());

/** A queue of its own with messages in the hands of a worker. */
async function held(idempotency: "handler" | "transaction", count: number) {
  queues += 1;
  const reader = await makeQueue(engine, `fence${queues}`, idempotency);
  const worker = await makeWorker(engine, [reader]);
  await say(engine.db, reader, upTo(count));
  const deliveries = await claim(engine.db, reader, worker, count);
  const [first] = deliveries;
  if (first === undefined || deliveries.length !== count) throw new Error("not all was claimed");
  return { reader, worker, deliveries, first };
}

/** Another worker takes the only message that is due. */
async function takeOne({ subscription, contract }: Reader, worker: string): Promise<Delivery> {
  const { deliveries } = await take(engine.db, subscription, worker, [contract], 10);
  const [taken, ...more] = deliveries;
  if (taken === undefined || more.length > 0) throw new Error("one message should be due");
  return taken;
}

async function waiting({ subscription }: Reader): Promise<Record<string, unknown>[]> {
  return engine.admin.rows(
    "select *, history::text as history from posthorn.deferred where subscription = $1 order by message",
    [subscription],
  );
}

async function endsOf({ subscription }: Reader): Promise<unknown[]> {
  const rows = await engine.admin.rows(
    "select delivery || ' ' || outcome as line from posthorn.ending_1 where subscription = $1 order by message, delivery",
    [subscription],
  );
  return rows.map(({ line }) => line);
}

/** Everything a stale holder of a delivery may try. */
async function expectFenced(stale: Delivery, number = 1): Promise<void> {
  const log = stale.hold.from === "log";
  const parts = (outcome: "succeeded" | "failed") => (log ? [part([stale], number, outcome, true)] : []);
  const attempts = {
    success: () => settle(engine.db, parts("succeeded"), log ? [] : [end(stale, "succeeded", null)], null),
    "failure with a retry": () => settle(engine.db, parts("failed"), [end(stale, "failed", retryNow)], null),
    "failure for good": () => settle(engine.db, parts("failed"), [end(stale, "failed", giveUp)], null),
    "hand-back": () => settle(engine.db, parts("failed"), [end(stale, "released", retryNow)], null),
  };
  for (const [what, attempt] of Object.entries(attempts))
    expect(await failure(attempt()), what).toBeInstanceOf(ClaimLostError);
}

test("a consequence without a part beside it is lost after a rescue, and what runs elsewhere by then stays with its holder", async () => {
  // A claim's row and token outlive its rescue: compared alone they let a stale failure release a message that somebody else was running.
  const { reader, worker, first } = await held("handler", 1);
  await die(engine, worker);
  await rescueAll(engine.db);
  const other = await makeWorker(engine, [reader]);
  const taken = await takeOne(reader, other);
  const result = { result: { text: "1", keepMs: 60_000 } };
  for (const stale of [end(first, "failed", retryNow), end(first, "failed", giveUp), end(first, "succeeded", result)])
    expect(await failure(settle(engine.db, [], [stale], null))).toBeInstanceOf(ClaimLostError);
  expect(await waiting(reader)).toMatchObject([{ worker: other, delivery: 2, token: taken.hold.token }]);
  expect(await engine.admin.rows("select from posthorn.result where subscription = $1", [reader.subscription])).toEqual(
    [],
  );
});

test("a batch is settled once: the second settlement is lost, and changes nothing", async () => {
  const { reader, deliveries, first } = await held("handler", 3);
  await settle(engine.db, [part(deliveries, 1, "succeeded", true)], [], null);
  await expectFenced(first);
  expect(await waiting(reader)).toEqual([]);
  expect(await engine.admin.value("select count(*)::int from posthorn.dead_letter")).toBe(0);
});

test("a settlement with a foreign token is lost, whatever the claim's number", async () => {
  const { deliveries, first } = await held("handler", 1);
  const token = String(BigInt(first.hold.token) ^ 1n);
  const forged = deliveries.map((one) => ({ ...one, hold: { ...one.hold, token } }));
  for (const one of forged) await expectFenced(one);
  await settle(engine.db, [part(deliveries, 1, "succeeded", true)], [], null);
});

test("of several parts in one call, one that is lost takes the others with it", async () => {
  const { deliveries } = await held("handler", 2);
  const other = await held("handler", 1);
  await settle(engine.db, [part(other.deliveries, 1, "succeeded", true)], [], null);
  const both = [part(deliveries, 1, "succeeded", true), part(other.deliveries, 1, "succeeded", true)];
  expect(await failure(settle(engine.db, both, [], null))).toBeInstanceOf(ClaimLostError);
  await settle(engine.db, [part(deliveries, 1, "succeeded", true)], [], null);
});

test("after a rescue the dead holder's success, failure and hand-back are lost, and the message waits as it did", async () => {
  const { reader, worker, first } = await held("handler", 1);
  await die(engine, worker);
  expect(await rescueAll(engine.db)).toBe(1);
  const before = await waiting(reader);
  expect(before).toMatchObject([{ delivery: 2, crashes: 1, attempts: 0, token: null }]);
  await expectFenced(first);
  expect(await waiting(reader)).toEqual(before);
});

test("a rescue after the settlement frees nothing and forgets the worker", async () => {
  const { reader, worker, deliveries } = await held("handler", 2);
  await settle(engine.db, [part(deliveries, 1, "succeeded", true)], [], null);
  await die(engine, worker);
  expect(await rescueAll(engine.db)).toBe(0);
  expect(await waiting(reader)).toEqual([]);
  expect(await engine.admin.value("select count(*)::int from posthorn.worker where id = $1", [worker])).toBe(0);
});

test("a rescue frees only what the parts of a claim have not ended, and its own part stops the holder's next", async () => {
  const { reader, worker, deliveries, first } = await held("handler", 4);
  await settle(engine.db, [part([first], 1, "succeeded", false)], [], null);
  await settle(
    engine.db,
    [part(deliveries.slice(1, 2), 2, "failed", false)],
    deliveries.slice(1, 2).map((one) => end(one, "failed", giveUp)),
    null,
  );
  await die(engine, worker);
  expect(await rescueAll(engine.db)).toBe(2);
  expect((await waiting(reader)).map(({ message }) => message)).toEqual(deliveries.slice(2).map(({ id }) => id));
  for (const one of deliveries.slice(2)) await expectFenced(one, 3);
});

// Red as long as a part needs only a free number: a holder with two parts on the way would settle what the rescuer has handed on.
test("no part is written after the one that closes a claim, and none that leaves a number out", async () => {
  const { worker, first } = await held("handler", 1);
  await die(engine, worker);
  await rescueAll(engine.db);
  await expectFenced(first, 2);
  await expectFenced(first, 3);
});

test("a worker that is forgotten while it holds a claim leaves the claim to the rescuer", async () => {
  const { worker } = await held("handler", 1);
  await forgetWorker(engine.db, worker);
  expect(await rescueAll(engine.db)).toBe(1);
});

/**
 * Goal: invariant 4 where it is hardest: the replacement has failed already, and the message is waiting or running once more.
 * Method: worker 1 holds delivery 1 and dies; worker 2 takes delivery 2 and fails; worker 3 takes delivery 3. The holders of
 * deliveries 1 and 2 try everything while it waits, while it runs, and after it has succeeded.
 */
test.each(["handler", "transaction"] as const)(
  "a stale holder changes nothing after its replacement failed and is retrying, in %s mode",
  async (mode) => {
    const { reader, worker, first } = await held(mode, 1);
    await die(engine, worker);
    await rescueAll(engine.db);
    const second = await takeOne(reader, await makeWorker(engine, [reader]));
    expect(second).toMatchObject({ id: first.id, nonce: first.nonce, delivery: 2, crashes: 1 });
    await settle(engine.db, [], [end(second, "failed", retryNow)], null);
    const allFenced = async () => {
      const before = await waiting(reader);
      for (const stale of [first, second]) {
        await expectFenced(stale);
        if (mode === "transaction") expect(await failure(succeed(engine.admin, stale))).toBeInstanceOf(ClaimLostError);
      }
      expect(await waiting(reader)).toEqual(before);
    };
    await allFenced();
    const third = await takeOne(reader, await makeWorker(engine, [reader]));
    expect(third).toMatchObject({ delivery: 3, attempts: 1 });
    await allFenced();
    await settle(engine.db, [], [end(third, "succeeded", null)], null);
    await allFenced();
    expect(await waiting(reader)).toEqual([]);
    expect((await endsOf(reader)).at(-1)).toBe("3 succeeded");
  },
);

test("a claim's number that is handed out again after a crash has another token: the old holder settles nothing of the new one's", async () => {
  const { reader, worker, deliveries, first } = await held("handler", 2);
  if (first.hold.from !== "log") throw new Error("from the log");
  // What a crash leaves behind that lost the last claim.
  await engine.admin.rows("delete from posthorn.claim_1 where id = $1", [first.hold.claim]);
  await engine.admin.rows("select setval('posthorn.claim_id', $1::bigint, false)", [first.hold.claim]);
  const again = await claim(engine.db, reader, worker, 2);
  expect(again[0]?.hold).toMatchObject({ claim: first.hold.claim });
  expect(again[0]?.hold.token).not.toBe(first.hold.token);
  await expectFenced(first);
  await settle(engine.db, [part(again, 1, "succeeded", true)], [], null);
  expect(deliveries.map(({ id }) => id)).toEqual(again.map(({ id }) => id));
});

/** What the handler of a transaction does, up to COMMIT: its effect, and the end as the last statement. */
async function beginAndEnd(session: Session, delivery: Delivery, level = "read committed"): Promise<void> {
  await session.rows(`begin isolation level ${level}`);
  await session.rows("insert into effect values ($1, $2)", [delivery.id, session.pid]);
  await endInTransaction(session, delivery, await startedAt(session), null);
}

async function succeed(session: Session, delivery: Delivery): Promise<void> {
  try {
    await beginAndEnd(session, delivery);
    await session.rows("commit");
  } catch (error) {
    await session.rows("rollback");
    throw error;
  }
}

async function effectsOf({ id }: Delivery): Promise<unknown> {
  return engine.admin.value("select count(*)::int from effect where message = $1", [id]);
}

test("in transaction mode a foreign token ends nothing, and its effect is rolled back", async () => {
  const { first } = await held("transaction", 1);
  const session = await engine.session();
  const hold = { ...first.hold, token: String(BigInt(first.hold.token) ^ 1n) };
  expect(await failure(succeed(session, { ...first, hold }))).toBeInstanceOf(ClaimLostError);
  await succeed(session, first);
  expect(await effectsOf(first)).toBe(1);
  await session.close();
});

/** The holds of one message in transaction mode: from the log, or taken from the waiting ones. */
async function transactionHold(from: "log" | "deferred") {
  const { reader, worker, first } = await held("transaction", 1);
  if (from === "log") return { reader, worker, delivery: first };
  await die(engine, worker);
  await rescueAll(engine.db);
  const second = await makeWorker(engine, [reader]);
  return { reader, worker: second, delivery: await takeOne(reader, second) };
}

/**
 * Goal: invariant 3. Of two transactions that end one delivery exactly one commits.
 * Method: both have written their effect; the second one to end waits for the first (proven by pg_blocking_pids) until that
 * commits or rolls back. At the higher isolation levels the loser may also get a serialization failure.
 */
const endings = (["log", "deferred"] as const).flatMap((from) =>
  (["read committed", "repeatable read", "serializable"] as const).flatMap((level) =>
    (["commit", "rollback"] as const).map((fate) => ({ from, level, fate })),
  ),
);
test.each(endings)(
  "two holders of one delivery from the $from at $level: the second waits, and after the first's $fate exactly one effect remains",
  async ({ from, level, fate }) => {
    const { delivery } = await transactionHold(from);
    const [one, two] = [await engine.session(), await engine.session()];
    await beginAndEnd(one, delivery, level);
    const second = beginAndEnd(two, delivery, level).then(
      () => "ended",
      (error: unknown) => error,
    );
    await waitsForLock(engine, two);
    await one.rows(fate);
    const outcome = await second;
    if (fate === "rollback") {
      expect(outcome).toBe("ended");
      await two.rows("commit");
    } else {
      expect(
        outcome instanceof ClaimLostError || (level !== "read committed" && codeOf(outcome) === "40001"),
        String(outcome),
      ).toBe(true);
      await two.rows("rollback");
    }
    expect(await effectsOf(delivery)).toBe(1);
    await Promise.all([one.close(), two.close()]);
  },
);

function codeOf(error: unknown): unknown {
  return typeof error === "object" && error !== null && "code" in error ? error.code : undefined;
}

/**
 * Goal: invariant 3 against a rescuer: it takes a worker for dead whose transaction is in the middle of ending.
 * Method: the rescuer waits for the holder's row, proven by pg_blocking_pids, until the holder commits or rolls back.
 */
test.each([
  { from: "log", fate: "commit" },
  { from: "log", fate: "rollback" },
  { from: "deferred", fate: "commit" },
  { from: "deferred", fate: "rollback" },
] as const)(
  "a rescue waits for a holder from the $from that is ending just now; after its $fate there is one effect",
  async ({ from, fate }) => {
    const { reader, worker, delivery } = await transactionHold(from);
    const [holder, rescuer] = [await engine.session(), await engine.session()];
    await beginAndEnd(holder, delivery);
    await die(engine, worker);
    const rescued = rescueAll(rescuer);
    await waitsForLock(engine, rescuer);
    await holder.rows(fate);
    expect(await rescued).toBe(fate === "commit" ? 0 : 1);
    expect(await failure(succeed(holder, delivery))).toBeInstanceOf(ClaimLostError);
    expect((await waiting(reader)).length).toBe(fate === "commit" ? 0 : 1);
    if (fate === "rollback") await succeed(holder, await takeOne(reader, await makeWorker(engine, [reader])));
    expect(await effectsOf(delivery)).toBe(1);
    await Promise.all([holder.close(), rescuer.close()]);
  },
);

test("a holder that wakes up while the rescuer has not committed waits for it, and loses", async () => {
  for (const mode of ["handler", "transaction"] as const) {
    const { worker, deliveries, first } = await held(mode, 1);
    const [holder, rescuer] = [await engine.session(), await engine.session()];
    await die(engine, worker);
    await rescuer.rows("begin");
    expect(await rescueAll(rescuer)).toBe(1);
    const ending =
      mode === "handler" ? settle(holder, [part(deliveries, 1, "succeeded", true)], [], null) : succeed(holder, first);
    const refusal = failure(ending);
    await waitsForLock(engine, holder);
    await rescuer.rows("commit");
    expect(await refusal, mode).toBeInstanceOf(ClaimLostError);
    expect(await effectsOf(first)).toBe(0);
    await Promise.all([holder.close(), rescuer.close()]);
  }
});

/**
 * Goal: parts are numbered so that holder and rescuer meet, from real concurrent sessions.
 * Method: the holder's part is written and not committed; the rescuer, with the same number, waits; then it counts again.
 */
test.each(["commit", "rollback"] as const)(
  "a rescuer that races with the holder's next part counts again after its %s",
  async (fate) => {
    const { reader, worker, deliveries, first } = await held("handler", 3);
    const [holder, rescuer] = [await engine.session(), await engine.session()];
    await holder.rows("begin");
    await settle(holder, [part([first], 1, "succeeded", false)], [], null);
    await die(engine, worker);
    const rescued = rescueAll(rescuer);
    await waitsForLock(engine, rescuer);
    await holder.rows(fate);
    expect(await rescued).toBe(fate === "commit" ? 2 : 3);
    expect((await waiting(reader)).length).toBe(fate === "commit" ? 2 : 3);
    for (const number of fate === "commit" ? [1, 2] : [1]) {
      for (const one of deliveries) await expectFenced(one, number);
    }
    await Promise.all([holder.close(), rescuer.close()]);
  },
);

// The next number was refused behind a part that closes, so the rescuer counted again without end: "stack depth limit exceeded", and the
// pass was rolled back with everything that it had freed of other workers.
test("a rescuer that races with the part that closes a claim finds nothing left of it, and frees what others held", async () => {
  const { reader, worker, deliveries } = await held("handler", 2);
  const other = await held("handler", 1);
  const [holder, rescuer] = [await engine.session(), await engine.session()];
  await holder.rows("begin");
  await settle(holder, [part(deliveries, 1, "succeeded", true)], [], null);
  await die(engine, worker, other.worker);
  const rescued = rescueAll(rescuer);
  await waitsForLock(engine, rescuer);
  await holder.rows("commit");
  expect(await rescued).toBe(1);
  expect(await waiting(reader)).toEqual([]);
  expect((await waiting(other.reader)).length).toBe(1);
  await Promise.all([holder.close(), rescuer.close()]);
});

// It was the visibility timeout and a little more: for an hour, where a handler may run for an hour.
test("a transaction that has ended its delivery and said something may wait five seconds for its COMMIT, however long its handler may be silent", async () => {
  const { first, reader } = await held("transaction", 1);
  const session = await engine.session();
  await session.rows("begin");
  await session.rows("set local idle_in_transaction_session_timeout = '1h'");
  const said = JSON.stringify([{ n: "1", ch: reader.channel, c: reader.contract, k: null, p: 1 }]);
  await endInTransaction(session, first, await startedAt(session), said);
  expect(await session.value("show idle_in_transaction_session_timeout")).toBe("5s");
  await session.rows("commit");
  expect(await session.value("show idle_in_transaction_session_timeout")).toBe("0");
  await session.close();
});

test("a handler that ended its own transaction cannot end its delivery", async () => {
  const { first } = await held("transaction", 1);
  const session = await engine.session();
  await session.rows("begin");
  const began = await startedAt(session);
  await session.rows("commit");
  await session.rows("begin");
  expect(await failure(endInTransaction(session, first, began, null))).toMatchObject({
    code: "PH_TRANSACTION_ENDED",
  });
  await session.rows("rollback");
  await session.close();
});

test("the progress that a stale holder tells, and its end, leave that of the newer delivery as it is", async () => {
  const { reader, worker, first } = await held("handler", 1);
  const run = { subscription: reader.subscription, message: first.id };
  await writeProgress(engine.db, worker, [{ ...run, delivery: 2, value: "newer" }], []);
  await writeProgress(engine.db, worker, [{ ...run, delivery: 1, value: "stale" }], [{ ...run, delivery: 1 }]);
  const told = "select value #>> '{}' from posthorn.progress where subscription = $1";
  expect(await engine.admin.value(told, [reader.subscription])).toBe("newer");
});
