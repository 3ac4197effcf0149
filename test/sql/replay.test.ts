import { afterAll, beforeAll, expect, test } from "vitest";
import { drive } from "../../src/maintenance/operation.js";
import { cancelMessage } from "../../src/store/cancel.js";
import { redrive } from "../../src/store/operate.js";
import { beginPurge, beginReplay, type Operation, proceed, unsettled } from "../../src/store/operations.js";
import { publicId, writeMessages } from "../../src/store/publish.js";
import { registerSubscription } from "../../src/store/registry.js";
import { backlog } from "../../src/store/status.js";
import { settle, takeDue, work } from "../../src/store/work.js";
import {
  claim,
  die,
  type Engine,
  end,
  endInTransaction,
  failure,
  giveUp,
  type Idempotency,
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
  say,
  startedAt,
  upTo,
} from "./engine.js";

let engine: Engine;
let queues = 0;
beforeAll(async () => {
  engine = await openEngine();
});
afterAll(() => engine.close());
const ann = { by: "ann", reason: "the index was lost" };

async function queue(idempotency: Idempotency = "handler") {
  queues += 1;
  const name = `replay${queues}`;
  const reader = await makeQueue(engine, name, idempotency);
  return { name, reader, worker: await makeWorker(engine, [reader]) };
}

const oldest = async ({ channel }: Reader): Promise<string> =>
  String(await engine.admin.value("select posthorn.oldest_kept($1::int)::text", [channel]));
const replay = async (name: string, reader: Reader): Promise<Operation> =>
  drive(engine.db, await beginReplay(engine.db, name, { from: await oldest(reader) }, ann, name));

/** Runs the handler of all that is due, in transaction mode: one row of effects for each. */
async function runDue({ reader, worker }: { reader: Reader; worker: string }): Promise<number[]> {
  const { deliveries } = await takeDue(engine.db, reader.subscription, worker, [reader.contract], 500);
  await settle(
    engine.db,
    [],
    deliveries.map((one) => end(one, "succeeded", null)),
    null,
  );
  return deliveries.map(numberOf);
}

test.each(["handler", "transaction", "at-most-once"] as const)(
  "in mode %s what was handled runs once more under a new delivery number, as often as it is replayed, and what was not is passed over",
  async (mode) => {
    const { name, reader, worker } = await queue(mode);
    const places = await writeMessages(
      engine.db,
      upTo(8).map((m) => ({ ...outgoing(reader), json: JSON.stringify({ m }) })),
    );
    await cancelMessage(engine.db, publicId(places[7] ?? { id: "0", nonce: "0" }), "ann");
    const held = await claim(engine.db, reader, worker, 5);
    const [one, two, three, dying, running] = held;
    if (!one || !two || !three || !dying || !running) throw new Error("five were said");
    const ends = mode === "transaction";
    await settle(
      engine.db,
      ends ? [] : [part([one, two, three], 1, "succeeded", false), part([dying], 2, "failed", false)],
      [
        ...(ends ? [one, two, three].map((done) => end(done, "succeeded", null, true)) : []),
        end(dying, "failed", giveUp, ends),
      ],
      null,
    );
    // Three succeeded, one is dead, one runs, two wait, one was cancelled.
    for (const delivery of [2, 3]) {
      expect(await replay(name, reader)).toMatchObject({
        state: "done",
        found: 8,
        done: 3,
        passed: { waiting: 3, ended: 2, unhandled: 0 },
      });
      // A second one finds them waiting.
      expect(await replay(name, reader)).toMatchObject({ done: 0, passed: { waiting: 6, ended: 2 } });
      const { deliveries } = await takeDue(engine.db, reader.subscription, worker, [reader.contract], 10);
      expect(deliveries.map(({ delivery, attempts }) => [delivery, attempts])).toEqual(
        upTo(3).map(() => [delivery, 0]),
      );
      expect(deliveries.map(numberOf)).toEqual([1, 2, 3]);
      await settle(
        engine.db,
        [],
        deliveries.map((again) => end(again, "succeeded", null)),
        null,
      );
    }
    // The first holder of what was replayed is as stale as before.
    const stale = ends ? [end(one, "failed", retryNow, true)] : [];
    const parts = ends ? [] : [part([one], 2, "succeeded", false)];
    expect(await failure(settle(engine.db, parts, stale, null))).toMatchObject({ code: "PH_CLAIM_LOST" });
  },
);

test("in transaction mode the effects of a replayed run are fenced: of two holders of it one commits", async () => {
  const { name, reader, worker } = await queue("transaction");
  await say(engine.db, reader, [1]);
  const [first] = await claim(engine.db, reader, worker, 1);
  if (first === undefined) throw new Error("one was said");
  const session = await engine.session();
  await session.rows("begin");
  await endInTransaction(session, first, await startedAt(session), null);
  await session.rows("commit");
  await replay(name, reader);
  const [again] = (await takeDue(engine.db, reader.subscription, worker, [reader.contract], 1)).deliveries;
  if (again === undefined) throw new Error("it was replayed");
  // Its worker dies; the message goes to another one while the old run still holds its transaction.
  await session.rows("begin");
  const started = await startedAt(session);
  await die(engine, worker);
  expect(await rescueAll(engine.db)).toBe(1);
  expect(await failure(endInTransaction(session, again, started, null))).toMatchObject({ code: "PH_CLAIM_LOST" });
  await session.rows("rollback");
  const next = await makeWorker(engine, [reader]);
  expect(await runDue({ reader, worker: next })).toEqual([1]);
  expect(await unsettled(engine.db, name)).toMatchObject({ waiting: 0, running: 0 });
});

test("what was skipped for lack of a handler is replayed where a worker has one, and passed over where none has", async () => {
  const [reader] = await makeTopic(engine, "replayed", ["reads"]);
  if (reader === undefined) throw new Error("one was made");
  const worker = await makeWorker(engine, [reader]);
  await say(engine.db, reader, upTo(3));
  const held = await claim(engine.db, reader, worker, 3);
  await settle(engine.db, [part(held, 1, "skipped", true)], [], null);
  await engine.admin.rows("update posthorn.attendance set contracts = '{-1}' where worker = $1", [worker]);
  expect(await replay("reads", reader)).toMatchObject({ done: 0, passed: { unhandled: 3 } });
  await engine.admin.rows("update posthorn.attendance set contracts = $2 where worker = $1", [
    worker,
    [reader.contract],
  ]);
  expect(await replay("reads", reader)).toMatchObject({ done: 3, passed: { unhandled: 0 } });
  expect(await runDue({ reader, worker })).toEqual([1, 2, 3]);
});

test("bounds that make no sense, what is older than what is kept, a missing confirmation, and a reader that nobody works on are refused", async () => {
  const { name, reader, worker } = await queue();
  const begin = (from: string, to?: string, confirm: string | null = name) =>
    failure(beginReplay(engine.db, name, { from, to }, ann, confirm));
  await say(engine.db, reader, upTo(2));
  const from = await oldest(reader);
  // As after the removal of a segment.
  await engine.admin.rows(
    "insert into posthorn.retention (keep_ms, max_bytes, declared_by, forgotten_until) values (1, 1, 'test', $1)",
    [from],
  );
  const tooOld = await begin("2020-01-01T00:00:00Z");
  expect(tooOld).toMatchObject({ code: "PH_NOT_KEPT", facts: { oldestKept: expect.any(String) } });
  expect(tooOld.message).toMatch(/is kept from .+ on, and the replay would begin at 2020-01-01/);
  await engine.admin.rows("delete from posthorn.retention");
  expect(await begin(from, "2020-01-01T00:00:00Z")).toMatchObject({ code: "PH_OPTION_INVALID" });
  expect(await begin("2100-01-01T00:00:00Z")).toMatchObject({ code: "PH_OPTION_INVALID" });
  expect(await begin(from, "2100-01-01T00:00:00Z")).toMatchObject({ code: "PH_OPTION_INVALID" });
  expect(await begin(from, undefined, null)).toMatchObject({ code: "PH_CONFIRMATION_MISSING" });
  expect(await failure(beginReplay(engine.db, name, { from, contract: "DoNothing" }, ann, name))).toMatchObject({
    code: "PH_NAME_UNKNOWN",
  });
  await die(engine, worker);
  expect(await begin(from)).toMatchObject({ code: "PH_NO_WORKER" });
});

test("where order is kept, replayed messages of a key run one after the other, in the order in which they were said", async () => {
  const { name, reader, worker } = await queue();
  const policy = JSON.stringify({ ordering: { per: "key", whenDead: "park" } });
  await registerSubscription(
    engine.db,
    { name, kind: "command", channel: name, idempotency: "handler", policy },
    "test",
  );
  await writeMessages(
    engine.db,
    upTo(12).map((m) => ({ ...outgoing(reader), key: m % 2 === 0 ? "even" : "odd", json: JSON.stringify({ m }) })),
  );
  const held = await claim(engine.db, reader, worker, 12);
  await settle(engine.db, [part(held, 1, "succeeded", true)], [], null);
  expect(await replay(name, reader)).toMatchObject({ done: 12 });
  const order: number[] = [];
  for (let round = 0; round < 20 && order.length < 12; round += 1) {
    const { deliveries } = await takeDue(engine.db, reader.subscription, worker, [reader.contract], 50);
    expect(new Set(deliveries.map(({ key }) => key)).size).toBe(deliveries.length);
    order.push(...deliveries.map(numberOf));
    await settle(
      engine.db,
      [],
      deliveries.map((one) => end(one, "succeeded", null)),
      null,
    );
    await engine.admin.rows('select posthorn.promote($1::int, \'["even","odd"]\')', [reader.subscription]);
  }
  expect(order.filter((m) => m % 2 === 0)).toEqual([2, 4, 6, 8, 10, 12]);
  expect(order.filter((m) => m % 2 === 1)).toEqual([1, 3, 5, 7, 9, 11]);
});

test("a replayed message waits since it was replayed, not since it was said, and is purged like any other", async () => {
  const { name, reader, worker } = await queue();
  await say(engine.db, reader, upTo(3));
  const held = await claim(engine.db, reader, worker, 3);
  await settle(engine.db, [part(held, 1, "succeeded", true)], [], null);
  await engine.admin.rows(
    "update posthorn.message_1 set published_at = published_at - interval '5 days' where channel = $1",
    [reader.channel],
  );
  await replay(name, reader);
  const line = (await backlog(engine.db)).find((one) => one.name === name);
  expect(line).toMatchObject({ backlog: 3, retrying: 0 });
  expect(line?.ageMs).toBeLessThan(86_400_000);
  const purge = await beginPurge(engine.db, name, ann, ["queued"], name);
  expect(await drive(engine.db, purge)).toMatchObject({ done: 3 });
  // What was discarded is replayed no more.
  expect(await replay(name, reader)).toMatchObject({ done: 0, passed: { ended: 3 } });
});

/** Rescues, redrives and runs until nothing is left. */
async function runTheRest(
  name: string,
  reader: Reader,
  succeeded: (deliveries: readonly { payload: unknown }[]) => void,
): Promise<void> {
  const worker = await makeWorker(engine, [reader]);
  for (;;) {
    await rescueAll(engine.db);
    await redrive(engine.db, { list: "dead-letters", subscription: name }, "ben", 1_000);
    const { deliveries } = await takeDue(engine.db, reader.subscription, worker, [reader.contract], 500);
    await settle(
      engine.db,
      [],
      deliveries.map((one) => end(one, "succeeded", null)),
      null,
    );
    succeeded(deliveries);
    const { deliveries: fresh } = await work(engine.db, reader.subscription, worker, 500, []);
    if (fresh.length > 0) await settle(engine.db, [part(fresh, 1, "succeeded", true)], [], null);
    succeeded(fresh);
    const left = await unsettled(engine.db, name);
    if (left.waiting + left.retrying + left.running === 0) return;
  }
}

test("beside live traffic, failures, rescues and redrives, each message that was handled when the replay came to it runs exactly once more", async () => {
  // Goal: a replay neither doubles what is not settled nor leaves out what is.
  // Method: workers claim, succeed, fail and die while a replay goes on in pieces of three; every run is counted.
  const { name, reader, worker } = await queue();
  const count = 300;
  await say(engine.db, reader, upTo(count));
  const runs = new Map<number, number>();
  const succeeded = (deliveries: readonly { payload: unknown }[]): void => {
    for (const one of deliveries) runs.set(numberOf(one), (runs.get(numberOf(one)) ?? 0) + 1);
  };
  const first = await claim(engine.db, reader, worker, count / 2);
  succeeded(first);
  await settle(engine.db, [part(first, 1, "succeeded", true)], [], null);
  let over = false;
  const working = async (): Promise<void> => {
    const session = await engine.session();
    let mine = await makeWorker(engine, [reader]);
    for (let round = 0; ; round += 1) {
      const { deliveries } = await work(session, reader.subscription, mine, 4, []);
      const { deliveries: due } = await takeDue(session, reader.subscription, mine, [reader.contract], 4);
      if (over && deliveries.length + due.length === 0) return;
      if (!over && round % 9 === 8) {
        // It dies with what it holds.
        await die(engine, mine);
        mine = await makeWorker(engine, [reader]);
        continue;
      }
      const [failing, ...fine] = deliveries;
      if (failing !== undefined) {
        const parts = [
          part([failing], 1, "failed", fine.length === 0),
          ...(fine.length > 0 ? [part(fine, 2, "succeeded", true)] : []),
        ];
        await settle(session, parts, [end(failing, "failed", round % 3 === 0 ? giveUp : retryNow)], null);
        succeeded(fine);
      }
      await settle(
        session,
        [],
        due.map((one) => end(one, "succeeded", null)),
        null,
      );
      succeeded(due);
    }
  };
  const rescuing = async (): Promise<void> => {
    const session = await engine.session();
    while (!over) {
      await rescueAll(session);
      await redrive(session, { list: "dead-letters", subscription: name }, "ben", 10);
    }
  };
  const others = [working(), working(), rescuing()];
  const operation = await beginReplay(engine.db, name, { from: await oldest(reader) }, ann, name);
  let done: Operation = operation;
  while (done.state === "running") done = await proceed(engine.db, operation.operation, 3);
  over = true;
  await Promise.all(others);
  await runTheRest(name, reader, succeeded);
  expect([...runs.keys()].sort((a, b) => a - b)).toEqual(upTo(count));
  const twice = [...runs.values()].filter((times) => times === 2).length;
  expect([...runs.values()].filter((times) => times > 2)).toEqual([]);
  expect(twice).toBe(done.done);
  // Those that were handled before it began are all among them.
  expect(upTo(count / 2).filter((m) => runs.get(m) !== 2)).toEqual([]);
}, 120_000);
