import { afterAll, beforeAll, expect, test } from "vitest";
import { ClaimLostError } from "../../src/core/errors.js";
import { openDatabase } from "../../src/databases/open.js";
import { begin, type Delivery, settle } from "../../src/store/work.js";
import { type OwnServer, startServer } from "../support/server.js";
import {
  claim,
  die,
  type Engine,
  makeQueue,
  makeTopic,
  makeWorker,
  openEngine,
  openSession,
  part,
  type Reader,
  rescueAll,
  type Session,
  say,
} from "./engine.js";
import { makeRandom, type Random, seedOf } from "./random.js";
import { claimAll, countByNumber, endPrepared, isCode, Ledger, Pace, Producer } from "./traffic.js";

let server: OwnServer;
let engine: Engine;
beforeAll(async () => {
  server = await startServer();
  engine = await openEngine(server);
});
afterAll(() => server.remove());

interface Life {
  readonly reader: Reader;
  readonly worker: string;
  readonly seed: number;
  readonly ledger: Ledger;
  /** Everything that was handed out, in the lives of the server so far. */
  readonly handed: Delivery[][];
}

/** One life of the server: random traffic until it is killed, or until all is said and claimed. */
async function live({ reader, worker, seed, ledger, handed }: Life, kill: boolean): Promise<void> {
  const pace = new Pace();
  const seen: Delivery[] = [];
  handed.push(seen);
  const sessions: Session[] = [];
  const session = async () => {
    const opened = await openSession(engine.url);
    sessions.push(opened);
    return opened;
  };
  let finished = false;
  const claimers = Array.from({ length: 5 }, async (_, i) => {
    const random = makeRandom(seed + 100 * handed.length + i);
    await claimAll({ session: await session(), reader, worker, random, pace, seen, finished: () => finished });
  });
  const producers = Array.from({ length: 6 }, async (_, i) => {
    const random = makeRandom(seed + 100 * handed.length + 50 + i);
    const options = { session: await session(), reader, event: "CrashHappened", random, ledger, pace };
    await new Producer(options).run(kill ? 1_000_000 : 30);
  });
  if (kill) {
    const ended = Promise.allSettled([...claimers, ...producers]);
    await pace.after(makeRandom(seed + handed.length).int(300, 900));
    await server.kill();
    pace.end();
    for (const end of await ended)
      expect(end.status === "rejected" && isOfConnection(end.reason), String(end)).toBe(true);
  } else {
    await Promise.all(producers).finally(() => {
      finished = true;
    });
    await Promise.all(claimers);
  }
  await Promise.all(sessions.map((one) => one.close()));
}

function isOfConnection(error: unknown): boolean {
  return (
    isCode(error, "57P") ||
    isCode(error, "ECONN") ||
    isCode(error, "EPIPE") ||
    /terminated|not queryable/.test(String(error))
  );
}

/** Ends the prepared transactions that survived, some with COMMIT and some with ROLLBACK. */
async function endSurvivors(session: Session, ledger: Ledger, random: Random): Promise<number> {
  const survivors = await session.rows("select gid from pg_prepared_xacts");
  for (const { gid } of survivors) await endPrepared(session, String(gid), ledger, random.oneIn(2));
  ledger.prepared.clear();
  return survivors.length;
}

/** What the settlements that survived say has succeeded. */
async function settledNumbers(session: Session): Promise<ReadonlySet<number>> {
  const rows = await session.rows(
    `select (m.payload ->> 'm')::int as m from posthorn.settlement_1 s cross join lateral unnest(s.messages) u(id)
     join posthorn.message_1 m on m.id = u.id where s.closes and s.outcome = 'succeeded'`,
  );
  return new Set(rows.map(({ m }) => Number(m)));
}

/** Settles once more what was handed out in a life that has ended: allowed only where the claim, with its token, survived unsettled. */
async function settleStale(session: Session, seen: readonly Delivery[]): Promise<{ lost: number; settled: number }> {
  const byClaim = new Map<string, Delivery[]>();
  for (const delivery of seen) {
    if (delivery.hold.from !== "log") continue;
    const key = `${delivery.hold.claim}:${delivery.hold.token}`;
    byClaim.set(key, [...(byClaim.get(key) ?? []), delivery]);
  }
  const open = new Set(
    (
      await session.rows(
        "select c.id || ':' || c.token as key from posthorn.claim_1 c where not exists (select from posthorn.settlement_1 s where s.claim = c.id)",
      )
    ).map(({ key }) => String(key)),
  );
  const counts = { lost: 0, settled: 0 };
  for (const [key, deliveries] of byClaim) {
    const refusal = await settle(session, [part(deliveries, 1, "succeeded", true)], [], null).then(
      () => undefined,
      (error: unknown) => error,
    );
    if (refusal !== undefined) expect(refusal).toBeInstanceOf(ClaimLostError);
    expect(refusal === undefined, `claim ${key}`).toBe(open.has(key));
    counts[refusal === undefined ? "settled" : "lost"] += 1;
  }
  return counts;
}

/**
 * Goal: invariant 2 with crashes of the server, and the second half of invariant 4: ids that are handed out again.
 * Method: the traffic of windows.test.ts on a server of its own; all its processes are killed in the middle, three times, and
 * started again. Claims do not wait for the disk and may be lost. What the tables say in the end is the truth for messages whose
 * COMMIT was not answered. After each crash every holder of the life before tries to settle what it was handed.
 */
test("when the server is killed no committed message is lost, a surviving claim excludes a second one, and stale tokens settle nothing", async () => {
  const seed = seedOf("crashes");
  const [reader] = await makeTopic(engine, "Crash", ["reader"]);
  if (reader === undefined) throw new Error("there is no reader");
  const life: Life = { reader, worker: await makeWorker(engine, [reader]), seed, ledger: new Ledger(), handed: [] };
  const settledBefore: { readonly numbers: ReadonlySet<number>; readonly lives: number }[] = [];
  let [survivors, staleLost] = [0, 0];
  for (let crash = 0; crash < 3; crash += 1) {
    await live(life, true);
    await server.start();
    const session = await openSession(engine.url);
    survivors += await endSurvivors(session, life.ledger, makeRandom(seed + crash));
    staleLost += (await settleStale(session, life.handed.at(-1) ?? [])).lost;
    settledBefore.push({ numbers: await settledNumbers(session), lives: life.handed.length });
    await session.close();
  }
  await live(life, false);

  const session = await openSession(engine.url);
  const stored = await numbersOf(session, "select (payload ->> 'm')::int as m from posthorn.message_1");
  const claimed = await numbersOf(
    session,
    `select (m.payload ->> 'm')::int as m from posthorn.claim_1 c cross join lateral unnest(c.messages) u(id) join posthorn.message_1 m on m.id = u.id`,
  );
  expectFates(new Set(stored), life.ledger);
  expect([...claimed].sort(byNumber), "each message in exactly one claim that survived").toEqual(
    [...stored].sort(byNumber),
  );
  const handed = countByNumber(life.handed.flat());
  expect(
    stored.filter((number) => !handed.has(number)),
    "lost",
  ).toEqual([]);
  for (const { numbers, lives } of settledBefore) {
    const later = countByNumber(life.handed.slice(lives).flat());
    expect(
      [...later.keys()].filter((number) => numbers.has(number)),
      "settled, and handed out again",
    ).toEqual([]);
  }
  const again = [...handed.values()].filter((times) => times > 1).length;
  process.stdout.write(
    `crashes: ${stored.length} messages, ${again} handed out again, ${survivors} prepared survived, ${staleLost} stale refused\n`,
  );
  expect(survivors).toBeGreaterThan(0);
  await session.close();
});

function byNumber(a: number, b: number): number {
  return a - b;
}

async function numbersOf(session: Session, sql: string): Promise<readonly number[]> {
  return (await session.rows(sql)).map(({ m }) => Number(m));
}

function expectFates(stored: ReadonlySet<number>, { committed, rolledBack, unknown }: Ledger): void {
  expect(
    [...committed].filter((number) => !stored.has(number)),
    "committed, and gone",
  ).toEqual([]);
  expect(
    [...rolledBack].filter((number) => stored.has(number)),
    "rolled back, and stored",
  ).toEqual([]);
  expect(
    [...stored].filter((number) => !committed.has(number) && !unknown.has(number)),
    "from nowhere",
  ).toEqual([]);
}

test("a claim of an at-most-once subscription is on disk when it returns", async () => {
  const reader = await makeQueue(engine, "durable", "at-most-once");
  const worker = await makeWorker(engine, [reader]);
  await say(engine.db, reader, [1]);
  await claim(engine.db, reader, worker);
  await server.kill();
  await server.start();
  const session = await openSession(engine.url);
  const claims = "select count(*)::int from posthorn.claim_1 where subscription = $1";
  expect(await session.value(claims, [reader.subscription])).toBe(1);
  await session.close();
});

test("at most once: that a run begins, and the claim before it, are on disk before it does", async () => {
  const reader = await makeQueue(engine, "once", "at-most-once");
  const worker = await makeWorker(engine, [reader]);
  await say(engine.db, reader, [1, 2]);
  const deliveries = await claim(engine.db, reader, worker);
  await begin(engine.db, [part(deliveries.slice(0, 1), 1, "begun", false)]);
  // The server is gone before anything else could have pushed them there.
  await server.kill();
  await server.start();
  const after = { ...engine, db: await openDatabase(engine.url), admin: await openSession(engine.url) };
  await die(after, worker);
  await rescueAll(after.db);
  const of = async (table: string) =>
    numbersOf(
      after.admin,
      `select (payload ->> 'm')::int as m from posthorn.${table} where subscription = ${reader.subscription}`,
    );
  expect({ unknown: await of("dead_letter"), again: await of("deferred") }).toEqual({ unknown: [1], again: [2] });
  await Promise.all([after.db.close(), after.admin.close()]);
});
