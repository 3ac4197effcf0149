import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { work } from "../../src/store/work.js";
import { type Engine, makeQueue, makeWorker, openEngine, type Reader, type Session, say, upTo } from "./engine.js";
import { accessOf, flat, openWatched, type Ran, type WatchedSession } from "./explain.js";

/**
 * Goal: invariant 7. The statements of the hot path have one plan, whatever the statistics say and whenever it was made.
 * Method: auto_explain shows the plans that ran inside the functions, on a lane with thousands of messages, claims, settlements
 * and waiting deliveries; with the statistics in each state, on a new session and on one that planned while all was empty.
 */
const states = {
  "never analyzed": { before: "", after: "" },
  "analyzed while empty, then filled": { before: "vacuum analyze", after: "" },
  "analyzed full": { before: "", after: "vacuum analyze" },
} as const;

const logTables = ["message", "claim", "settlement", "tick", "ending"] as const;

/** Statistics change only when a test says so. */
async function freezeStatistics(engine: Engine): Promise<void> {
  for (const table of [...logTables.map((name) => `${name}_1`), "deferred"]) {
    await engine.admin.rows(`alter table posthorn.${table} set (autovacuum_enabled = off)`);
  }
}

async function plain(session: Pick<Session, "rows">, statement: string): Promise<void> {
  if (statement !== "") await session.rows(statement);
}

/** Messages `from` to `from + count - 1`, each of a transaction that is long over. */
async function fill(engine: Engine, { channel, contract }: Reader, count: number): Promise<void> {
  await engine.admin.rows(
    `insert into posthorn.message_1 (xid, id, nonce, published_at, channel, lane, contract, payload)
     select (3 + n % 500)::text::xid8, nextval('posthorn.message_id'), n, clock_timestamp(), $1::int, 0, $2::int,
       json_build_object('m', n, 'text', repeat('x', 100)) from generate_series(1, $3::int) n`,
    [channel, contract, count],
  );
}

/** All messages of the lane become history: claimed in tens by somebody who is gone, and settled. */
async function settleAll(engine: Engine, { subscription, channel }: Reader): Promise<void> {
  await engine.admin.rows(
    `with tens as (
       select nextval('posthorn.claim_id') as id, g.ids, g.last from (
         select array_agg(id) as ids, max(id) as last from posthorn.message_1 where channel = $2::int group by id / 10 order by id / 10) g
     ), tick as (
       insert into posthorn.tick_1 select t.id, t.last, pg_current_snapshot(), clock_timestamp()
       from (select nextval('posthorn.tick_id') as id, last from tens order by last) t returning id, ceiling_id
     ), written as (
       insert into posthorn.claim_1 (id, n, token, worker, floor, ceiling, last_id, at, subscription, lane, late, took_late, messages)
       select t.id, 1000000 + row_number() over (order by t.last), 1, 0, k.id, k.id, t.last, clock_timestamp(), $1::int, 0, false, false, t.ids
       from tens t join tick k on k.ceiling_id = t.last returning id
     )
     insert into posthorn.settlement_1 select id, 1, 'succeeded', true, clock_timestamp() from written`,
    [subscription, channel],
  );
}

async function defer(
  engine: Engine,
  { subscription, channel, contract }: Reader,
  worker: string,
  count: number,
): Promise<void> {
  await engine.admin.rows(
    `insert into posthorn.deferred (subscription, due_at, delivery, attempts, crashes, reason, token, worker, message, nonce, channel, lane, contract, payload, published_at, history)
     select $1::int, clock_timestamp() + n * interval '1 s' + interval '1 h', 2, 1, case when n % 50 = 7 then 2 else 0 end, 'failed', case when n % 5 = 0 then 1 end,
       case when n % 5 = 0 then $4::bigint end, -n, 1, $2::int, 0, $3::int, '{"m":0}', clock_timestamp(), '[]' from generate_series(1, $5::int) n`,
    [subscription, channel, contract, Number(worker) + 1_000_000, count],
  );
}

let rounds = 0;

/** Fifty more of the waiting deliveries become due, one of them a suspect. */
async function makeDue(engine: Engine): Promise<void> {
  rounds += 1;
  await engine.admin.rows(
    "update posthorn.deferred set due_at = clock_timestamp() - interval '1 s' where token is null and message between $1::bigint and $2::bigint",
    [-50 * (rounds + 1), -50 * rounds - 1],
  );
}

/** One round of everything that a worker does; each statement with its session, so that a cached plan is one of that session. */
async function round(engine: Engine, watched: WatchedSession, reader: Reader, worker: string): Promise<readonly Ran[]> {
  await makeDue(engine);
  const late = await engine.session();
  await late.rows("begin");
  await say(late, reader, [1]);
  await say(engine.db, reader, upTo(5, 2));
  const held = await work(engine.db, reader.subscription, worker, 50, []);
  await late.rows("commit");
  await late.close();
  await say(engine.db, reader, upTo(5, 10));
  const hold = held.deliveries[0]?.hold;
  if (hold?.from !== "log") throw new Error("nothing was claimed");
  const part = {
    claim: hold.claim,
    token: hold.token,
    slot: 1,
    part: 1,
    outcome: "succeeded",
    closes: true,
    messages: held.deliveries.map(({ id }) => id),
  };
  // Holds no suspect yet, and so looks for one.
  const taker = await makeWorker(engine, [reader]);
  const { subscription, contract } = reader;
  return [
    ...(await watched.watch("select posthorn.peek($1::bigint, $2::json, null)", [
      worker,
      JSON.stringify([subscription]),
    ])),
    // The first claim takes what was committed late, the second goes on in the main part of the window.
    ...(await watched.watch("select posthorn.settle($1::json, null, null)", [JSON.stringify([part])])),
    ...(await watched.watch("select posthorn.work($1::int, 0, $2::bigint, 10, null)", [subscription, worker])),
    ...(await watched.watch("select posthorn.work($1::int, 0, $2::bigint, 10, null)", [subscription, worker])),
    ...(await watched.watch("select posthorn.take_due($1::int, $2::bigint, $3::json, 100)", [
      subscription,
      taker,
      JSON.stringify([contract]),
    ])),
  ];
}

/** The statements under test by a piece of their text, with the only ways in which they may read tables of the log or of what waits. */
const expected: Readonly<Record<string, { readonly text: RegExp; readonly access: readonly string[] }>> = {
  page_of: {
    text: /posthorn\.item.*pg_visible_in_snapshot\(m\.xid, (p_snapshot|v_seen)\)/s,
    access: ["Index Scan message_1_by_id"],
  },
  late_xids_of: {
    text: /array_agg\(distinct late\.xid\)/,
    access: ["Index Scan message_1_by_xid", "Index Only Scan message_1_by_xid"],
  },
  late_page_of: {
    text: /unnest\(p_xids\) listed/,
    access: [
      "Index Scan message_1_by_xid",
      "Index Scan Backward message_1_by_xid",
      "Index Only Scan Backward message_1_by_xid",
      "Index Scan message_1_by_id",
    ],
  },
  newest_claim_of: {
    text: /order by c\.n desc limit 1/,
    access: ["Index Scan claim_1_by_n", "Index Scan tick_1_pkey"],
  },
  tick_of: {
    text: /join posthorn\.tick_1 t on t\.id = /,
    access: ["Index Scan claim_1_by_n", "Index Scan tick_1_pkey"],
  },
  has_after_of: {
    text: /exists \(select from posthorn\.message_1 m/,
    access: ["Index Only Scan message_1_by_id", "Index Scan message_1_by_id"],
  },
  settle_part_of: {
    text: /insert into posthorn\.settlement_1/,
    access: ["Index Scan claim_1_by_id", "Index Scan settlement_1_by_part", "Index Only Scan settlement_1_by_part"],
  },
  "take, the choice": {
    text: /d\.crashes < p_below\s+and [^;]+?order by d\.due_at/,
    access: ["Index Scan deferred_due"],
  },
  "the first that is due": { text: /d\.due_at < 'infinity'/, access: ["Index Scan deferred_due"] },
  "take, the mark": { text: /update posthorn\.deferred/, access: ["Index Scan deferred_pkey"] },
};

const ours = /(?:message|claim|settlement|tick|ending)_\d|deferred/;

function sortedTables({ nodes }: Ran): readonly string[] {
  return nodes
    .filter((node) => /Sort/.test(node["Node Type"]))
    .flatMap((node) => accessOf({ text: "", nodes: flat(node) }));
}

function expectPlans(ran: readonly Ran[]): void {
  for (const [name, { text, access }] of Object.entries(expected)) {
    const found = ran.filter((one) => text.test(one.text.trim()));
    expect(found.length, `${name} ran`).toBeGreaterThan(0);
    for (const one of found) {
      const used = accessOf(one).filter((way) => ours.test(way));
      expect(used.length, name).toBeGreaterThan(0);
      expect(
        used.filter((way) => !access.includes(way)),
        name,
      ).toEqual([]);
    }
  }
  for (const one of ran) {
    expect(
      accessOf(one).filter((way) => /Seq Scan|Bitmap/.test(way) && ours.test(way)),
      one.text,
    ).toEqual([]);
    const parallel = one.nodes.filter(
      (node) => /Gather/.test(node["Node Type"]) && accessOf(one).some((way) => ours.test(way)),
    );
    expect(parallel, one.text).toEqual([]);
    // What was committed late is put in order after its probes; no other statement sorts what it reads.
    if (!/late/.test(one.text)) expect(sortedTables(one), one.text).toEqual([]);
  }
  const page = ran.find((one) => expected.page_of?.text.test(one.text.trim()));
  expect(
    page?.nodes.find((node) => node["Index Name"] === "message_1_by_id")?.["Index Cond"],
    "a range, not a filter",
  ).toMatch(/id > .*id <= /);
}

async function expectSearchByProbes(engine: Engine, worker: string): Promise<void> {
  const fresh = await openWatched(engine.url);
  await fresh.rows("begin");
  await fresh.rows("select posthorn.own_transaction(true)");
  const ran = await fresh.watch("select * from posthorn.open_claims_of(1::smallint, $1::bigint, 1, 10000)", [worker]);
  const [found] = ran.filter(({ text }) => text.includes("claim_1"));
  expect(found === undefined ? [] : accessOf(found)).toEqual([
    "Index Scan claim_1_by_id",
    "Index Scan settlement_1_by_part",
  ]);
  expect(found?.nodes.filter((node) => /Gather|Join|Hash|Sort/.test(node["Node Type"]))).toEqual([]);
  await fresh.rows("rollback");
  await fresh.close();
}

describe.each(Object.entries(states))("statistics %s", (_, { before, after }) => {
  let engine: Engine;
  let [reader, worker]: [Reader, string] = [{ subscription: 0, channel: 0, contract: 0 }, ""];
  let old: WatchedSession;
  beforeAll(async () => {
    engine = await openEngine();
    await freezeStatistics(engine);
    await plain(engine.admin, before);
    reader = await makeQueue(engine, "busy");
    worker = await makeWorker(engine, [reader]);
    old = await openWatched(engine.url);
    // The plans of this session are those for next to nothing.
    for (const _ of upTo(8)) await round(engine, old, reader, worker);
    await fill(engine, reader, 30_000);
    await settleAll(engine, reader);
    await defer(engine, reader, worker, 20_000);
    await plain(engine.admin, after);
  });
  afterAll(async () => {
    await old.close();
    await engine.close();
  });

  test("a new session reads only by the indexes that are meant, and sorts nothing", async () => {
    const fresh = await openWatched(engine.url);
    expectPlans(await round(engine, fresh, reader, worker));
    await fresh.close();
  });

  test("a session that planned while all was empty reads only by the indexes that are meant, and sorts nothing", async () => {
    expectPlans(await round(engine, old, reader, worker));
  });

  test("the rescuer's search for open claims starts where the worker's bound says, and probes the settlements one by one", async () => {
    await expectSearchByProbes(engine, worker);
  });
});

/** Claims ten messages that were just said, as a session other than the one under test. */
async function holdTen(engine: Engine, reader: Reader, worker: string) {
  await say(engine.db, reader, upTo(10));
  const { deliveries } = await work(engine.db, reader.subscription, worker, 10, []);
  const [first] = deliveries;
  if (first?.hold.from !== "log" || deliveries.length !== 10) throw new Error("not all was claimed");
  const { claim, token } = first.hold;
  return { first, hold: first.hold, parts: [{ claim, token, slot: 1, part: 1, outcome: "succeeded", closes: true }] };
}

type Held = Awaited<ReturnType<typeof holdTen>>;

/**
 * Goal: the same for statements that come first in their transaction, or run in a transaction that is not the library's.
 * Method: a session uses the statement until its plan is kept, while the tables are analyzed and next to empty; then they grow.
 */
async function accessAfterGrowth(
  use: (watched: WatchedSession, reader: Reader, worker: string, held: Held) => Promise<readonly Ran[]>,
) {
  const engine = await openEngine();
  await freezeStatistics(engine);
  await engine.admin.rows("vacuum analyze");
  const reader = await makeQueue(engine, "growing", "transaction");
  const worker = await makeWorker(engine, [reader]);
  const watched = await openWatched(engine.url);
  for (const _ of upTo(8)) await use(watched, reader, worker, await holdTen(engine, reader, worker));
  await fill(engine, reader, 30_000);
  await settleAll(engine, reader);
  const ran = await use(watched, reader, worker, await holdTen(engine, reader, worker));
  await watched.close();
  await engine.close();
  return ran.flatMap(accessOf).filter((way) => /Seq Scan/.test(way) && ours.test(way));
}

// Red as long as posthorn.work settles before it has called own_transaction: the kept plan reads all claims for each settlement.
test("a worker that settles with its next claim finds the claim by its index, also with a plan from when there were none", async () => {
  const scans = await accessAfterGrowth((watched, { subscription }, worker, { parts }) =>
    watched.watch("select posthorn.work($1::int, 0, $2::bigint, 1, $3::json)", [
      subscription,
      worker,
      JSON.stringify(parts),
    ]),
  );
  expect(scans).toEqual([]);
});

// Red as long as claim_of is planned with the settings of the handler's transaction.
test("a handler's transaction finds its claim by the index, also with a plan from when there were none", async () => {
  const scans = await accessAfterGrowth(async (watched, { subscription }, _, { first, hold }) => {
    await watched.rows("begin");
    const ran = await watched.watch(
      "select posthorn.end_in_transaction($1, $2, 1::smallint, 1, $3, 1::smallint, null, $4, extract(epoch from now())::text, null)",
      [subscription, first.id, hold.claim, hold.token],
    );
    await watched.rows("commit");
    return ran;
  });
  expect(scans).toEqual([]);
});

function median(numbers: readonly number[]): number {
  return numbers.toSorted((a, b) => a - b)[Math.floor(numbers.length / 2)] ?? 0;
}

/** Pages that one claim of ten messages touches, in the middle of other claims. */
async function pagesOfClaim(
  watched: WatchedSession,
  reader: Reader,
  worker: string,
  before: () => Promise<unknown>,
): Promise<number> {
  const pages: number[] = [];
  for (const _ of upTo(9)) {
    await before();
    pages.push(await watched.pages(`select posthorn.work(${reader.subscription}, 0, ${worker}, 10, null)`));
  }
  return median(pages);
}

interface Costs {
  readonly opening: number;
  readonly backlog: number;
  readonly otherBacklog: number;
  readonly history: number;
  readonly settling: number;
}

/** A session that plans for tables of this size: nothing starts parallel workers either. */
async function expectPlansWhenAnalyzed(engine: Engine, reader: Reader, worker: string): Promise<void> {
  await defer(engine, reader, worker, 20_000);
  await engine.admin.rows("vacuum analyze");
  const fresh = await openWatched(engine.url);
  expectPlans(await round(engine, fresh, reader, worker));
  await fresh.close();
  await expectSearchByProbes(engine, worker);
}

/** What claims cost beside this many messages, first unclaimed, then settled. Statistics are those of the empty tables. */
async function costsBeside(size: number): Promise<Costs> {
  const engine = await openEngine();
  await freezeStatistics(engine);
  await engine.admin.rows("vacuum analyze");
  const [reader, other] = [await makeQueue(engine, "big"), await makeQueue(engine, "small")];
  const worker = await makeWorker(engine, [reader, other]);
  await fill(engine, reader, size);
  // Somebody holds a snapshot all the while.
  const holder = await engine.session();
  await holder.rows("begin isolation level repeatable read");
  await holder.rows("select pg_current_xact_id()");
  const watched = await openWatched(engine.url);
  const idle = async () => undefined;
  const opening = await watched.pages(`select posthorn.work(${reader.subscription}, 0, ${worker}, 10, null)`);
  const backlog = await pagesOfClaim(watched, reader, worker, idle);
  await say(engine.db, other, upTo(20));
  await pagesOfClaim(watched, other, worker, () => say(engine.db, other, upTo(10)));
  const otherBacklog = await pagesOfClaim(watched, other, worker, () => say(engine.db, other, upTo(10)));
  await settleAll(engine, reader);
  await pagesOfClaim(watched, reader, worker, () => say(engine.db, reader, upTo(10)));
  const history = await pagesOfClaim(watched, reader, worker, () => say(engine.db, reader, upTo(10)));
  const settling = await pagesOfSettling(engine, watched, reader, worker);
  await expectPlansWhenAnalyzed(engine, reader, worker);
  for (const one of [watched, holder, engine]) await one.close();
  return { opening, backlog, otherBacklog, history, settling };
}

/** Pages of settling one batch and claiming the next, in one statement, as workers do. */
async function pagesOfSettling(
  engine: Engine,
  watched: WatchedSession,
  reader: Reader,
  worker: string,
): Promise<number> {
  const pages: number[] = [];
  for (const _ of upTo(9)) {
    const parts = JSON.stringify((await holdTen(engine, reader, worker)).parts);
    await say(engine.db, reader, upTo(10));
    pages.push(await watched.pages(`select posthorn.work(${reader.subscription}, 0, ${worker}, 10, '${parts}')`));
  }
  return median(pages);
}

/**
 * Goal: invariant 7 in pages, which do not depend on the machine.
 * Method: the same claims beside thirty thousand and beside a million messages: as the lane's own backlog, as another channel's, and
 * as settled history with its claims and settlements; a snapshot is held open, and the statistics say that all tables are empty.
 * Below thirty thousand some of the ten trees that a claim touches have one level, and the figures show nothing but that.
 */
test("a claim touches as many pages beside a million messages as beside thirty thousand, whether they wait or are settled", async () => {
  // Very many once is enough: the other versions of the server are asked about fewer.
  const many = process.env.POSTHORN_TEST_POSTGRES === undefined ? 1_000_000 : 200_000;
  const [small, large] = [await costsBeside(30_000), await costsBeside(many)];
  process.stdout.write(
    `plans: pages beside 30,000 ${JSON.stringify(small)}, beside ${many} ${JSON.stringify(large)}\n`,
  );
  for (const kind of ["backlog", "otherBacklog", "history", "settling"] as const) {
    expect(large[kind], kind).toBeLessThanOrEqual(Math.ceil(small[kind] * 1.2));
  }
  // Once in each window its messages are looked through in the index, for late ones among them.
  expect(large.opening - small.opening).toBeLessThan(many / 50);
});
