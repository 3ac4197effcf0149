/** What outlives the log, what is removed beside whoever comes, and who waits for whom: a log that has been in use for years. */
import { afterAll, beforeAll, expect, test } from "vitest";
import { drive } from "../../src/maintenance/operation.js";
import { registerWorker } from "../../src/store/fleet.js";
import {
  beginErase,
  beginPurge,
  beginRemove,
  beginReplay,
  operations,
  proceed,
  stopOperation,
} from "../../src/store/operations.js";
import { writeMessages } from "../../src/store/publish.js";
import { settle, work } from "../../src/store/work.js";
import {
  type Engine,
  end,
  failure,
  makeQueue,
  makeTopic,
  makeWorker,
  openEngine,
  outgoing,
  part,
  say,
  waitsForLock,
} from "./engine.js";
import { keepNothing, turn } from "./rotation.js";

let engine: Engine;
beforeAll(async () => {
  engine = await openEngine();
});
afterAll(() => engine.close());
const ann = { by: "ann" };

// Before, a result had no key: what erase had to find was nobody's once its message had gone with its segment.
test("a result that is kept longer than its message is found by the key and erased; that of another key stays", async () => {
  const reader = await makeQueue(engine, "outlives");
  const worker = await makeWorker(engine, [reader]);
  await keepNothing(engine);
  await writeMessages(
    engine.db,
    ["ada", "bob"].map((key) => ({ ...outgoing(reader), key, json: "{}" })),
  );
  const { deliveries } = await work(engine.db, reader.subscription, worker, 10, []);
  const ends = deliveries.map((one) =>
    end(one, "succeeded", {
      result: { text: `{"to":"${one.key}"}`, keepMs: 60_000, key: one.key ?? "", contract: one.contract },
    }),
  );
  await settle(engine.db, [part(deliveries, 1, "succeeded", true)], ends, null);
  expect(await turn(engine)).toContain("truncated");
  const erased = await drive(engine.db, await beginErase(engine.db, "ada", {}, ann, "ada"));
  expect(erased).toMatchObject({ state: "done", found: 1, done: 1 });
  expect(await engine.admin.rows("select key, result from posthorn.result")).toEqual([
    { key: "bob", result: { to: "bob" } },
  ]);
});

// Before, any time before the first message that was ever said was refused as "older than what is kept", and an empty queue as "nothing is kept".
test("a replay of a time in which nothing was said is one of nothing, and one that begins before what has gone is refused", async () => {
  const own = await openEngine();
  try {
    const reader = await makeQueue(own, "quiet");
    const replay = (from: string) => beginReplay(own.db, "quiet", { from }, ann, "quiet");
    expect(await drive(own.db, await replay("2020-01-01T00:00:00Z"))).toMatchObject({
      state: "done",
      found: 0,
      done: 0,
    });
    const worker = await makeWorker(own, [reader]);
    await say(own.db, reader, [1]);
    const { deliveries } = await work(own.db, reader.subscription, worker, 10, []);
    await settle(own.db, [part(deliveries, 1, "succeeded", true)], [], null);
    expect(await drive(own.db, await replay("2020-01-01T00:00:00Z"))).toMatchObject({
      state: "done",
      found: 1,
      done: 1,
    });
    const due = await own.admin.rows("delete from posthorn.deferred returning id");
    expect(due).toHaveLength(1);
    await keepNothing(own);
    expect(await turn(own)).toContain("truncated");
    const refused = await failure(replay("2020-01-01T00:00:00Z"));
    expect(refused).toMatchObject({ code: "PH_NOT_KEPT", facts: { oldestKept: expect.any(String) } });
    // From what it names on, everything is there.
    const { oldestKept } = (refused as Error & { facts: { oldestKept: string } }).facts;
    expect(await drive(own.db, await replay(oldestKept))).toMatchObject({ state: "done", found: 0 });
    // Also where a program's clock knows milliseconds.
    expect(await drive(own.db, await replay(new Date(oldestKept).toISOString()))).toMatchObject({ found: 0 });
  } finally {
    await own.close();
  }
});

// Before, the record of an erasure that was stopped kept the key as it was typed.
test("an erasure that is stopped leaves no key in the record", async () => {
  const reader = await makeQueue(engine, "stopped");
  await writeMessages(engine.db, [{ ...outgoing(reader), key: "ada-lovelace", json: "{}" }]);
  const { operation } = await beginErase(engine.db, "ada-lovelace", {}, ann, "ada-lovelace");
  expect(await stopOperation(engine.db, operation)).toBe(true);
  expect(JSON.stringify(await operations(engine.db, 5, false))).not.toContain("ada-lovelace");
});

// Before, the worker got the server's own error about a foreign key.
test("a worker that registers for a subscription while it is removed is told so by an error that may be repeated", async () => {
  const [reader] = await makeTopic(engine, "leaving", ["leaver"]);
  if (reader === undefined) throw new Error("one was made");
  const { operation } = await beginRemove(engine.db, "leaver", ann, "leaver");
  const [remover, comer] = [await engine.session(), await engine.session()];
  await remover.rows("begin");
  expect(await proceed(remover, operation, 500)).toMatchObject({ state: "done" });
  const registers = registerWorker(comer, {
    service: "shop",
    host: "here",
    pid: 1,
    timeoutMs: 60_000,
    sessionKey: null,
    backends: [],
    attends: [{ subscription: reader.subscription, contracts: [] }],
  });
  const told = failure(registers);
  await waitsForLock(engine, comer);
  await remover.rows("commit");
  expect(await told).toMatchObject({ code: "PH_SUBSCRIPTION_REMOVED", retryable: true });
  await Promise.all([remover.close(), comer.close()]);
});

// Before, the verb failed with the server's own error: a foreign key, or a statement without the name of a slot.
test.each(["erase", "purge"] as const)(
  "%s beside the removal of a subscription leaves that one out, and is done",
  async (verb) => {
    const [leaver, stays] = await makeTopic(engine, `beside-${verb}`, [`leaver-${verb}`, `stays-${verb}`]);
    if (leaver === undefined || stays === undefined) throw new Error("two were made");
    const key = `ada-${verb}`;
    await writeMessages(engine.db, [{ ...outgoing(leaver), key, json: "{}" }]);
    const { operation } = await beginRemove(engine.db, `leaver-${verb}`, ann, `leaver-${verb}`);
    const begun = await (verb === "erase"
      ? beginErase(engine.db, key, {}, ann, key)
      : beginPurge(engine.db, `leaver-${verb}`, ann, ["queued"], `leaver-${verb}`));
    const [remover, other] = [await engine.session(), await engine.session()];
    await remover.rows("begin");
    expect(await proceed(remover, operation, 500)).toMatchObject({ state: "done" });
    const driven = drive(other, begun);
    await waitsForLock(engine, other);
    await remover.rows("commit");
    expect(await driven).toMatchObject({ state: "done" });
    expect(
      await engine.admin.rows("select count(*)::int as n from posthorn.cancel_mark where subscription = $1", [
        stays.subscription,
      ]),
    ).toEqual([{ n: verb === "erase" ? 1 : 0 }]);
    await Promise.all([remover.close(), other.close()]);
  },
);
