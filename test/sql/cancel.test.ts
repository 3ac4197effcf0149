import { afterAll, beforeAll, expect, test } from "vitest";
import type { Executor } from "../../src/core/database.js";
import { cancelMessage, cancelRequests } from "../../src/store/cancel.js";
import { type Place, publicId, writeMessages } from "../../src/store/publish.js";
import { prune } from "../../src/store/results.js";
import { messageStatus } from "../../src/store/status.js";
import { type Delivery, peek, settle, takeDue as take, work } from "../../src/store/work.js";
import { eventually } from "../support/eventually.js";
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
  startedAt,
  upTo,
  waitsForLock,
} from "./engine.js";

let engine: Engine;
let queues = 0;
beforeAll(async () => {
  engine = await openEngine();
});
afterAll(() => engine.close());

async function queue(idempotency: "handler" | "transaction" | "at-most-once" = "handler") {
  queues += 1;
  const reader = await makeQueue(engine, `cancel${queues}`, idempotency);
  return { reader, worker: await makeWorker(engine, [reader]) };
}

/** Says messages with the payloads { m: 1 … count }. */
function say(reader: Reader, count: number, executor: Parameters<typeof writeMessages>[0] = engine.db) {
  return writeMessages(
    executor,
    upTo(count).map((m) => ({ ...outgoing(reader), json: JSON.stringify({ m }) })),
  );
}

const cancel = (place: Place | undefined, by = "somebody", executor: Executor = engine.db) =>
  cancelMessage(executor, publicId(place ?? { id: "0", nonce: "0" }), by);

async function stateOf(place: Place | undefined): Promise<unknown> {
  const found = await messageStatus(engine.db, publicId(place ?? { id: "0", nonce: "0" }));
  return found?.[0]?.state ?? "unknown";
}

const count = async (table: string, { subscription }: Reader) =>
  Number(
    await engine.admin.value(`select count(*)::int from posthorn.${table} where subscription = $1`, [subscription]),
  );

/** Everything that is left, claimed in pieces. */
async function drain({ reader, worker }: { reader: Reader; worker: string }, piece: number): Promise<number[]> {
  const got: number[] = [];
  for (;;) {
    const { deliveries } = await work(engine.db, reader.subscription, worker, piece, []);
    if (deliveries.length === 0) return got;
    got.push(...deliveries.map(numberOf));
    await settle(engine.db, [part(deliveries, 1, "succeeded", true)], [], null);
  }
}

test("messages cancelled in the log are left out by claims of every size, and their marks are used up", async () => {
  for (const piece of [1, 3, 100]) {
    const { reader, worker } = await queue();
    const places = await say(reader, 10);
    for (const n of [0, 1, 4, 8, 9]) expect(await cancel(places[n])).toBe("cancelled");
    expect(await count("cancel_mark", reader)).toBe(5);
    expect(await drain({ reader, worker }, piece)).toEqual([3, 4, 6, 7, 8]);
    expect(await count("cancel_mark", reader)).toBe(0);
    expect(await Promise.all([places[0], places[2], places[9]].map(stateOf))).toEqual([
      "cancelled",
      "succeeded",
      "cancelled",
    ]);
  }
});

test("where all that waits was cancelled, the position moves on: a claim gives nothing, leaves nothing open, and the next peek is not ready", async () => {
  const { reader, worker } = await queue();
  const places = await say(reader, 3);
  for (const place of places) await cancel(place);
  const ready = async () => (await peek(engine.db, worker, [reader.subscription], null, false)).ready;
  expect(await ready()).toEqual([reader.subscription]);
  expect((await work(engine.db, reader.subscription, worker, 10, [])).deliveries).toEqual([]);
  expect(await ready()).toEqual([]);
  expect(
    await engine.admin.value("select count(*)::int from posthorn.open_claims() where subscription = $1", [
      reader.subscription,
    ]),
  ).toBe(0);
  const [after] = await say(reader, 1);
  expect(await drain({ reader, worker }, 10)).toEqual([1]);
  expect([await stateOf(places[1]), await stateOf(after)]).toEqual(["cancelled", "succeeded"]);
  await die(engine, worker);
  expect(await rescueAll(engine.db)).toBe(0);
});

test("a message that commits late, below ids that were claimed, can be cancelled, and those beside it are delivered", async () => {
  const { reader, worker } = await queue();
  const late = await engine.session();
  await late.rows("begin");
  const places = await say(reader, 3, late);
  await say(reader, 1);
  expect(await drain({ reader, worker }, 10)).toEqual([1]);
  expect(await stateOf(places[1])).toBe("unknown");
  expect((await failure(cancel(places[1]))).code).toBe("PH_UNKNOWN_MESSAGE");
  await late.rows("commit");
  expect(await cancel(places[1])).toBe("cancelled");
  expect((await drain({ reader, worker }, 1)).sort()).toEqual([1, 3]);
  expect(await count("cancel_mark", reader)).toBe(0);
});

test("a cancel waits for the claim that is under way, and then finds the message running: it is never both cancelled and run", async () => {
  // Goal: the position is looked at in a later statement than the lane's lock is taken in; with one snapshot for both the mark came too late.
  const { reader, worker } = await queue();
  const [place] = await say(reader, 1);
  const [claimer, canceller] = [await engine.session(), await engine.session()];
  await claimer.rows("begin");
  const { deliveries } = await work(claimer, reader.subscription, worker, 10, []);
  const cancelling = cancel(place, "late", canceller);
  await waitsForLock(engine, canceller);
  await claimer.rows("commit");
  expect([await cancelling, deliveries.length, await stateOf(place)]).toEqual(["signalled", 1, "running"]);
  expect(await count("cancelled", reader)).toBe(0);
});

test("a claim that is tried while a cancel holds the lane misses, and then leaves the message out", async () => {
  const { reader, worker } = await queue();
  const places = await say(reader, 2);
  const canceller = await engine.session();
  await canceller.rows("begin");
  expect(await cancel(places[0], "early", canceller)).toBe("cancelled");
  expect(await work(engine.db, reader.subscription, worker, 10, [])).toMatchObject({ missed: true, deliveries: [] });
  await canceller.rows("commit");
  expect((await claim(engine.db, reader, worker)).map(numberOf)).toEqual([2]);
});

test("with many claimers and many who cancel at once, every message is either run or cancelled, never both and never neither", async () => {
  // Method: 4 sessions claim small batches while 4 cancel every message, each in its own order; what was answered is held against what was run.
  const { reader, worker } = await queue();
  const places = await say(reader, 400);
  const ran = new Set<number>();
  const answers = new Map<number, string[]>();
  let open = true;
  const claimer = async (session: Session) => {
    while (open) {
      const { deliveries } = await work(session, reader.subscription, worker, 7, []);
      for (const delivery of deliveries) {
        expect(ran.has(numberOf(delivery))).toBe(false);
        ran.add(numberOf(delivery));
      }
      if (deliveries.length > 0) await settle(session, [part(deliveries, 1, "succeeded", true)], [], null);
    }
  };
  const canceller = async (session: Session, first: number) => {
    // From the end, so that it meets the claimers in the middle; and each leaves some out.
    for (let m = places.length - first; m > 0; m -= 3) {
      const answer = await cancel(places[m - 1], "racer", session);
      answers.set(m, [...(answers.get(m) ?? []), answer]);
    }
  };
  const sessions = await Promise.all(upTo(8).map(() => engine.session()));
  const claimers = sessions.slice(4).map(claimer);
  await Promise.all(sessions.slice(0, 4).map((session, i) => canceller(session, i % 2)));
  await eventually(async () => !(await peek(engine.db, worker, [reader.subscription], null, false)).ready.length);
  open = false;
  await Promise.all(claimers);
  const wrong = upTo(places.length).filter((m) => {
    const cancelled = answers.get(m)?.includes("cancelled") ?? false;
    return cancelled === ran.has(m);
  });
  expect(wrong).toEqual([]);
  const cancelled = [...answers.values()].filter((given) => given.includes("cancelled")).length;
  expect([cancelled > 0, ran.size > 0, cancelled + ran.size]).toEqual([true, true, places.length]);
  expect([await count("cancelled", reader), await count("cancel_mark", reader)]).toEqual([cancelled, 0]);
  for (const [m, given] of answers)
    if (given.includes("cancelled")) expect(await stateOf(places[m - 1])).toBe("cancelled");
});

async function deferredOne(next = retryNow) {
  const { reader, worker } = await queue();
  const places = await say(reader, 1);
  const deliveries = await claim(engine.db, reader, worker);
  const [first] = deliveries;
  if (first === undefined) throw new Error("nothing was claimed");
  await settle(engine.db, [part(deliveries, 1, "failed", true)], [end(first, "failed", next)], null);
  const taking = () => take(engine.db, reader.subscription, worker, [reader.contract], 10);
  return { reader, worker, place: places[0], taking };
}

test("a message that waits for its next attempt is removed, and its history stays for as long as a dead letter would", async () => {
  const { reader, place, taking } = await deferredOne();
  expect(await cancel(place, "an operator")).toBe("cancelled");
  expect(await taking()).toMatchObject({ deliveries: [] });
  expect(await messageStatus(engine.db, publicId(place as Place))).toMatchObject([
    {
      state: "cancelled",
      delivery: 2,
      attempts: 1,
      reason: "between two attempts, by an operator",
      history: [{ outcome: "failed" }],
    },
  ]);
  expect(await cancel(place)).toBe("cancelled");
  expect(await count("cancelled", reader)).toBe(1);
});

test("of a take and a cancel that meet on a waiting message one gets it: the other waits and then knows", async () => {
  const { reader, worker, place } = await deferredOne();
  const [taker, canceller] = [await engine.session(), await engine.session()];
  await taker.rows("begin");
  const { deliveries: taken } = await take(taker, reader.subscription, worker, [reader.contract], 10);
  const cancelling = cancel(place, "late", canceller);
  await waitsForLock(engine, canceller);
  await taker.rows("commit");
  expect([taken.length, await cancelling]).toEqual([1, "signalled"]);
  const other = await deferredOne();
  await canceller.rows("begin");
  expect(await cancel(other.place, "early", canceller)).toBe("cancelled");
  expect((await other.taking()).deliveries).toEqual([]);
  await canceller.rows("commit");
  expect((await other.taking()).deliveries).toEqual([]);
});

async function running(idempotency: "handler" | "transaction" | "at-most-once" = "handler") {
  const { reader, worker } = await queue(idempotency);
  const places = await say(reader, 1);
  const deliveries = await claim(engine.db, reader, worker);
  const [delivery] = deliveries;
  if (delivery === undefined) throw new Error("nothing was claimed");
  return { reader, worker, place: places[0], deliveries, delivery };
}

test("a running message is asked to stop once, however often one asks, and its worker learns of it", async () => {
  const { reader, worker, place, delivery } = await running();
  expect([await cancel(place), await cancel(place)]).toEqual(["signalled", "signalled"]);
  expect(await cancelRequests(engine.db, worker)).toEqual([[reader.subscription, delivery.id]]);
  expect((await peek(engine.db, worker, [], null, true)).cancels).toBe(true);
  const stranger = await queue();
  expect((await peek(engine.db, stranger.worker, [], null, true)).cancels).toBe(false);
  expect((await messageStatus(engine.db, publicId(place as Place)))?.[0]).toMatchObject({
    state: "running",
    cancelRequestedAt: expect.any(String),
  });
});

test.each([
  ["a failure with a retry", "failed", retryNow, "cancelled"],
  ["the last failure", "failed", giveUp, "cancelled"],
  ["a hand-back", "released", retryNow, "cancelled"],
  ["a schema that it does not fit", "invalid", { invalid: [{ message: "no" }] }, "invalid"],
  ["success", "succeeded", null, "succeeded"],
  [
    "an outcome that is unknown",
    "failed",
    { dead: { reason: "outcome unknown", keepMs: 1e6, attempts: 1, crashes: 0 } },
    "dead",
  ],
] as const)(
  "a running message that was asked to stop and ends by %s is then as it should be, and nothing is left of the request",
  async (_what, outcome, next, state) => {
    const { reader, place, deliveries, delivery } = await running();
    await cancel(place, "me");
    const ends = next === null ? [] : [end(delivery, outcome, next)];
    await settle(engine.db, [part(deliveries, 1, outcome, true)], ends, null);
    expect(await stateOf(place)).toBe(state);
    expect(await count("deferred", reader)).toBe(0);
    await prune(engine.db, 0, 100);
    expect(await count("cancel_request", reader)).toBe(0);
    expect(await cancel(place)).toBe(state === "cancelled" ? "cancelled" : "too-late");
    expect(await stateOf(place)).toBe(state);
  },
);

test("a delivery from the waiting list that was asked to stop and fails is cancelled, and not taken again", async () => {
  const { reader, place, taking } = await deferredOne();
  const [taken] = (await taking()).deliveries;
  if (taken === undefined) throw new Error("nothing was taken");
  expect(await cancel(place)).toBe("signalled");
  await settle(engine.db, [], [end(taken, "failed", { defer: { delayMs: 0, attempts: 2, crashes: 0 } })], null);
  expect(await messageStatus(engine.db, publicId(place as Place))).toMatchObject([{ state: "cancelled", attempts: 2 }]);
  expect([await count("deferred", reader), await count("cancel_request", reader), (await taking()).deliveries]).toEqual(
    [0, 0, []],
  );
  expect((await failure(settle(engine.db, [], [end(taken, "succeeded", null)], null))).code).toBe("PH_CLAIM_LOST");
});

test("a message whose worker died after somebody asked to cancel it is cancelled by the rescuer; one at most once that may have begun is dead", async () => {
  const fine = await running("transaction");
  await cancel(fine.place);
  await die(engine, fine.worker);
  await rescueAll(engine.db);
  expect([await stateOf(fine.place), await count("deferred", fine.reader)]).toEqual(["cancelled", 0]);
  const once = await running("at-most-once");
  await settle(engine.db, [part(once.deliveries, 1, "begun", false)], [], null);
  await cancel(once.place);
  await die(engine, once.worker);
  await rescueAll(engine.db);
  expect([await stateOf(once.place), await count("cancel_request", once.reader)]).toEqual(["dead", 0]);
});

test("a request that is made while the failed run is being settled is not lost: the message is not taken again", async () => {
  // Goal: the settlement cannot see a request that commits after it has looked; who would run it next does.
  const { reader, worker, place, deliveries, delivery } = await running();
  const settler = await engine.session();
  await settler.rows("begin");
  await settle(settler, [part(deliveries, 1, "failed", true)], [end(delivery, "failed", retryNow)], null);
  expect(await cancel(place, "in between")).toBe("signalled");
  await settler.rows("commit");
  expect(await stateOf(place)).toBe("retrying");
  expect(await take(engine.db, reader.subscription, worker, [reader.contract], 10)).toMatchObject({ deliveries: [] });
  expect([await stateOf(place), await count("cancel_request", reader), await count("deferred", reader)]).toEqual([
    "cancelled",
    0,
    0,
  ]);
});

test("without anybody who takes it, the pass of maintenance ends such a message", async () => {
  const { reader, place, deliveries, delivery } = await running();
  const settler = await engine.session();
  await settler.rows("begin");
  await settle(settler, [part(deliveries, 1, "failed", true)], [end(delivery, "failed", retryNow)], null);
  await cancel(place, "in between");
  await settler.rows("commit");
  await prune(engine.db, 0, 100);
  expect([await stateOf(place), await count("cancel_request", reader)]).toEqual(["cancelled", 0]);
});

test("a cancel that meets the end of a handler's transaction is signalled, and the success stands", async () => {
  const { reader, place, delivery } = await running("transaction");
  const handler = await engine.session();
  await handler.rows("begin");
  await endInTransaction(handler, delivery, await startedAt(handler), null);
  expect(await cancel(place)).toBe("signalled");
  await handler.rows("commit");
  expect([await stateOf(place), await cancel(place)]).toEqual(["succeeded", "too-late"]);
  await prune(engine.db, 0, 100);
  expect([await stateOf(place), await count("cancel_request", reader)]).toEqual(["succeeded", 0]);
});

test("what a redrive brings back is not cancelled by a request of its earlier life", async () => {
  const { reader, worker, place, deliveries, delivery } = await running();
  await settle(engine.db, [part(deliveries, 1, "failed", true)], [end(delivery, "failed", giveUp)], null);
  expect(await cancel(place)).toBe("too-late");
  await engine.admin.rows(
    "select posthorn.redrive(json_build_object('list', 'dead-letters', 'message', $1::text), 'me', 1)",
    [publicId(place as Place)],
  );
  expect(
    (await take(engine.db, reader.subscription, worker, [reader.contract], 10)).deliveries.map(
      ({ id }: Delivery) => id,
    ),
  ).toEqual([place?.id]);
});

test("an event, a stranger's id and a transaction that has written something are refused by name", async () => {
  queues += 1;
  const [reader] = await makeTopic(engine, `facts${queues}`, [`facts-reader-${queues}`]);
  const [fact] = reader === undefined ? [] : await say(reader, 1);
  expect((await failure(cancel(fact))).code).toBe("PH_WRONG_KIND");
  const queued = await queue();
  const [place] = await say(queued.reader, 1);
  if (place === undefined) throw new Error("nothing was said");
  expect((await failure(cancel({ id: place.id, nonce: "1" }))).code).toBe("PH_UNKNOWN_MESSAGE");
  const session = await engine.session();
  await session.rows("begin");
  await session.rows("create table scratch (n int)");
  expect((await failure(cancel(place, "me", session))).code).toBe("PH_NOT_ALONE");
  await session.rows("rollback");
  expect(await stateOf(place)).toBe("queued");
  expect(await session.value("select posthorn.cancel($1)", [publicId(place)])).toBe("cancelled");
  expect(
    await engine.admin.value("select cancelled_by = current_user from posthorn.cancelled where message = $1", [
      place.id,
    ]),
  ).toBe(true);
});

test("what was cancelled is told for as long as a dead letter would be, and no longer counts as backlog", async () => {
  const { reader } = await queue();
  const [place] = await say(reader, 1);
  await cancel(place);
  const kept =
    "select extract(epoch from keep_until - cancelled_at)::int from posthorn.cancelled where subscription = $1";
  expect(await engine.admin.value(kept, [reader.subscription])).toBe(60);
  expect(
    await engine.admin.value("select backlog::int from posthorn.gauges(100) where subscription = $1", [
      reader.subscription,
    ]),
  ).toBe(0);
  await engine.admin.rows("update posthorn.cancelled set keep_until = '-infinity' where subscription = $1", [
    reader.subscription,
  ]);
  await prune(engine.db, 0, 100);
  expect(await count("cancelled", reader)).toBe(0);
});
