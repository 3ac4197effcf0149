import { beforeEach, expect, test } from "vitest";
import { writeMessages } from "../../src/store/publish.js";
import { registerSubscription } from "../../src/store/registry.js";
import { rotate } from "../../src/store/segments.js";
import { type Delivery, settle, spill, takeDue, work } from "../../src/store/work.js";
import {
  claim,
  die,
  type Engine,
  end,
  endInTransaction,
  failure,
  giveUp,
  makeQueue,
  makeTopic,
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
import { keepNothing, pinsOf, ringOf, rowsOf, turn } from "./rotation.js";

let engine: Engine;
beforeEach(async () => {
  engine = await openEngine();
  await keepNothing(engine);
  return () => engine.close();
});

async function handleAll(reader: Reader, worker: string): Promise<number[]> {
  const numbers: number[] = [];
  for (;;) {
    const { deliveries } = await work(engine.db, reader.subscription, worker, 10, []);
    if (deliveries.length === 0) return numbers;
    numbers.push(...deliveries.map(numberOf));
    await settle(engine.db, [part(deliveries, 1, "succeeded", true)], [], null);
  }
}

const truncates = async () => (await turn(engine)).includes("truncated");

/** Ends a delivery in a transaction of its own, as a handler does. */
async function endIn(session: Session, delivery: Delivery): Promise<void> {
  await session.rows("begin");
  await endInTransaction(session, delivery, await startedAt(session), null);
  await session.rows("commit");
}

test("a segment that nobody needs is truncated, its slot is used again, and no message is lost on seven rounds of the ring", async () => {
  const reader = await makeQueue(engine, "rounds");
  const worker = await makeWorker(engine, [reader]);
  for (const round of upTo(60)) {
    await say(engine.db, reader, [round]);
    expect(await handleAll(reader, worker)).toEqual([round]);
    expect(await truncates()).toBe(true);
  }
  expect(await ringOf(engine)).toEqual({ slots: [(60 % 8) + 1], slot: (60 % 8) + 1, first: 61 });
  for (const table of ["message", "claim", "settlement"] as const) expect(await rowsOf(engine, table)).toBe(0);
});

test("an idle reader pins nothing; one that nobody works does, and lets go when its messages were handled", async () => {
  const [idle, busy, abandoned] = await makeTopic(engine, "Pins", ["idle", "busy", "abandoned"]);
  const other = await makeQueue(engine, "other");
  if (idle === undefined || busy === undefined || abandoned === undefined) throw new Error("three were made");
  const worker = await makeWorker(engine, [idle, busy, abandoned, other]);
  await say(engine.db, other, [1]);
  await handleAll(other, worker);
  expect(await truncates(), "three readers without a message").toBe(true);
  await say(engine.db, busy, [2]);
  await handleAll(idle, worker);
  await handleAll(busy, worker);
  await turn(engine);
  expect(await pinsOf(engine)).toEqual([
    '"abandoned" has not taken all of its messages: have a worker work on it, or remove it',
  ]);
  expect(await rowsOf(engine, "message")).toBe(1);
  expect(await handleAll(abandoned, worker)).toEqual([2]);
  expect(await truncates()).toBe(true);
});

test("a claim that is open pins the segment that it lies in", async () => {
  const reader = await makeQueue(engine, "open");
  const worker = await makeWorker(engine, [reader]);
  await say(engine.db, reader, [1]);
  const held = await claim(engine.db, reader, worker);
  await turn(engine);
  expect(await pinsOf(engine)).toEqual(['"open" has messages of it that run']);
  await settle(engine.db, [part(held, 1, "succeeded", true)], [], null);
  expect(await truncates()).toBe(true);
});

test("a claim in a later segment pins the one that its messages lie in, and a rescue still finds them there", async () => {
  const reader = await makeQueue(engine, "behind");
  const worker = await makeWorker(engine, [reader]);
  await say(engine.db, reader, [1]);
  await turn(engine);
  const held = await claim(engine.db, reader, worker);
  const [first] = held;
  expect(first?.hold).toMatchObject({ claimSlot: 2, messageSlot: 1 });
  await turn(engine);
  expect(await pinsOf(engine)).toEqual(['"behind" has messages of it that run']);
  await die(engine, worker);
  expect(await rescueAll(engine.db)).toBe(1);
  expect(await truncates()).toBe(true);
  const again = await takeDue(
    engine.db,
    reader.subscription,
    await makeWorker(engine, [reader]),
    [reader.contract],
    10,
  );
  expect(again.deliveries.map(numberOf)).toEqual([1]);
});

test("a message that commits long after its segment was closed is delivered once, and pins it until then", async () => {
  const reader = await makeQueue(engine, "late");
  const worker = await makeWorker(engine, [reader]);
  const writer = await engine.session();
  await writer.rows("begin");
  await say(writer, reader, [1]);
  await say(engine.db, reader, [2]);
  await handleAll(reader, worker);
  for (const number of [3, 4]) {
    expect(await truncates()).toBe(false);
    await say(engine.db, reader, [number]);
    expect(await handleAll(reader, worker)).toEqual([number]);
  }
  await writer.rows("commit");
  await turn(engine);
  expect(await pinsOf(engine)).toEqual([
    '"late" has not taken all of its messages: have a worker work on it, or remove it',
  ]);
  expect(await handleAll(reader, worker)).toEqual([1]);
  expect(await truncates()).toBe(true);
});

test.each(["repeatable read", "serializable"])(
  "a producer at %s that still sees the old ring writes into the old segment, which is there for it",
  async (level) => {
    // Goal: a transaction that has written nothing, and so has no id, chooses its slot by the picture of the ring that it has.
    // Method: its snapshot is older than eight turns of the ring; each would truncate the slot that it is going to write to, and use it anew.
    const reader = await makeQueue(engine, "snapshot");
    const worker = await makeWorker(engine, [reader]);
    const writer = await engine.session();
    await writer.rows(`begin isolation level ${level}`);
    await writer.rows("select slot from posthorn.ring");
    for (const round of upTo(9)) {
      await say(engine.db, reader, [round]);
      await handleAll(reader, worker);
      expect(await turn(engine)).not.toContain("truncated");
    }
    await say(writer, reader, [100]);
    await writer.rows("commit");
    expect(await engine.admin.value("select count(*)::int from posthorn.message_1 where payload ->> 'm' = '100'")).toBe(
      1,
    );
    expect(await handleAll(reader, worker)).toEqual([100]);
    await turn(engine);
    expect((await ringOf(engine)).slots).toHaveLength(1);
  },
);

/**
 * Goal: a producer has chosen its slot and has no id yet when the edge goes by; so its id is above that of the edge, and no snapshot is left once its
 * statement has ended.
 * Method: its insert hangs at a lock of the table, proven by pg_blocking_pids, while the log goes on to the next slot. Then it writes, and stays open.
 */
async function straddle(reader: Reader): Promise<Session> {
  await say(engine.db, reader, [1]);
  await handleAll(reader, await makeWorker(engine, [reader]));
  const [writer, gate] = [await engine.session(), await engine.session()];
  await gate.rows("begin");
  await gate.rows("lock table posthorn.message_1 in exclusive mode");
  await writer.rows("begin");
  const writing = say(writer, reader, [2]);
  await waitsForLock(engine, writer);
  expect(await turn(engine)).toEqual(["opened", "switched"]);
  await gate.rows("commit");
  await writing;
  expect(await turn(engine)).toEqual(["sealed"]);
  return writer;
}

test("a producer whose statement straddles the edge is waited for until it has ended", async () => {
  const [reader] = await makeTopic(engine, "Straddle", ["straddle"]);
  if (reader === undefined) throw new Error("one was made");
  const writer = await straddle(reader);
  await writer.rows("commit");
  await turn(engine);
  expect(await handleAll(reader, await makeWorker(engine, [reader]))).toEqual([2]);
  expect(await truncates()).toBe(true);
});

test("a reader that registers beside it gets its message, though all others are done with the segment before the registration commits", async () => {
  const [first] = await makeTopic(engine, "Beside", ["beside-first"]);
  if (first === undefined) throw new Error("one was made");
  const writer = await straddle(first);
  const joiner = await engine.session();
  await joiner.rows("begin");
  const entry = {
    name: "beside-second",
    kind: "event",
    channel: "Beside",
    idempotency: "handler",
    policy: "{}",
  } as const;
  const second = await registerSubscription(joiner, entry, "test");
  // The last statement with parameters keeps its snapshot until the next one.
  await joiner.rows("select 1");
  await writer.rows("commit");
  expect(await handleAll(first, await makeWorker(engine, [first]))).toEqual([2]);
  expect(await turn(engine)).toContain("finished");
  await joiner.rows("commit");
  await turn(engine);
  const reader = { ...first, ...second };
  expect(await handleAll(reader, await makeWorker(engine, [reader]))).toEqual([2]);
  expect(await truncates()).toBe(true);
});

test("a prepared transaction pins the segment that it wrote to", async () => {
  const reader = await makeQueue(engine, "prepared");
  const worker = await makeWorker(engine, [reader]);
  const writer = await engine.session();
  await writer.rows("begin");
  await say(writer, reader, [1]);
  await writer.rows("prepare transaction 'rotation'");
  await say(engine.db, reader, [2]);
  await handleAll(reader, worker);
  expect(await truncates()).toBe(false);
  expect(await engine.admin.value("select prepared from posthorn.horizon()")).toBe("rotation");
  await writer.rows("commit prepared 'rotation'");
  await turn(engine);
  expect(await handleAll(reader, worker)).toEqual([1]);
  expect(await truncates()).toBe(true);
});

test("a reader that registers while a segment is about to go gets what commits after it began", async () => {
  // Goal: a new reader needs what was under way when it began, also from segments that all other readers are done with.
  // Method: its registration and a message are both under way while rotations go by.
  const [first] = await makeTopic(engine, "Joins", ["joins-first"]);
  if (first === undefined) throw new Error("one was made");
  const worker = await makeWorker(engine, [first]);
  const [writer, joiner] = [await engine.session(), await engine.session()];
  await writer.rows("begin");
  await say(writer, first, [1]);
  await joiner.rows("begin");
  const second = await registerSubscription(
    joiner,
    { name: "joins-second", kind: "event", channel: "Joins", idempotency: "handler", policy: "{}" },
    "test",
  );
  await writer.rows("commit");
  await handleAll(first, worker);
  expect(await truncates()).toBe(false);
  await joiner.rows("commit");
  await turn(engine);
  const reader = { ...first, ...second };
  expect(await handleAll(reader, await makeWorker(engine, [reader]))).toEqual([1]);
  expect(await truncates()).toBe(true);
});

test.each(["message", "claim", "settlement", "ending", "tick"])(
  "a truncation never waits for whoever touches %s_1, and nobody waits behind it",
  async (table) => {
    const reader = await makeQueue(engine, "nowait");
    const worker = await makeWorker(engine, [reader]);
    await say(engine.db, reader, [1]);
    await handleAll(reader, worker);
    const holder = await engine.session();
    await holder.rows("begin");
    await holder.rows(`lock table posthorn.${table}_1 in access share mode`);
    const body = String(await engine.admin.value("select prosrc from pg_proc where proname = 'lock_slot'"));
    expect(body.match(/in access exclusive mode nowait;/g)).toHaveLength(8);
    // It comes as far as the lock, gives up at once, and says that it is to be tried again.
    expect(await turn(engine)).toContain("finished");
    expect(await rotate(engine.db)).toMatchObject({ did: null, pending: true });
    expect(await rowsOf(engine, "message")).toBe(1);
    await holder.rows("commit");
    expect(await truncates()).toBe(true);
  },
);

/**
 * Goal: a stale holder is fenced when the row that fenced it is gone with its segment.
 * Method: transaction mode; the message lies in one segment and its claim in the next, which something else pins. Its worker dies, and a rescuer ends
 * the delivery beside the message. That segment is there still, is truncated, or is used anew. Then the holder wants to commit its success, and to
 * settle its failure.
 */
test.each([
  ["is there", 0, 1],
  ["is truncated", 1, 0],
  ["is used anew", 7, 0],
])("a holder that was rescued cannot end its message when the segment of the message %s", async (_, turns, left) => {
  const reader = await makeQueue(engine, "stale", "transaction");
  const worker = await makeWorker(engine, [reader]);
  await say(engine.db, reader, [1]);
  await turn(engine);
  const [held] = await claim(engine.db, reader, worker);
  if (held === undefined) throw new Error("one was said");
  expect(held.hold).toMatchObject({ claimSlot: 2, messageSlot: 1 });
  await say(engine.db, await makeQueue(engine, "pin"), [1]);
  await die(engine, worker);
  expect(await rescueAll(engine.db)).toBe(1);
  const filler = await makeQueue(engine, "filler");
  const filling = await makeWorker(engine, [filler]);
  for (const round of upTo(turns)) {
    await say(engine.db, filler, [round]);
    await handleAll(filler, filling);
    await turn(engine);
  }
  const there = "select count(*)::int from posthorn.message_1 where channel = $1";
  expect(await engine.admin.value(there, [reader.channel])).toBe(left);
  expect(await engine.admin.value("select count(*)::int from posthorn.claim_2 where id = $1", [idOf(held)])).toBe(1);
  expect((await ringOf(engine)).slot === 1).toBe(turns === 7);
  const session = await engine.session();
  await expect(endIn(session, held)).rejects.toMatchObject({ code: "PH_CLAIM_LOST" });
  await session.rows("rollback");
  const failed = settle(engine.db, [], [end(held, "failed", retryNow, true)], null);
  expect(await failure(failed)).toMatchObject({ code: "PH_CLAIM_LOST" });
  const again = await takeDue(
    engine.db,
    reader.subscription,
    await makeWorker(engine, [reader]),
    [reader.contract],
    10,
  );
  expect(again.deliveries.map(numberOf)).toEqual([1]);
});

function idOf({ hold }: Delivery): string {
  if (hold.from !== "log") throw new Error("it is not from the log");
  return hold.claim;
}

test("a message that runs outside of its claim pins the segment that its end belongs to", async () => {
  const reader = await makeQueue(engine, "spilled", "transaction");
  const worker = await makeWorker(engine, [reader]);
  await writeMessages(engine.db, [{ ...outgoing(reader), key: "k", json: '{"m":1}' }]);
  const [held] = await claim(engine.db, reader, worker);
  if (held?.hold.from !== "log") throw new Error("one was said");
  const { claim: id, claimSlot: slot, token } = held.hold;
  // Its handler's transaction has ended it under the first hold; the move comes before its COMMIT.
  const handler = await engine.session();
  await handler.rows("begin");
  await endInTransaction(handler, held, await startedAt(handler), null);
  await spill(engine.db, [], {
    claim: id,
    slot,
    token,
    part: 1,
    closes: true,
    worker,
    running: [held.id],
    waiting: [],
  });
  await handler.rows("commit");
  await turn(engine);
  expect(await pinsOf(engine)).toEqual(["messages of it run, apart from those around them"]);
  await die(engine, worker);
  await rescueAll(engine.db);
  expect(await engine.admin.value("select count(*)::int from posthorn.deferred")).toBe(0);
  expect(await truncates()).toBe(true);
});

test("what waits or died outlives its segment: retries, redrives and their ends, each once", async () => {
  const reader = await makeQueue(engine, "outlives", "transaction");
  const worker = await makeWorker(engine, [reader]);
  await say(engine.db, reader, [1, 2]);
  const [one, two] = await claim(engine.db, reader, worker);
  if (one === undefined || two === undefined) throw new Error("two were said");
  await settle(engine.db, [], [end(one, "failed", retryNow, true), end(two, "failed", giveUp, true)], null);
  await settle(engine.db, [part([one, two], 1, null, true)], [], null);
  expect(await truncates()).toBe(true);
  await engine.admin.rows(`select posthorn.redrive('{"list":"dead-letters","subscription":"outlives"}', 'test', 10)`);
  const { deliveries } = await takeDue(engine.db, reader.subscription, worker, [reader.contract], 10);
  expect(deliveries.map(numberOf).sort()).toEqual([1, 2]);
  const session = await engine.session();
  for (const delivery of deliveries) {
    await endIn(session, delivery);
    await expect(endIn(session, delivery)).rejects.toMatchObject({ code: "PH_CLAIM_LOST" });
    await session.rows("rollback");
  }
  expect(await engine.admin.value("select count(*)::int from posthorn.deferred")).toBe(0);
  expect(await rowsOf(engine, "ending")).toBe(2);
});

test("a claim reads the slots that its lane has not done with, whatever else is kept", async () => {
  // History is kept; a reader that is far behind has its messages there.
  const [fast, slow] = await makeTopic(engine, "Kept", ["fast", "slow"]);
  if (fast === undefined || slow === undefined) throw new Error("two were made");
  const worker = await makeWorker(engine, [fast, slow]);
  for (const round of upTo(4)) {
    await say(engine.db, fast, [round]);
    await handleAll(fast, worker);
    await turn(engine);
  }
  const froms = await engine.admin.rows(
    "select s.name, l.read_from::int as read, l.held_from::int as held from posthorn.lane l join posthorn.subscription s on s.id = l.subscription order by 1",
  );
  expect(froms).toEqual([
    { name: "fast", read: 5, held: 5 },
    { name: "slow", read: 1, held: 1 },
  ]);
  expect(await handleAll(slow, worker)).toEqual([1, 2, 3, 4]);
});
