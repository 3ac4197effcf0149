import { afterAll, beforeAll, expect, test } from "vitest";
import { writeMessages } from "../../src/store/publish.js";
import { registerContract, registerSubscription } from "../../src/store/registry.js";
import { type Claimed, settle, type Taken, takeDue as take, work } from "../../src/store/work.js";
import {
  die,
  type Engine,
  end,
  endInTransaction,
  makeWorker,
  openEngine,
  outgoing,
  part,
  type Reader,
  rescueAll,
  retryNow,
  startedAt,
  upTo,
} from "./engine.js";

let engine: Engine;
beforeAll(async () => {
  engine = await openEngine();
});
afterAll(() => engine?.close());

interface Limits {
  readonly rateLimit?: { readonly messages: number; readonly perMs: number; readonly burst: number };
  readonly keyRateLimit?: { readonly messages: number; readonly perMs: number; readonly burst: number };
  readonly fleetConcurrency?: number;
  readonly keyConcurrency?: number;
}

let made = 0;

/** A queue with limits; its policy is what the newest worker declared. */
async function makeLimited(limits: Limits, idempotency = "handler"): Promise<Reader & { readonly name: string }> {
  made += 1;
  const name = `limited${made}`;
  const entry = { kind: "command", name: `Do${name}`, version: 1, channel: name, keyed: true, owner: null };
  const { contract, channel } = await registerContract(engine.db, entry, "test", false);
  const subscription = await declare(name, limits, idempotency);
  return { subscription, channel, contract, name };
}

async function declare(name: string, limits: Limits, idempotency = "handler"): Promise<number> {
  const policy = JSON.stringify({ ...limits, deadLetter: { keepMs: 60_000 } });
  const reader = { name, kind: "command", channel: name, idempotency, policy } as const;
  return (await registerSubscription(engine.db, reader, "test")).subscription;
}

async function say(reader: Reader, keys: readonly string[]): Promise<readonly string[]> {
  const messages = keys.map((key, m) => ({ ...outgoing(reader), key, json: JSON.stringify({ m }) }));
  return (await writeMessages(engine.db, messages)).map(({ id }) => id);
}

const claimUpTo = (reader: Reader, worker: string, limit: number): Promise<Claimed> =>
  work(engine.db, reader.subscription, worker, limit, []);
const takeUpTo = (reader: Reader, worker: string, limit: number): Promise<Taken> =>
  take(engine.db, reader.subscription, worker, [reader.contract], limit);
/** Deliveries that wait become due. */
const passes = (reader: Reader, ms: number) =>
  engine.admin.rows(
    `with d as (update posthorn.deferred set due_at = due_at - $2 * interval '1 ms' where subscription = $1),
       p as (update posthorn.permit set tat = tat - $2 * interval '1 ms' where subscription = $1)
     update posthorn.key_permit set tat = tat - $2 * interval '1 ms', line_end = line_end - $2 * interval '1 ms' where subscription = $1`,
    [reader.subscription, ms],
  );
const perHour = (messages: number, burst: number) => ({ messages, perMs: 3_600_000, burst });

test("a claim gets no more messages than the rate has permits, and is told when there is the next", async () => {
  const reader = await makeLimited({ rateLimit: perHour(60, 3) });
  const worker = await makeWorker(engine, [reader]);
  await say(reader, upTo(10).map(String));
  const first = await claimUpTo(reader, worker, 10);
  expect(first.deliveries).toHaveLength(3);
  // A permit comes each minute.
  expect(first.waitMs).toBeGreaterThan(59_000);
  expect(first.waitMs).toBeLessThanOrEqual(60_000);
  const none = await claimUpTo(reader, worker, 10);
  expect(none).toMatchObject({ missed: false, deliveries: [] });
  expect(none.waitMs).toBeGreaterThan(50_000);
  await passes(reader, 61_000);
  expect((await claimUpTo(reader, worker, 10)).deliveries).toHaveLength(1);
  await passes(reader, 24 * 3_600_000);
  expect((await claimUpTo(reader, worker, 10)).deliveries).toHaveLength(3);
});

test("permits that a claim found no messages for are not used", async () => {
  const reader = await makeLimited({ rateLimit: perHour(60, 3) });
  const worker = await makeWorker(engine, [reader]);
  for (let i = 0; i < 5; i += 1) expect((await claimUpTo(reader, worker, 10)).deliveries).toEqual([]);
  await say(reader, ["a"]);
  const one = await claimUpTo(reader, worker, 10);
  expect([one.deliveries.length, one.waitMs]).toEqual([1, undefined]);
  await say(reader, ["a", "b", "c"]);
  expect((await claimUpTo(reader, worker, 10)).deliveries).toHaveLength(2);
});

test("waiting deliveries take permits of the same rate as the log", async () => {
  const reader = await makeLimited({ rateLimit: perHour(60, 3) });
  const worker = await makeWorker(engine, [reader]);
  await say(reader, upTo(4).map(String));
  const { deliveries } = await claimUpTo(reader, worker, 2);
  const ends = deliveries.map((delivery) => end(delivery, "failed", retryNow));
  await settle(engine.db, [part(deliveries, 1, "failed", true)], ends, null);
  // Two of three permits are used: of two that are due one may begin.
  const taken = await takeUpTo(reader, worker, 10);
  expect(taken.deliveries).toHaveLength(1);
  expect(taken.waitMs).toBeGreaterThan(50_000);
  expect((await claimUpTo(reader, worker, 10)).deliveries).toEqual([]);
});

test("claims of many sessions at once share one rate, and each message is claimed once", async () => {
  const reader = await makeLimited({ rateLimit: perHour(60, 40) });
  const workers = await Promise.all(upTo(6).map(() => makeWorker(engine, [reader])));
  const said = await say(reader, upTo(100).map(String));
  const got = await Promise.all(
    workers.map(async (worker) => {
      const session = await engine.session();
      const ids: string[] = [];
      for (let answers = 0; answers < 30; ) {
        const { deliveries, missed } = await work(session, reader.subscription, worker, 5, []);
        ids.push(...deliveries.map(({ id }) => id));
        // Whoever met another one learned nothing.
        if (!missed) answers += 1;
      }
      await session.close();
      return ids;
    }),
  );
  const ids = got.flat();
  expect(ids).toHaveLength(40);
  expect(new Set(ids).size).toBe(40);
  expect(ids.every((id) => said.includes(id))).toBe(true);
});

test("a clock that was put back costs no more than one full burst", async () => {
  const reader = await makeLimited({ rateLimit: perHour(60, 3) });
  const worker = await makeWorker(engine, [reader]);
  await say(reader, upTo(10).map(String));
  await claimUpTo(reader, worker, 10);
  // As if the clock had been put back by a day since.
  await passes(reader, -24 * 3_600_000);
  expect((await claimUpTo(reader, worker, 10)).waitMs).toBeLessThanOrEqual(60_000);
  await passes(reader, 61_000);
  expect((await claimUpTo(reader, worker, 10)).deliveries).toHaveLength(1);
  await passes(reader, 180_000);
  expect((await claimUpTo(reader, worker, 10)).deliveries).toHaveLength(3);
});

test("the limits of the newest policy hold at once, and without limits nothing is left of them", async () => {
  const reader = await makeLimited({ rateLimit: perHour(1, 1), keyRateLimit: perHour(1, 1) });
  const worker = await makeWorker(engine, [reader]);
  await say(reader, ["a", "a", "a", "b"]);
  expect((await claimUpTo(reader, worker, 10)).deliveries).toHaveLength(1);
  await declare(reader.name, { keyRateLimit: perHour(1, 1) });
  const claimed = await claimUpTo(reader, worker, 10);
  expect(claimed.deliveries.map(({ key }) => key)).toEqual(["a", "b"]);
  expect(claimed.aside).toBe(1);
  await declare(reader.name, {});
  expect((await takeUpTo(reader, worker, 10)).deliveries.map(({ key }) => key)).toEqual(["a"]);
  for (const table of ["permit", "run_limit", "key_permit"]) {
    const count = `select count(*) from posthorn.${table} where subscription = $1`;
    expect(await engine.admin.value(count, [reader.subscription])).toBe("0");
  }
});

test("messages of a key over its rate are put aside in their order without an attempt, and others pass them", async () => {
  const reader = await makeLimited({ keyRateLimit: perHour(60, 1) });
  const worker = await makeWorker(engine, [reader]);
  const [, second, third, , fifth] = await say(reader, ["a", "a", "a", "b", "a"]);
  const claimed = await claimUpTo(reader, worker, 10);
  expect(claimed.deliveries.map(({ key }) => key)).toEqual(["a", "b"]);
  expect(claimed.aside).toBe(3);
  const waiting = await engine.admin.rows(
    `select message, attempts, crashes, reason, round(extract(epoch from due_at - clock_timestamp()) / 60)::int as minutes
       from posthorn.deferred where subscription = $1 order by due_at`,
    [reader.subscription],
  );
  const common = { attempts: 0, crashes: 0, reason: "throttled" };
  expect(waiting).toEqual([
    { ...common, message: second, minutes: 1 },
    { ...common, message: third, minutes: 2 },
    { ...common, message: fifth, minutes: 3 },
  ]);
  expect((await takeUpTo(reader, worker, 10)).deliveries).toEqual([]);
  for (const id of [second, third, fifth]) {
    await passes(reader, 60_000);
    expect((await takeUpTo(reader, worker, 10)).deliveries.map((one) => one.id)).toEqual([id]);
  }
});

test("messages of a key that come one by one keep to its rate", async () => {
  const reader = await makeLimited({ keyRateLimit: perHour(60, 1) });
  const worker = await makeWorker(engine, [reader]);
  await say(reader, ["a"]);
  expect((await claimUpTo(reader, worker, 10)).deliveries).toHaveLength(1);
  await say(reader, ["a", "b"]);
  expect((await claimUpTo(reader, worker, 10)).deliveries.map(({ key }) => key)).toEqual(["b"]);
});

test("a message that comes while others of its key are in line stands behind them", async () => {
  const reader = await makeLimited({ keyRateLimit: perHour(60, 1) });
  const worker = await makeWorker(engine, [reader]);
  const [, second] = await say(reader, ["a", "a"]);
  await claimUpTo(reader, worker, 10);
  await passes(reader, 59_000);
  const [late] = await say(reader, ["a"]);
  expect((await claimUpTo(reader, worker, 10)).deliveries).toEqual([]);
  await passes(reader, 2_000);
  expect((await takeUpTo(reader, worker, 10)).deliveries.map(({ id }) => id)).toEqual([second]);
  await passes(reader, 60_000);
  expect((await takeUpTo(reader, worker, 10)).deliveries.map(({ id }) => id)).toEqual([late]);
});

test("a line that nobody worked on for a day does not burst, and keeps its order", async () => {
  const reader = await makeLimited({ keyRateLimit: perHour(60, 1) });
  const worker = await makeWorker(engine, [reader]);
  const ids = await say(
    reader,
    Array.from({ length: 8 }, () => "a"),
  );
  await claimUpTo(reader, worker, 10);
  await passes(reader, 24 * 3_600_000);
  const taken: string[] = [];
  for (let minute = 0; minute < 7; minute += 1) {
    const { deliveries } = await takeUpTo(reader, worker, 10);
    expect(deliveries).toHaveLength(1);
    taken.push(...deliveries.map(({ id }) => id));
    expect((await takeUpTo(reader, worker, 10)).deliveries).toEqual([]);
    await passes(reader, 60_000);
  }
  expect(taken).toEqual(ids.slice(1));
});

test("a key that floods does not keep others waiting: they are claimed in the same call", async () => {
  const reader = await makeLimited({ keyRateLimit: perHour(60, 1) });
  const worker = await makeWorker(engine, [reader]);
  await say(reader, [...Array.from({ length: 100 }, () => "flood"), "b", "c"]);
  const keys: (string | null)[] = [];
  for (let calls = 0; calls < 3; calls += 1) {
    keys.push(...(await claimUpTo(reader, worker, 10)).deliveries.map(({ key }) => key));
  }
  expect(keys).toEqual(["flood", "b", "c"]);
});

for (const idempotency of ["handler", "transaction", "at-most-once"] as const) {
  test(`what was put aside of a claim stays so when its worker dies, and what it held is freed (${idempotency})`, async () => {
    const reader = await makeLimited({ keyConcurrency: 1 }, idempotency);
    const worker = await makeWorker(engine, [reader]);
    await say(reader, ["a", "a", "b"]);
    const { deliveries, aside } = await claimUpTo(reader, worker, 10);
    expect([deliveries.length, aside]).toEqual([2, 1]);
    await die(engine, worker);
    expect(await rescueAll(engine.db)).toBe(2);
    const rows = "select key, crashes, reason from posthorn.deferred where subscription = $1 order by message";
    expect(await engine.admin.rows(rows, [reader.subscription])).toEqual([
      { key: "a", crashes: idempotency === "at-most-once" ? 0 : 1, reason: "crashed" },
      { key: "a", crashes: 0, reason: "throttled" },
      { key: "b", crashes: idempotency === "at-most-once" ? 0 : 1, reason: "crashed" },
    ]);
  });

  test(`a claim of which all was put aside is closed (${idempotency})`, async () => {
    const reader = await makeLimited({ keyConcurrency: 1 }, idempotency);
    const worker = await makeWorker(engine, [reader]);
    await say(reader, ["a"]);
    await claimUpTo(reader, worker, 10);
    await say(reader, ["a", "a"]);
    expect((await claimUpTo(reader, worker, 10)).deliveries).toEqual([]);
    const open = "select count(*) from posthorn.open_claims() c where c.subscription = $1";
    expect(await engine.admin.value(open, [reader.subscription])).toBe("1");
  });
}

test("no more run in the fleet than its concurrency, and those of a dead worker count until it is rescued", async () => {
  const reader = await makeLimited({ fleetConcurrency: 3 });
  const [first, second] = [await makeWorker(engine, [reader]), await makeWorker(engine, [reader])];
  await say(reader, upTo(10).map(String));
  const held = await claimUpTo(reader, first, 2);
  expect(held.deliveries).toHaveLength(2);
  const other = await claimUpTo(reader, second, 10);
  expect(other.deliveries).toHaveLength(1);
  expect(other.waitMs).toBeGreaterThan(0);
  expect(await claimUpTo(reader, second, 10)).toMatchObject({ deliveries: [], missed: false });
  await settle(engine.db, [part(held.deliveries.slice(0, 1), 1, "succeeded", false)], [], null);
  expect((await claimUpTo(reader, second, 10)).deliveries).toHaveLength(1);
  expect((await claimUpTo(reader, second, 10)).deliveries).toEqual([]);
  await die(engine, first);
  expect((await claimUpTo(reader, second, 10)).deliveries).toEqual([]);
  expect(await rescueAll(engine.db)).toBe(1);
  expect((await takeUpTo(reader, second, 10)).deliveries).toHaveLength(1);
  expect((await takeUpTo(reader, second, 10)).deliveries).toEqual([]);
  expect((await claimUpTo(reader, second, 10)).deliveries).toEqual([]);
});

test("what ran before a queue had limits counts, and so does what ended in its handler's transaction", async () => {
  const reader = await makeLimited({}, "transaction");
  const worker = await makeWorker(engine, [reader]);
  await say(reader, upTo(5).map(String));
  const [first] = (await claimUpTo(reader, worker, 2)).deliveries;
  if (first === undefined) throw new Error("nothing was claimed");
  await declare(reader.name, { fleetConcurrency: 2 }, "transaction");
  expect((await claimUpTo(reader, worker, 10)).deliveries).toEqual([]);
  const session = await engine.session();
  await session.rows("begin");
  await endInTransaction(session, first, await startedAt(session), null);
  await session.rows("commit");
  expect((await claimUpTo(reader, worker, 10)).deliveries).toHaveLength(1);
});

test("no more of a key run than its concurrency; the next in line begins when one has ended", async () => {
  const reader = await makeLimited({ keyConcurrency: 1 });
  const worker = await makeWorker(engine, [reader]);
  const ids = await say(reader, ["a", "a", "a", "b"]);
  const held = await claimUpTo(reader, worker, 10);
  expect(held.deliveries.map(({ key }) => key)).toEqual(["a", "b"]);
  await passes(reader, 60_000);
  expect((await takeUpTo(reader, worker, 10)).deliveries).toEqual([]);
  // The first part says what was put aside.
  await settle(engine.db, [part(held.deliveries, 2, "succeeded", true)], [], null);
  await passes(reader, 60_000);
  const next = await takeUpTo(reader, worker, 10);
  expect(next.deliveries.map(({ id }) => id)).toEqual([ids[1]]);
  await passes(reader, 60_000);
  expect((await takeUpTo(reader, worker, 10)).deliveries).toEqual([]);
  await settle(
    engine.db,
    [],
    next.deliveries.map((delivery) => end(delivery, "succeeded", null)),
    null,
  );
  await passes(reader, 60_000);
  expect((await takeUpTo(reader, worker, 10)).deliveries.map(({ id }) => id)).toEqual([ids[2]]);
});

test("a message that comes when its key has room, while others of it are in line, does not pass them", async () => {
  const reader = await makeLimited({ keyConcurrency: 1 });
  const worker = await makeWorker(engine, [reader]);
  const [, second] = await say(reader, ["a", "a"]);
  const held = await claimUpTo(reader, worker, 10);
  await settle(engine.db, [part(held.deliveries, 2, "succeeded", true)], [], null);
  // Nothing of the key runs. The one in line is not due yet, and would be next.
  await passes(reader, -60_000);
  const [late] = await say(reader, ["a"]);
  expect((await claimUpTo(reader, worker, 10)).deliveries).toEqual([]);
  await passes(reader, 3_600_000);
  const next = await takeUpTo(reader, worker, 10);
  expect(next.deliveries.map(({ id }) => id)).toEqual([second]);
  const ends = next.deliveries.map((delivery) => end(delivery, "succeeded", null));
  await settle(engine.db, [], ends, null);
  await passes(reader, 3_600_000);
  expect((await takeUpTo(reader, worker, 10)).deliveries.map(({ id }) => id)).toEqual([late]);
});

test("whichever of a key comes to be due, the oldest of those that were put aside goes", async () => {
  const reader = await makeLimited({ keyRateLimit: perHour(60, 1) });
  const worker = await makeWorker(engine, [reader]);
  const [, second, third] = await say(reader, ["a", "a", "a"]);
  await claimUpTo(reader, worker, 10);
  await passes(reader, 60_000);
  // Where several stand in line anew, or a limit has changed, times can come in another order than the messages.
  await engine.admin.rows(
    `update posthorn.deferred set due_at = clock_timestamp() + case when message = $2 then -1 else 1 end * interval '1 minute'
      where subscription = $1`,
    [reader.subscription, third],
  );
  expect((await takeUpTo(reader, worker, 10)).deliveries.map(({ id }) => id)).toEqual([second]);
});

test("claims that were closed are looked at no more: what is counted for a limit of the fleet does not grow with the past", async () => {
  const reader = await makeLimited({ fleetConcurrency: 5 });
  const worker = await makeWorker(engine, [reader]);
  const listed = () =>
    engine.admin.value("select max(cardinality(open_claims)) from posthorn.permit where subscription = $1", [
      reader.subscription,
    ]);
  for (const _ of upTo(12)) {
    await say(reader, ["a", "b"]);
    const { deliveries } = await claimUpTo(reader, worker, 10);
    expect(deliveries).toHaveLength(2);
    await settle(engine.db, [part(deliveries, 1, "succeeded", true)], [], null);
  }
  expect(Number(await listed())).toBeLessThanOrEqual(1);
});

test("a retry of a key waits for its key's limit like everything of it, and stays a retry", async () => {
  const reader = await makeLimited({ keyRateLimit: perHour(60, 1) });
  const worker = await makeWorker(engine, [reader]);
  await say(reader, ["a"]);
  const { deliveries } = await claimUpTo(reader, worker, 10);
  await settle(
    engine.db,
    [part(deliveries, 1, "failed", true)],
    deliveries.map((one) => end(one, "failed", retryNow)),
    null,
  );
  expect((await takeUpTo(reader, worker, 10)).deliveries).toEqual([]);
  await passes(reader, 60_000);
  expect((await takeUpTo(reader, worker, 10)).deliveries).toMatchObject([{ attempts: 1 }]);
});

test("the state of a rate is found at once also while an open transaction keeps all of its dead rows", async () => {
  const reader = await makeLimited({ rateLimit: { messages: 1_000_000, perMs: 1_000, burst: 1_000 } });
  const worker = await makeWorker(engine, [reader]);
  const holder = await engine.session();
  await holder.rows("begin isolation level repeatable read");
  await holder.rows("select 1 from posthorn.permit");
  await say(reader, upTo(2_000).map(String));
  let claimed = 0;
  while (claimed < 2_000) claimed += (await claimUpTo(reader, worker, 10)).deliveries.length;
  const plan =
    "explain (analyze, buffers, format json) select * from posthorn.permit where subscription = $1 order by n desc limit 1";
  await engine.admin.rows("set enable_seqscan = off");
  const [row] = await engine.admin.rows(plan, [reader.subscription]);
  await engine.admin.rows("reset enable_seqscan");
  const text = JSON.stringify(row);
  const buffers =
    Number(/"Shared Hit Blocks":(\d+)/.exec(text)?.[1]) + Number(/"Shared Read Blocks":(\d+)/.exec(text)?.[1]);
  await holder.rows("rollback");
  expect(buffers).toBeLessThan(10);
});

test("keys that nothing limits any more are forgotten", async () => {
  const reader = await makeLimited({ keyRateLimit: perHour(60, 1) });
  const worker = await makeWorker(engine, [reader]);
  await say(reader, ["a", "b"]);
  await claimUpTo(reader, worker, 10);
  const count = "select count(*) from posthorn.key_permit where subscription = $1";
  await engine.admin.rows("select posthorn.forget_keys(1000)");
  expect(await engine.admin.value(count, [reader.subscription])).toBe("2");
  await passes(reader, 3_600_000);
  await engine.admin.rows("select posthorn.forget_keys(1000)");
  expect(await engine.admin.value(count, [reader.subscription])).toBe("0");
});
