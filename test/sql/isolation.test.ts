import { afterAll, beforeAll, expect, test } from "vitest";
import { homeOf, writeAlike, writeMessages } from "../../src/store/publish.js";
import { peek, settle, takeDue as take, work } from "../../src/store/work.js";
import {
  claim,
  type Engine,
  endInTransaction,
  failure,
  heartbeat,
  makeQueue,
  makeWorker,
  numberOf,
  openEngine,
  outgoing,
  part,
  rescueAll,
  say,
  startedAt,
  upTo,
} from "./engine.js";

let engine: Engine;
beforeAll(async () => {
  engine = await openEngine();
});
afterAll(() => engine.close());

async function countOf(table: string): Promise<unknown> {
  return engine.admin.value(`select count(*)::int from posthorn.${table}`);
}

test.each(["repeatable read", "serializable"])(
  "at %s a claim, a settlement, a take and a peek are refused, and nothing is written",
  async (level) => {
    const reader = await makeQueue(engine, level.replace(" ", "-"));
    const worker = await makeWorker(engine, [reader]);
    await say(engine.db, reader, upTo(3));
    const deliveries = await claim(engine.db, reader, worker, 1);
    const closing = [part(deliveries, 1, "succeeded", true)];
    const session = await engine.session();
    const before = [await countOf("claim_1"), await countOf("settlement_1")];
    const refused = {
      claim: () => work(session, reader.subscription, worker, 10, []),
      "claim with parts": () => work(session, reader.subscription, worker, 10, closing),
      settle: () => settle(session, closing, [], null),
      take: () => take(session, reader.subscription, worker, [reader.contract], 10),
      peek: () => peek(session, worker, [reader.subscription], null, false),
      rescue: () => rescueAll(session),
    };
    for (const [what, call] of Object.entries(refused)) {
      await session.rows(`begin isolation level ${level}`);
      expect(await failure(call()), what).toMatchObject({ code: "PH_ISOLATION" });
      await session.rows("rollback");
    }
    expect([await countOf("claim_1"), await countOf("settlement_1")]).toEqual(before);
    expect((await claim(engine.db, reader, worker)).map(numberOf)).toEqual([2, 3]);
    await session.close();
  },
);

test("where every transaction is serializable by default, saying and heartbeats work, and a claim is refused rather than wrong", async () => {
  const reader = await makeQueue(engine, "by-default");
  const worker = await makeWorker(engine, [reader]);
  const session = await engine.session();
  await session.rows("set default_transaction_isolation = 'serializable'");
  await say(session, reader, [1]);
  await heartbeat(session, worker, null);
  expect(await failure(work(session, reader.subscription, worker, 10, []))).toMatchObject({ code: "PH_ISOLATION" });
  await session.close();
});

test("a subscription whose base position is gone is refused with PH_POSITION_LOST, and never starts from the beginning", async () => {
  const reader = await makeQueue(engine, "no-lane");
  const worker = await makeWorker(engine, [reader]);
  await say(engine.db, reader, [1]);
  await engine.admin.rows("delete from posthorn.lane where subscription = $1", [reader.subscription]);
  const before = await countOf("claim_1");
  expect(await failure(work(engine.db, reader.subscription, worker, 10, []))).toMatchObject({
    code: "PH_POSITION_LOST",
  });
  expect(await countOf("claim_1")).toBe(before);
});

test("a position whose ticks are gone is refused with PH_POSITION_LOST", async () => {
  const reader = await makeQueue(engine, "no-tick");
  const worker = await makeWorker(engine, [reader]);
  await say(engine.db, reader, [1]);
  await claim(engine.db, reader, worker);
  await say(engine.db, reader, [2]);
  const ticks = "posthorn.tick_1 t using posthorn.claim_1 c where c.subscription = $1 and t.id in (c.floor, c.ceiling)";
  await engine.admin.rows(`delete from ${ticks}`, [reader.subscription]);
  expect(await failure(work(engine.db, reader.subscription, worker, 10, []))).toMatchObject({
    code: "PH_POSITION_LOST",
  });
});

test("an unknown subscription is refused with PH_POSITION_LOST", async () => {
  const worker = await makeWorker(engine, []);
  expect(await failure(work(engine.db, 4_711, worker, 10, []))).toMatchObject({ code: "PH_POSITION_LOST" });
});

/**
 * Goal: transaction ids mean nothing on another server: a restored copy neither writes nor delivers.
 * Method: the identity that the data carries is made another, as on a copy; each kind of use is tried.
 */
test.each([
  { what: "system", change: "system_identifier = system_identifier + 1" },
  { what: "database", change: "database = (database::bigint + 1)::oid" },
])(
  "on a copy of another $what nothing is written, claimed, taken or settled, and the error says that it was moved",
  async ({ what, change }) => {
    const reader = await makeQueue(engine, `moved-${what}`, "transaction");
    const worker = await makeWorker(engine, [reader]);
    await say(engine.db, reader, upTo(2));
    const [delivery] = await claim(engine.db, reader, worker, 1);
    if (delivery === undefined) throw new Error("nothing was claimed");
    const ring = await engine.admin.rows(
      "select system_identifier::text as s, database::bigint::text as d from posthorn.ring",
    );
    const before = await countOf("message_1");
    await engine.admin.rows(`update posthorn.ring set ${change}`);
    const session = await engine.session();
    const endNow = async () => {
      await session.rows("begin");
      const began = await startedAt(session);
      const list = JSON.stringify([{ n: "1", ch: reader.channel, c: reader.contract, k: null, p: {} }]);
      await endInTransaction(session, delivery, began, list).finally(() => session.rows("rollback"));
    };
    try {
      const refused = {
        publish: () => writeMessages(engine.db, [outgoing(reader)]),
        "posthorn.send": () => engine.db.query("select posthorn.send($1::text, '{}'::json)", [`Domoved-${what}`]),
        claim: () => work(engine.db, reader.subscription, worker, 10, []),
        take: () => take(engine.db, reader.subscription, worker, [reader.contract], 10),
        settle: () => settle(engine.db, [part([delivery], 1, "succeeded", true)], [], null),
        "a handler's end that says something": endNow,
        rescue: () => rescueAll(engine.db),
      };
      for (const [name, call] of Object.entries(refused))
        expect(await failure(call()), name).toMatchObject({
          code: name === "posthorn.send" ? "PH003" : "PH_DATABASE_MOVED",
        });
      expect(await countOf("message_1")).toBe(before);
    } finally {
      await engine.admin.rows("update posthorn.ring set system_identifier = $1, database = ($2::bigint)::oid", [
        ring[0]?.s,
        ring[0]?.d,
      ]);
      await session.close();
    }
    expect((await claim(engine.db, reader, worker)).map(numberOf)).toEqual([2]);
  },
);

test("a refused publish fails no transaction of the caller: what else it wrote can still be committed", async () => {
  const reader = await makeQueue(engine, "moved-within");
  const session = await engine.session();
  await session.rows("create table business (n int)");
  await engine.admin.rows("update posthorn.ring set system_identifier = system_identifier + 1");
  try {
    await session.rows("begin");
    await session.rows("insert into business values (1)");
    const one = {
      contract: reader.contract,
      channel: reader.channel,
      headers: null,
      count: 1,
      list: "[{}]",
      keys: null,
    };
    expect(await failure(writeAlike(session, one, await homeOf(session)))).toMatchObject({
      code: "PH_DATABASE_MOVED",
    });
    await session.rows("commit");
    expect(await session.value("select count(*)::int from business")).toBe(1);
  } finally {
    await engine.admin.rows("update posthorn.ring set system_identifier = system_identifier - 1");
    await session.close();
  }
});
