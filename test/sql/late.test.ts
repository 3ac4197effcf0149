import { expect, test } from "vitest";
import { peek, work } from "../../src/store/work.js";
import { makeQueue, makeWorker, numberOf, openEngine, type Reader, type Session, say, upTo } from "./engine.js";
import { openWatched } from "./explain.js";

/**
 * Goal: a transaction that says very much and commits late costs by the message, whether it said lists or one by one.
 * Method: pages of one batch at the beginning and near the end of its 6,000 messages, between which others said as many.
 */
test.each([
  ["one by one", 1],
  ["in lists", 500],
] as const)(
  "a batch of what was said %s and committed late touches as many pages at the end as at the beginning",
  async (_how, size) => {
    const engine = await openEngine();
    const reader = await makeQueue(engine, "late");
    const late = await engine.session();
    await late.rows("begin");
    const { id: first } = await placeOf(late, reader);
    for (let said = 0; said < 6_000; said += 1_000) {
      await late.rows(
        `select posthorn.append_of(1::smallint, array_agg(n::bigint), array[$1::int], array[$2::int], null, json_agg(json_build_object('m', n)), null)
         from generate_series(1, 1000) n group by n / $3::int`,
        [reader.channel, reader.contract, size],
      );
      await say(engine.db, reader, upTo(1_000));
    }
    const last = await placeOf(late, reader);
    await late.rows("commit");
    const watched = await openWatched(engine.url);
    for (const setting of ["seqscan", "bitmapscan", "sort"]) await watched.rows(`set enable_${setting} = off`);
    // The least of three: a session that missed what others did to their databases reads its catalog anew, which is counted.
    const pagesAfter = async (id: number): Promise<number> => {
      const statement = `select posthorn.late_page_of(1::smallint, ${reader.channel}, 0, array['${last.xid}'::xid8], ${id}, ${last.id}, 100)`;
      const counted: number[] = [];
      for (const _ of upTo(3)) counted.push(await watched.pages(statement));
      return Math.min(...counted);
    };
    await pagesAfter(first);
    const [begin, end] = [await pagesAfter(first), await pagesAfter(last.id - 2_000)];
    process.stdout.write(`plans: pages of a late batch, size ${size}: ${begin} at the beginning, ${end} at the end\n`);
    expect(end).toBeLessThanOrEqual(Math.ceil(begin * 1.2));
    for (const one of [watched, late, engine]) await one.close();
  },
);

/**
 * Goal: a reader that has taken all comes to rest, also when the last that committed late filled its batch to the last place: the position is then still
 * among the late ones, and a peek that took this for work would send it round for ever.
 */
test.each([
  ["one batch", 10],
  ["two batches", 5],
])("after late messages that fill %s exactly, peek finds nothing until more is said", async (_what, limit) => {
  const engine = await openEngine();
  const reader = await makeQueue(engine, "exact");
  const worker = await makeWorker(engine, [reader]);
  const taken: number[] = [];
  const take = async () => {
    const { deliveries } = await work(engine.db, reader.subscription, worker, limit, []);
    taken.push(...deliveries.map(numberOf));
    return deliveries.length;
  };
  const ready = async () => (await peek(engine.db, worker, [reader.subscription], null, false)).ready;
  const late = await engine.session();
  await late.rows("begin");
  await say(late, reader, upTo(10));
  await say(engine.db, reader, [11]);
  expect(await take()).toBe(1);
  await late.rows("commit");
  for (let left = 10; left > 0; left -= limit) {
    expect(await ready()).toEqual([reader.subscription]);
    expect(await take()).toBe(limit);
  }
  expect(await ready()).toEqual([]);
  expect(await take()).toBe(0);
  expect(await ready()).toEqual([]);
  await say(engine.db, reader, [12]);
  expect(await ready()).toEqual([reader.subscription]);
  expect(await take()).toBe(1);
  expect(await ready()).toEqual([]);
  expect(taken).toEqual([11, ...upTo(10), 12]);
  for (const one of [late, engine]) await one.close();
});

/** Says one message and returns where it is. */
async function placeOf(session: Session, reader: Reader): Promise<{ readonly id: number; readonly xid: string }> {
  const [id] = await say(session, reader, [0]);
  const [row] = await session.rows("select pg_current_xact_id()::text as xid");
  return { id: Number(id), xid: String(row?.xid) };
}

/**
 * Goal: a transaction that runs although the snapshot of a claim names nobody: it is the newest, and all before it have ended. What it said lies below
 * what was claimed, and the next claim finds it.
 * Method: other tests write at the same time, and where one of theirs has ended since, the snapshot lists it: so again, until it does not.
 */
test("of the newest transaction, which no snapshot lists as running, what commits behind a claim is claimed", async () => {
  const engine = await openEngine();
  const reader = await makeQueue(engine, "newest");
  const worker = await makeWorker(engine, [reader]);
  const take = async () => (await work(engine.db, reader.subscription, worker, 10, [])).deliveries.map(numberOf);
  const [older, newest] = [await engine.session(), await engine.session()];
  const listed = async (): Promise<boolean> => {
    for (const session of [older, newest]) {
      await session.rows("begin");
      await session.rows("select pg_current_xact_id()");
    }
    await say(newest, reader, [1]);
    await say(older, reader, [2]);
    await older.rows("commit");
    expect(await take()).toEqual([2]);
    const [row] = await newest.rows(
      "select pg_current_xact_id() < pg_snapshot_xmax(snapshot) as listed from posthorn.tick_1 order by id desc limit 1",
    );
    await newest.rows("commit");
    expect(await take()).toEqual([1]);
    return row?.listed === true;
  };
  let rounds = 1;
  while (await listed()) {
    rounds += 1;
    expect(rounds, "others always write").toBeLessThan(1_000);
  }
  for (const one of [older, newest, engine]) await one.close();
});
