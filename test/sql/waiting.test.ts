/**
 * Goal: an operator gets the ids of the oldest messages that have not ended, whatever state they are in and wherever they lie, and pays for what is shown,
 * not for what waits.
 * Method: messages are brought into each state by the statements of workers; what is listed is held against what each message says of itself.
 */
import { afterAll, beforeAll, expect, test } from "vitest";
import { registerContract, registerSubscription } from "../../src/store/registry.js";
import { messageStatus } from "../../src/store/status.js";
import { type UnendedState, type WaitingMessage, waitingMessages } from "../../src/store/waiting.js";
import { settle, takeDue, work } from "../../src/store/work.js";
import {
  claim,
  type Engine,
  end,
  endInTransaction,
  failure,
  giveUp,
  makeQueue,
  makeTopic,
  makeWorker,
  openEngine,
  part,
  type Reader,
  retryNow,
  say,
  startedAt,
  upTo,
} from "./engine.js";
import { accessOf, openWatched, type WatchedSession } from "./explain.js";
import { makeRandom, seedOf } from "./random.js";
import { keepNothing, ringOf, turn } from "./rotation.js";

let engine: Engine;
beforeAll(async () => {
  engine = await openEngine();
});
afterAll(() => engine.close());

const listed = async (name: string, limit = 1_000, states?: readonly UnendedState[]) =>
  (await waitingMessages(engine.db, name, limit, states)).messages;
const idsOf = (messages: readonly WaitingMessage[]) => messages.map(({ message }) => message.split("-")[0]);
const statesOf = (messages: readonly WaitingMessage[]) => messages.map(({ state }) => state);
const later = { defer: { delayMs: 3_600_000, attempts: 1, crashes: 0 } } as const;

test("what waits in the log, runs, is tried again or waits for its time is listed in the order in which it was said; what has ended is not", async () => {
  const reader = await makeQueue(engine, "mixed");
  const worker = await makeWorker(engine, [reader]);
  const ids = await say(engine.db, reader, upTo(8));
  const held = await claim(engine.db, reader, worker, 5);
  const [done, failed, dead] = held;
  if (done === undefined || failed === undefined || dead === undefined) throw new Error("not all was claimed");
  await settle(engine.db, [part([done], 1, "succeeded", false)], [], null);
  const error = { name: "Error", message: "no\u001b[31m", code: "EFAIL", stack: "at here" };
  const entry = { attempt: 1, outcome: "failed", error };
  const ends = [{ ...end(failed, "failed", later), entry }, end(dead, "failed", giveUp)];
  await settle(engine.db, [part([failed, dead], 2, "failed", false)], ends, null);
  const listing = await waitingMessages(engine.db, "mixed", 20);
  expect(listing).toMatchObject({ name: "mixed", kind: "command", channel: "mixed", more: false });
  expect(idsOf(listing.messages)).toEqual([ids[1], ...ids.slice(3)]);
  expect(statesOf(listing.messages)).toEqual(["retrying", "running", "running", "queued", "queued", "queued"]);
  const [retrying, running, , queued] = listing.messages;
  expect(retrying).toMatchObject({
    contract: "Domixed",
    attempts: 1,
    delivery: 2,
    outcome: "failed",
    dueAt: expect.any(String),
  });
  expect(retrying?.error).toEqual({ name: "Error", message: error.message, code: "EFAIL" });
  expect(running).toMatchObject({ worker: { id: worker, host: "here" }, at: expect.any(String), attempts: 0 });
  expect(queued).not.toHaveProperty("worker");
  for (const { message, state } of listing.messages)
    expect(await messageStatus(engine.db, message)).toMatchObject([{ state }]);
  expect(await waitingMessages(engine.db, "mixed", 2)).toMatchObject({ more: true, messages: { length: 2 } });
  expect(statesOf(await listed("mixed", 20, ["queued", "retrying"]))).toEqual([
    "retrying",
    "queued",
    "queued",
    "queued",
  ]);
});

test("a delivery that was taken from what waits runs, and what is scheduled for later is listed only where it is asked for", async () => {
  const reader = await makeQueue(engine, "again");
  const worker = await makeWorker(engine, [reader]);
  const [first] = await say(engine.db, reader, [1]);
  const held = await claim(engine.db, reader, worker);
  await settle(
    engine.db,
    [part(held, 1, "failed", true)],
    held.map((one) => end(one, "failed", retryNow)),
    null,
  );
  expect(statesOf(await listed("again"))).toEqual(["retrying"]);
  await takeDue(engine.db, reader.subscription, worker, [reader.contract], 10);
  const [taken] = await listed("again");
  expect(taken).toMatchObject({ state: "running", delivery: 2, worker: { id: worker } });
  const sent = `select posthorn.send('Doagain', '{}'::json, options => json_build_object('delayMs', $1::int)) as id`;
  const planned = String(await engine.admin.value(sent, [3_600_000]));
  const due = String(await engine.admin.value(sent, [1]));
  await engine.admin.rows("update posthorn.deferred set due_at = clock_timestamp() where message = $1", [
    due.split("-")[0],
  ]);
  expect((await listed("again")).map(({ message }) => message.split("-")[0])).toEqual([first, due.split("-")[0]]);
  expect((await listed("again", 20, ["scheduled"])).map(({ message }) => message)).toEqual([planned, due]);
});

test("of a queue with priorities all are listed, in the order in which they were said and not in which they go", async () => {
  const reader = await makeQueue(engine, "urgent");
  const worker = await makeWorker(engine, [reader]);
  const ids: string[] = [];
  for (const priority of [0, 2, 1, 0, -2]) {
    const sent = "select posthorn.send('Dourgent', '{}'::json, options => json_build_object('priority', $1::int))";
    ids.push(String(await engine.admin.value(sent, [priority])));
  }
  const list = async () => (await listed("urgent")).map(({ message }) => message);
  expect(await list()).toEqual(ids);
  const { rows } = await engine.db.query<{ claimed: string }>(
    "select posthorn.claim_by_priority($1::int, $2::bigint, 2) as claimed",
    [reader.subscription, worker],
  );
  expect(rows[0]?.claimed).toContain('"claim"');
  expect(await list()).toEqual(ids);
  expect(statesOf(await listed("urgent")).filter((state) => state === "running").length).toBeGreaterThan(0);
  expect((await waitingMessages(engine.db, "urgent", 3)).messages.map(({ message }) => message)).toEqual(
    ids.slice(0, 3),
  );
});

test("a message that ended in its handler's transaction, and one that was cancelled before it began, are not listed although their claim or the log holds them", async () => {
  const reader = await makeQueue(engine, "ends", "transaction");
  const worker = await makeWorker(engine, [reader]);
  const ids = await say(engine.db, reader, upTo(4));
  const [done] = await claim(engine.db, reader, worker, 2);
  if (done === undefined) throw new Error("nothing was claimed");
  const session = await engine.session();
  await session.rows("begin");
  await endInTransaction(session, done, await startedAt(session), null);
  expect(idsOf(await listed("ends"))).toEqual(ids);
  await session.rows("commit");
  const [, , cancelled] = await listed("ends");
  expect(idsOf(await listed("ends"))).toEqual(ids.slice(1));
  expect(await engine.admin.value("select posthorn.cancel($1)", [(await listed("ends"))[1]?.message])).toBe(
    "cancelled",
  );
  expect(cancelled?.state).toBe("queued");
  expect(idsOf(await listed("ends"))).toEqual([ids[1], ids[3]]);
});

test("what is parked behind the first of its key is listed as parked, and each reader of a topic has a list of its own", async () => {
  const entry = {
    kind: "event",
    name: "OrderedHappened",
    version: 1,
    channel: "ordered",
    keyed: true,
    owner: null,
  } as const;
  const { contract, channel } = await registerContract(engine.db, entry, "test", true);
  const policy = (ordering: unknown) => JSON.stringify({ deadLetter: { keepMs: 60_000 }, ordering });
  const declared = { kind: "event", channel: "ordered", idempotency: "handler" } as const;
  const perKey = policy({ per: "key", whenDead: "park" });
  const [kept, other] = [
    await registerSubscription(engine.db, { ...declared, name: "kept", policy: perKey }, "test"),
    await registerSubscription(engine.db, { ...declared, name: "other", policy: policy("none") }, "test"),
  ];
  const reader: Reader = { subscription: kept.subscription, channel, contract };
  const worker = await makeWorker(engine, [reader, { ...reader, subscription: other.subscription }]);
  for (const key of ["a", "a", "b"])
    await engine.admin.rows("select posthorn.publish('OrderedHappened', '{}'::json, key => $1)", [key]);
  const held = await claim(engine.db, reader, worker, 1);
  await settle(
    engine.db,
    [part(held, 1, "failed", true)],
    held.map((one) => end(one, "failed", later)),
    null,
  );
  const next = await work(engine.db, reader.subscription, worker, 10, []);
  expect(next.deliveries).toHaveLength(1);
  const messages = await listed("kept");
  expect(messages.map(({ key, state }) => [key, state])).toEqual([
    ["a", "retrying"],
    ["a", "parked"],
    ["b", "running"],
  ]);
  expect(messages[1]).not.toHaveProperty("dueAt");
  expect(statesOf(await listed("other"))).toEqual(["queued", "queued", "queued"]);
});

test("a name that nobody knows and a state that does not wait are refused", async () => {
  expect(await failure(waitingMessages(engine.db, "nobody", 20))).toMatchObject({ code: "PH_NAME_UNKNOWN" });
  for (const states of ["{}", "{succeeded}", "{queued,null}"])
    await expect(
      engine.admin.rows("select posthorn.waiting_messages('mixed', 20, $1::text[])", [states]),
    ).rejects.toMatchObject({ code: "PH015" });
});

/**
 * Goal: of a log with lanes, into which transactions commit late and of which claims take a little at a time, the list holds each message that has not ended, once.
 * Method: random steps; after each the list is compared with all messages that the log holds and no claim has.
 */
test("whatever commits when, and however little a claim takes, the list is what nobody has claimed and what runs", async () => {
  const random = makeRandom(seedOf("waiting"));
  const [reader] = await makeTopic(engine, "Late", ["patient"]);
  if (reader === undefined) throw new Error("there is no reader");
  const worker = await makeWorker(engine, [reader]);
  const writers = await Promise.all(upTo(4).map(() => engine.session()));
  const open = new Set<(typeof writers)[number]>();
  const expected =
    "select m.id::text as id from posthorn.message_1 m where m.channel = $1 and not exists (select from posthorn.claim_1 c join posthorn.settlement_1 t on t.claim = c.id and t.closes where c.subscription = $2 and m.id = any (c.messages)) order by m.id";
  // What comes late is a matter of chance: steps are taken until enough has.
  let late = 0;
  for (let steps = 0; steps < 150 || (late <= 3 && steps < 1_500); steps++) {
    const writer = random.pick(writers);
    const what = random.int(0, 3);
    if (what === 0 && !open.has(writer)) {
      open.add(writer);
      await writer.rows("begin");
    }
    if (what <= 1) await say(writer, reader, upTo(random.int(1, 6)));
    if (what === 2 && open.delete(writer)) await writer.rows("commit");
    if (what === 3) {
      const { deliveries } = await work(engine.db, reader.subscription, worker, random.int(1, 4), []);
      if (deliveries.length > 0 && !random.oneIn(3))
        await settle(engine.db, [part(deliveries, 1, "succeeded", true)], [], null);
    }
    const rows = await engine.admin.rows(expected, [reader.channel, reader.subscription]);
    const messages = await listed("patient");
    expect(idsOf(messages)).toEqual(rows.map(({ id }) => id));
    const few = await waitingMessages(engine.db, "patient", 3);
    expect(idsOf(few.messages)).toEqual(rows.slice(0, 3).map(({ id }) => id));
    expect(few.more).toBe(rows.length > 3);
    const at = await engine.admin.value(
      "select count(*)::int from posthorn.claim_1 where subscription = $1 and took_late",
      [reader.subscription],
    );
    late = Number(at);
  }
  for (const writer of open) await writer.rows("commit");
  expect(late, "late messages were among them").toBeGreaterThan(3);
});

test("a message that moves while the list is read is listed once, from the log to a worker, to what waits, and to a worker again", async () => {
  const reader = await makeQueue(engine, "moving");
  const worker = await makeWorker(engine, [reader]);
  const ids = await say(engine.db, reader, upTo(300));
  let moving = true;
  const move = async (): Promise<void> => {
    for (let left = ids.length; left > 0; ) {
      const held = await claim(engine.db, reader, worker, 5);
      left -= held.length;
      const ends = held.map((one) => end(one, "failed", retryNow));
      await settle(engine.db, [part(held, 1, "failed", true)], ends, null);
      await takeDue(engine.db, reader.subscription, worker, [reader.contract], 5);
    }
    moving = false;
  };
  const lists = new Set<string>();
  const look = async (): Promise<void> => {
    const session = await engine.session();
    while (moving) lists.add(idsOf((await waitingMessages(session, "moving", 1_000)).messages).join(" "));
  };
  await Promise.all([move(), look()]);
  expect([...lists]).toEqual([ids.join(" ")]);
});

test("a message at most once that has begun runs until it has ended, and those of a claim of two segments are found in both", async () => {
  const other = await openEngine();
  const reader = await makeQueue(other, "segments", "at-most-once");
  const worker = await makeWorker(other, [reader]);
  const ids = [...(await say(other.db, reader, upTo(4)))];
  await keepNothing(other);
  await turn(other);
  expect((await ringOf(other)).slots.length).toBeGreaterThan(1);
  ids.push(...(await say(other.db, reader, upTo(4))));
  const list = async () => (await waitingMessages(other.db, "segments", 1_000)).messages;
  expect(idsOf(await list())).toEqual(ids);
  const held = [...(await claim(other.db, reader, worker, 6))];
  while (held.length < 6) held.push(...(await claim(other.db, reader, worker, 6 - held.length)));
  expect(statesOf(await list())).toEqual([...upTo(6).map(() => "running"), "queued", "queued"]);
  const [first] = held;
  const same = held.filter(
    ({ hold }) => hold.from === "log" && first?.hold.from === "log" && hold.claim === first.hold.claim,
  );
  await settle(other.db, [part(same.slice(0, 2), 1, "begun", false)], [], null);
  expect(idsOf(await list())).toEqual(ids);
  await settle(other.db, [part(same.slice(0, 1), 2, "succeeded", false)], [], null);
  expect(idsOf(await list())).toEqual(ids.slice(1));
  await other.close();
});

/**
 * Goal: a list costs what it shows, however much waits, whatever the statistics say.
 * Method: pages and plans with the statistics of empty tables, beside a little and beside much in the log and outside of it.
 */
test("the list is read by the indexes of the log and of what waits, and touches as many pages beside many messages as beside few", async () => {
  const reader = await makeQueue(engine, "many");
  const worker = await makeWorker(engine, [reader]);
  for (const name of ["message_1", "claim_1", "settlement_1", "deferred"]) {
    await engine.admin.rows(`alter table posthorn.${name} set (autovacuum_enabled = off)`);
    await engine.admin.rows(`analyze posthorn.${name}`);
  }
  const watched = await openWatched(engine.url);
  const list = "select posthorn.waiting_messages('many', 20)";
  await say(engine.db, reader, upTo(200));
  await claim(engine.db, reader, worker, 50);
  const pages: number[] = [];
  for (const [log, outside] of [
    [11_000, 11_000],
    [60_000, 40_000],
  ]) {
    await engine.admin.rows(
      `insert into posthorn.message_1 (xid, id, nonce, published_at, channel, lane, contract, payload)
       select pg_current_xact_id(), nextval('posthorn.message_id'), n, clock_timestamp(), $1::int, 0, $2::int, '{}' from generate_series(1, $3::int) n`,
      [reader.channel, reader.contract, log],
    );
    await engine.admin.rows(
      `insert into posthorn.deferred (subscription, due_at, delivery, attempts, crashes, reason, message, nonce, channel, lane, contract, payload, published_at, history)
       select $1::int, clock_timestamp() + n * interval '1 s', 2, 1, 0, 'failed', nextval('posthorn.message_id'), 1, $2::int, 0, $3::int, '{}', clock_timestamp(), '[]'
       from generate_series(1, $4::int) n`,
      [reader.subscription, reader.channel, reader.contract, outside],
    );
    await watched.rows(list);
    pages.push(await watched.pages(list));
  }
  const [few = 0, many = 0] = pages;
  process.stdout.write(`plans: pages of a list beside few ${few}, beside many ${many}\n`);
  expect(many).toBeLessThanOrEqual(Math.ceil(few * 1.2));
  await expectPlans(watched, list);
  await watched.close();
  // A session that plans with what there is.
  await engine.admin.rows("analyze posthorn.message_1, posthorn.claim_1, posthorn.settlement_1, posthorn.deferred");
  const fresh = await openWatched(engine.url);
  await expectPlans(fresh, list);
  expect(await fresh.pages(list)).toBeLessThanOrEqual(Math.ceil(few * 1.2));
  await fresh.close();
});

async function expectPlans(watched: WatchedSession, list: string): Promise<void> {
  const ran = await watched.watch(list);
  const ways = new Set(
    ran.flatMap(accessOf).filter((way) => /(?:message|claim|settlement|tick|ending)_\d|deferred/.test(way)),
  );
  expect([...ways].filter((way) => /Seq Scan|Bitmap/.test(way))).toEqual([]);
  // Joined with what is shown, it would be read from one end to the other.
  const read = ran.flatMap(({ nodes }) => nodes.map((node) => node["Actual Rows"] ?? 0));
  expect(Math.max(...read)).toBeLessThan(11_000);
  for (const index of [
    "message_1_by_id",
    "claim_1_by_id",
    "settlement_1_by_part",
    "deferred_subscription_message_key",
    "deferred_due",
  ])
    expect(
      [...ways].some((way) => way.endsWith(index)),
      index,
    ).toBe(true);
}
