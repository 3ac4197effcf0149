import { beforeEach, expect, test } from "vitest";
import { watch } from "../../src/store/fleet.js";
import { crossedAlerts } from "../../src/store/operate.js";
import { publicId } from "../../src/store/publish.js";
import { declareRetention, rotate, unknownMessage } from "../../src/store/segments.js";
import { messageStatus } from "../../src/store/status.js";
import { why } from "../../src/store/why.js";
import { type Delivery, settle, work } from "../../src/store/work.js";
import {
  type Engine,
  end,
  makeQueue,
  makeTopic,
  makeWorker,
  numberOf,
  openEngine,
  part,
  type Reader,
  retryNow,
  say,
  upTo,
} from "./engine.js";
import { keepNothing, ringOf, rowsOf, turn } from "./rotation.js";

let engine: Engine;
beforeEach(async () => {
  engine = await openEngine();
  return () => engine.close();
});

async function handleAll(reader: Reader, worker: string): Promise<readonly Delivery[]> {
  const handled: Delivery[] = [];
  for (;;) {
    const { deliveries } = await work(engine.db, reader.subscription, worker, 10, []);
    if (deliveries.length === 0) return handled;
    handled.push(...deliveries);
    await settle(engine.db, [part(deliveries, 1, "succeeded", true)], [], null);
  }
}

/** A message that is said, handled, and gone with its segment. */
async function gone(reader: Reader, worker: string): Promise<string> {
  await say(engine.db, reader, [1]);
  const [one] = await handleAll(reader, worker);
  if (one === undefined) throw new Error("one was said");
  expect(await turn(engine)).toContain("truncated");
  return publicId(one);
}

const older = (interval: string) =>
  engine.admin.rows(
    `update posthorn.segment set opened_at = opened_at - $1::interval, closed_at = closed_at - $1::interval, sealed_at = sealed_at - $1::interval`,
    [interval],
  );

test("nothing rotates before a worker has said what is kept; a process that says nothing leaves what others said", async () => {
  const reader = await makeQueue(engine, "said");
  await say(engine.db, reader, [1]);
  await older("100 years");
  expect(await turn(engine)).toEqual([]);
  await declareRetention(engine.db, { keepMs: 1_000, maxBytes: 2_000 }, "first", false);
  await declareRetention(engine.db, { keepMs: 3_000, maxBytes: 4_000 }, "silent", false);
  const kept = () => engine.admin.rows("select keep_ms, max_bytes::int, declared_by from posthorn.retention");
  expect(await kept()).toEqual([{ keep_ms: 1_000, max_bytes: 2_000, declared_by: "first" }]);
  await declareRetention(engine.db, { keepMs: 3_000, maxBytes: 4_000 }, "loud", true);
  expect(await kept()).toEqual([{ keep_ms: 3_000, max_bytes: 4_000, declared_by: "loud" }]);
});

test("a segment is closed at a quarter of the time that is kept, and truncated when all of it was kept for that time", async () => {
  const reader = await makeQueue(engine, "aged");
  const worker = await makeWorker(engine, [reader]);
  await declareRetention(engine.db, { keepMs: 3_600_000, maxBytes: 1e12 }, "test", true);
  await say(engine.db, reader, [1]);
  await handleAll(reader, worker);
  await older("14 minutes");
  expect(await turn(engine)).toEqual([]);
  await older("1 minute");
  expect(await turn(engine)).toEqual(
    expect.arrayContaining(["opened", "moved", "switched", "sealed", "advanced"].filter((step) => step !== "moved")),
  );
  expect((await ringOf(engine)).slots).toEqual([1, 2]);
  await older("59 minutes");
  expect(await turn(engine)).toEqual([]);
  await older("1 minute");
  expect(await turn(engine)).toEqual(["finished", "truncated"]);
  expect((await ringOf(engine)).slots).toEqual([2]);
});

test("a segment is closed at a quarter of the size that is kept; above the whole size the oldest goes sooner, and a full log keeps what waits", async () => {
  const reader = await makeQueue(engine, "sized");
  const worker = await makeWorker(engine, [reader]);
  await declareRetention(engine.db, { keepMs: 3_600_000, maxBytes: 4_000_000 }, "test", true);
  const fill =
    "insert into posthorn.message_%s (xid, id, nonce, published_at, channel, lane, contract, payload) select pg_current_xact_id(), nextval('posthorn.message_id'), 1, clock_timestamp(), $1, 0, $2, json_build_object('m', 1, 'x', repeat(md5(g::text), 30)) from generate_series(1, 1000) g";
  const filled = async () => {
    const { slot } = await ringOf(engine);
    await engine.admin.rows(fill.replace("%s", String(slot)), [reader.channel, reader.contract]);
  };
  await filled();
  await handleAll(reader, worker);
  expect(await turn(engine)).toContain("switched");
  for (const _ of upTo(3)) {
    await filled();
    await turn(engine);
  }
  expect((await ringOf(engine)).first, "the first goes, the others wait to be handled").toBe(2);
  expect(await rowsOf(engine, "message")).toBe(3_000);
  await handleAll(reader, worker);
  await turn(engine);
  const bytes = Number(await engine.admin.value("select sum(bytes) from posthorn.segments where state <> 'empty'"));
  expect(bytes).toBeLessThan(4_000_000);
});

test("a topic is kept for its own time, whatever the size, and only segments that hold something of it", async () => {
  const [reader] = await makeTopic(engine, "Facts", ["facts"]);
  const queue = await makeQueue(engine, "beside");
  if (reader === undefined) throw new Error("one was made");
  const worker = await makeWorker(engine, [reader, queue]);
  await engine.admin.rows("update posthorn.channel set keep_ms = 3600000 where id = $1", [reader.channel]);
  await declareRetention(engine.db, { keepMs: 60_000, maxBytes: 1 }, "test", true);
  const round = async (of: Reader, number: number) => {
    await say(engine.db, of, [number]);
    await handleAll(of, worker);
    await older("15 minutes");
    return turn(engine);
  };
  const began = await engine.admin.value("select clock_timestamp()");
  await round(reader, 1);
  await round(queue, 2);
  await round(queue, 3);
  expect((await ringOf(engine)).first).toBe(1);
  expect(
    await engine.admin.value("select posthorn.oldest_kept($1) < $2::timestamptz + interval '1 minute'", [
      reader.channel,
      began,
    ]),
  ).toBe(true);
  expect(
    await engine.admin.rows("select state, kept_until is not null as known from posthorn.segments where slot = 1"),
  ).toEqual([{ state: "kept", known: true }]);
  await older("60 minutes");
  await turn(engine);
  expect(await engine.admin.value("select posthorn.oldest_kept($1)", [reader.channel])).toBe(null);
});

test("when all eight segments are in use the newest grows, an alert says what pins the oldest, and it is over when that is gone", async () => {
  const [busy, gone] = await makeTopic(engine, "Full", ["busy", "gone"]);
  if (busy === undefined || gone === undefined) throw new Error("two were made");
  const worker = await makeWorker(engine, [busy]);
  await keepNothing(engine);
  for (const round of upTo(12)) {
    await say(engine.db, busy, [round]);
    await handleAll(busy, worker);
    await turn(engine);
  }
  expect(await ringOf(engine)).toMatchObject({ slots: upTo(8), slot: 8, first: 1 });
  expect(await engine.admin.value("select count(*)::int from posthorn.message_8")).toBe(5);
  expect(await rotate(engine.db)).toMatchObject({ did: null });
  const says =
    /^The log grows in its newest segment, because all eight are in use\. The oldest, closed at .*, is pinned: "gone" has not taken all of its messages: have a worker work on it, or remove it\.$/;
  const alert = {
    alert: "segmentsInUse",
    subscription: null,
    value: 8,
    threshold: 8,
    detail: expect.stringMatching(says),
  };
  expect(await crossedAlerts(engine.db)).toEqual([{ ...alert, raisedAt: null, detailAt: null }]);
  expect(await watch(engine.db, 0)).toEqual([{ ...alert, change: "raised" }]);
  expect(await watch(engine.db, 0)).toEqual([]);
  expect(await crossedAlerts(engine.db)).toMatchObject([{ ...alert, raisedAt: expect.any(String) }]);
  const shown = await engine.admin.rows("select slot, state, pinned_by from posthorn.segments order by slot");
  expect(shown.map(({ state }) => state)).toEqual([...Array(7).fill("pinned"), "active"]);
  await engine.admin.rows("delete from posthorn.lane where subscription = $1", [gone.subscription]);
  await engine.admin.rows("delete from posthorn.subscription where id = $1", [gone.subscription]);
  await turn(engine);
  expect((await ringOf(engine)).slots).toHaveLength(1);
  expect(await watch(engine.db, 0)).toMatchObject([{ change: "resolved", alert: "segmentsInUse", subscription: null }]);
  expect(await engine.admin.rows("select subscription, alert from posthorn.alerts")).toEqual([
    { subscription: null, alert: "segmentsInUse" },
  ]);
});

test("an open transaction that pins a segment is named", async () => {
  const reader = await makeQueue(engine, "held");
  const worker = await makeWorker(engine, [reader]);
  await keepNothing(engine);
  const holder = await engine.session();
  await holder.rows("begin");
  await holder.rows("select pg_current_xact_id()");
  await say(engine.db, reader, [1]);
  await handleAll(reader, worker);
  await turn(engine);
  const [shown] = await engine.admin.rows("select state, pinned_by from posthorn.segments where slot = 1");
  expect(shown).toMatchObject({
    state: "pinned",
    pinned_by: [
      expect.stringMatching(
        new RegExp(
          `^the transaction of backend ${holder.pid} is open since .*: select pg_terminate_backend\\(${holder.pid}\\) ends it$`,
        ),
      ),
    ],
  });
  await holder.rows("rollback");
  expect(await turn(engine)).toContain("truncated");
});

test("a message that is gone with its segment is told apart from one that never was", async () => {
  const reader = await makeQueue(engine, "gone");
  const worker = await makeWorker(engine, [reader]);
  await keepNothing(engine);
  const id = await gone(reader, worker);
  expect(await messageStatus(engine.db, id)).toBe(null);
  expect(await why(engine.db, id)).toBe(null);
  expect(await unknownMessage(engine.db, id)).toMatchObject({ code: "PH_MESSAGE_FORGOTTEN" });
  expect(await unknownMessage(engine.db, "999-00c0ffee00c0ffee")).toMatchObject({ code: "PH_UNKNOWN_MESSAGE" });
  await expect(engine.admin.rows("select posthorn.cancel($1)", [id])).rejects.toMatchObject({ code: "PH032" });
  await expect(engine.admin.rows("select posthorn.cancel('999-00c0ffee00c0ffee')")).rejects.toMatchObject({
    code: "PH030",
  });
});

test("a result that is kept longer than its message still says that it succeeded, and what waits says what it waits for", async () => {
  const reader = await makeQueue(engine, "results");
  const worker = await makeWorker(engine, [reader]);
  await keepNothing(engine);
  await say(engine.db, reader, [1, 2]);
  const { deliveries } = await work(engine.db, reader.subscription, worker, 10, []);
  const [one, two] = deliveries;
  if (one === undefined || two === undefined) throw new Error("two were said");
  const result = { result: { text: '{"done":true}', keepMs: 60_000 } };
  const parts = [part([one], 1, "succeeded", false), part([two], 2, "failed", true)];
  await settle(engine.db, parts, [end(one, "succeeded", result), end(two, "failed", retryNow)], null);
  expect(await turn(engine)).toContain("truncated");
  expect(await messageStatus(engine.db, publicId(one))).toMatchObject([
    { subscription: "results", state: "succeeded", result: { done: true } },
  ]);
  expect(await messageStatus(engine.db, publicId(two))).toMatchObject([{ state: "retrying", contract: "Doresults" }]);
  expect(await why(engine.db, publicId(two))).toMatchObject({ contract: "Doresults" });
});

test("the server counts no dead row in the log after a thousand messages, also where a snapshot is held and across rotations", async () => {
  const reader = await makeQueue(engine, "dead");
  const worker = await makeWorker(engine, [reader]);
  await declareRetention(engine.db, { keepMs: 0, maxBytes: 1e12 }, "test", true);
  const holder = await engine.session();
  await holder.rows("begin isolation level repeatable read");
  await holder.rows("select 1 from posthorn.ring");
  for (const round of upTo(10)) {
    await say(engine.db, reader, upTo(100, round * 100));
    const handled = await handleAll(reader, worker);
    expect(handled.map(numberOf)).toHaveLength(100);
    await turn(engine);
  }
  // The figures of this session are told with its end.
  const session = await engine.session();
  await say(session, reader, [1]);
  await session.close();
  await engine.db.query("select pg_stat_clear_snapshot()");
  const figures = () =>
    engine.admin.rows(
      "select sum(n_tup_ins)::int as inserted, sum(n_dead_tup)::int as dead, sum(n_tup_upd)::int as updated, sum(n_tup_del)::int as deleted from pg_stat_user_tables where schemaname = 'posthorn' and relname ~ '^(message|claim|settlement|ending|tick)_[1-8]$'",
    );
  await expect.poll(async () => Number((await figures())[0]?.inserted)).toBeGreaterThan(1_100);
  expect(await figures()).toMatchObject([{ dead: 0, updated: 0, deleted: 0 }]);
  await holder.rows("rollback");
});
