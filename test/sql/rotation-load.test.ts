import { afterAll, beforeAll, expect, test } from "vitest";
import { registerWorker } from "../../src/store/fleet.js";
import { rotate } from "../../src/store/segments.js";
import { type Delivery, settle, takeDue, work } from "../../src/store/work.js";
import { eventually } from "../support/eventually.js";
import { type OwnServer, startServer } from "../support/server.js";
import {
  die,
  type Engine,
  end,
  makeTopic,
  makeWorker,
  numberOf,
  openEngine,
  openSession,
  part,
  type Reader,
  rescueAll,
  type Session,
} from "./engine.js";
import { makeRandom, type Random, seedOf } from "./random.js";
import { emptied, keepNothing, makeEarlyInsert, ringOf, rotateUntil } from "./rotation.js";
import { claimAll, countByNumber, endPrepared, Ledger, Pace, Producer } from "./traffic.js";

let engine: Engine;
beforeAll(async () => {
  engine = await openEngine();
  await keepNothing(engine);
});
afterAll(() => engine.close());

function expectOnce(deliveries: readonly Pick<Delivery, "payload">[], ledger: Ledger, who: string): void {
  const counts = countByNumber(deliveries);
  const lost = [...ledger.committed].filter((number) => !counts.has(number));
  expect(lost, `${who}: lost`).toEqual([]);
  const twice = [...counts].filter(([, times]) => times > 1);
  expect(twice, `${who}: twice`).toEqual([]);
  const strange = [...counts.keys()].filter((number) => !ledger.committed.has(number));
  expect(strange, `${who}: never committed`).toEqual([]);
}

/** Claims, and leaves some of what it claimed to die with its worker; whoever finds it takes it again. Until all is handled. */
async function handleBadly(reader: Reader, random: Random, finished: () => boolean): Promise<Delivery[]> {
  const succeeded: Delivery[] = [];
  const session = await engine.session();
  let worker = await makeWorker(engine, [reader]);
  for (;;) {
    const last = finished();
    const { missed, deliveries } = await work(session, reader.subscription, worker, random.int(1, 30), []);
    const taken = (await takeDue(session, reader.subscription, worker, [reader.contract], 20)).deliveries;
    if (random.oneIn(4)) {
      await die(engine, worker);
      await rescueAll(engine.db);
      worker = await makeWorker(engine, [reader]);
      continue;
    }
    for (const one of taken) await settle(session, [], [end(one, "succeeded", null)], null);
    if (deliveries.length > 0) await settle(session, [part(deliveries, 1, "succeeded", true)], [], null);
    succeeded.push(...taken, ...deliveries);
    if (last && !missed && deliveries.length + taken.length === 0) return succeeded;
  }
}

/** Claims many messages now and then, and what is left at the end. */
async function handleSeldom(
  reader: Reader,
  worker: string,
  random: Random,
  pace: Pace,
  finished: () => boolean,
): Promise<Delivery[]> {
  const session = await engine.session();
  const seen: Delivery[] = [];
  while (!finished()) {
    await pace.after(random.int(1, 60));
    const { deliveries } = await work(session, reader.subscription, worker, random.int(1, 400), []);
    seen.push(...deliveries);
    if (deliveries.length > 0) await settle(session, [part(deliveries, 1, "succeeded", true)], [], null);
  }
  await claimAll({ session, reader, worker, random, pace, seen, finished: () => true });
  return seen;
}

/** From the middle on nobody is missing. Between two bouts no transaction is open, so that segments go. */
async function produceInBouts(producers: readonly Producer[], catchUp: () => Promise<void>): Promise<void> {
  for (let bout = 0; bout < 8; bout += 1) {
    await Promise.all(producers.map((producer) => producer.run(15)));
    if (bout < 3) continue;
    await catchUp();
    await eventually(async () => (await ringOf(engine)).slots.length <= 2);
  }
}

/**
 * Goal: invariants 2 and 8 while the ring turns as fast as it can.
 * Method: the producers of windows.test.ts: every isolation level, transactions that stay open over hundreds of claims, savepoints, prepared ones, ids
 * drawn long before they are written. Readers: one that is claimed from by three, one that is claimed from seldom, one whose workers die with what
 * they claimed, one that nobody works on until the end. Nothing is kept, and somebody rotates all the time.
 */
test("every committed message is handled once by each reader while segments are truncated as soon as they may be", async () => {
  const seed = seedOf("rotation");
  const readers = await makeTopic(engine, "Turning", ["swift", "seldom", "deadly", "absent"]);
  const [swift, seldom, deadly, absent] = readers;
  if (swift === undefined || seldom === undefined || deadly === undefined || absent === undefined)
    throw new Error("four were made");
  const worker = await makeWorker(engine, readers);
  const insert = await makeEarlyInsert(engine);
  const [ledger, pace] = [new Ledger(), new Pace()];
  const handed = { swift: [] as Delivery[], absent: [] as Delivery[] };
  let [finished, all] = [false, false];
  const claimers = [0, 1, 2].map(async (i) => {
    const random = makeRandom(seed + 1_000 + i);
    await claimAll({
      session: await engine.session(),
      reader: swift,
      worker,
      random,
      pace,
      seen: handed.swift,
      finished: () => finished,
    });
  });
  const slow = handleSeldom(seldom, worker, makeRandom(seed + 2_000), pace, () => finished);
  const bad = handleBadly(deadly, makeRandom(seed + 3_000), () => finished);
  const rotating = rotateUntil(engine, () => all);
  const producing = [0, 1, 2, 3].map(async (i) => {
    const session = await engine.session();
    const random = makeRandom(seed + i);
    return new Producer({ session, reader: swift, event: "TurningHappened", random, ledger, pace, insert });
  });
  const producers = await Promise.all(producing);
  await produceInBouts(producers, async () => {
    const options = { session: engine.admin, reader: absent, worker, random: makeRandom(seed), pace };
    await claimAll({ ...options, seen: handed.absent, finished: () => true });
  });
  finished = true;
  // Those who wait for claims of others go on.
  pace.end();
  await Promise.all(claimers);
  const [seen, succeeded] = await Promise.all([slow, bad]);
  await claimAll({
    session: engine.admin,
    reader: absent,
    worker,
    random: makeRandom(seed),
    pace,
    seen: handed.absent,
    finished: () => true,
  });
  all = true;
  const truncated = await rotating;
  expectOnce(handed.swift, ledger, "swift");
  expectOnce(seen, ledger, "seldom");
  expectOnce(handed.absent, ledger, "absent");
  // One that was under five workers that died is kept apart.
  const killers = await engine.admin.rows(
    "select payload from posthorn.dead_letter where reason = 'killed its workers'",
  );
  expectOnce([...succeeded, ...killers.map(({ payload }) => ({ payload }))], ledger, "deadly");
  await emptied(engine);
  process.stdout.write(`rotation: ${ledger.committed.size} messages, ${truncated} segments\n`);
  expect(truncated).toBeGreaterThan(8);
});

/** Ends a session, and waits until it is gone: what it had locked is held a moment longer than its client is told. */
async function terminated({ pid }: Session): Promise<void> {
  expect(await engine.admin.value("select pg_terminate_backend($1::int, 60000)", [pid])).toBe(true);
}

/**
 * Goal: a rotation is gone on with by whoever comes next, wherever the one before it was killed.
 * Method: whoever rotates does one step and is then ended by the server, at each step of many rotations, and sometimes within one: it hangs
 * at a row that somebody has locked. Messages are said and handled in between.
 */
test("whoever rotates may be killed between any two steps, and in one, and nothing is lost", async () => {
  const [reader] = await makeTopic(engine, "Killed", ["killed"]);
  if (reader === undefined) throw new Error("one was made");
  const worker = await makeWorker(engine, [reader]);
  const seen: number[] = [];
  const did: string[] = [];
  for (let m = 1; m <= 60; m += 1) {
    await engine.admin.rows("select posthorn.publish('KilledHappened', json_build_object('m', $1::int))", [m]);
    const rotator = await engine.session();
    if (m % 3 === 0) {
      await engine.admin.rows("begin");
      await engine.admin.rows("select from posthorn.ring for update");
      const hanging = rotate(rotator).then(
        () => "done",
        () => "killed",
      );
      await terminated(rotator);
      await hanging;
      await engine.admin.rows("rollback");
    } else {
      did.push(String((await rotate(rotator)).did));
      await terminated(rotator);
    }
    if (m % 2 === 0) {
      const { deliveries } = await work(engine.db, reader.subscription, worker, 10, []);
      seen.push(...deliveries.map(numberOf));
      if (deliveries.length > 0) await settle(engine.db, [part(deliveries, 1, "succeeded", true)], [], null);
    }
  }
  expect(seen).toEqual(Array.from({ length: 60 }, (_, i) => i + 1));
  expect(new Set(did)).toEqual(
    new Set(
      ["opened", "switched", "sealed", "advanced", "finished", "truncated", "null"].filter((one) => did.includes(one)),
    ),
  );
  expect(did).toContain("truncated");
  await emptied(engine);
});

/** A worker that is made with a connection of its own: those of an engine do not outlive its server. */
async function registered(url: string, { subscription, contract }: Reader): Promise<string> {
  const session = await openSession(url);
  const attends = [{ subscription, contracts: [contract] }];
  const entry = {
    service: "test",
    host: "here",
    pid: 1,
    timeoutMs: 3_600_000,
    sessionKey: null,
    backends: [],
    attends,
  };
  const worker = await registerWorker({ query: session.query }, entry);
  await session.close();
  return worker;
}

interface Crashing {
  readonly url: string;
  readonly server: OwnServer;
  readonly reader: Reader;
  readonly insert: string;
  readonly seed: number;
  readonly ledger: Ledger;
  readonly seen: Delivery[];
}

/** One life of the server: traffic and rotations until it is killed, or until all is said and claimed. Returns how many segments went. */
async function live(
  { url, server, reader, insert, seed, ledger, seen }: Crashing,
  life: number,
  kill: boolean,
): Promise<number> {
  const pace = new Pace();
  const worker = await registered(url, reader);
  const sessions: Session[] = [];
  const session = async () => {
    const opened = await openSession(url);
    sessions.push(opened);
    return opened;
  };
  let [finished, stopped, truncated] = [false, false, 0];
  const claimers = [0, 1].map(async (i) => {
    const random = makeRandom(seed + 10 * life + i);
    await claimAll({ session: await session(), reader, worker, random, pace, seen, finished: () => finished });
  });
  const producers = [0, 1, 2].map(async (i) => {
    const random = makeRandom(seed + 10 * life + 5 + i);
    const options = { session: await session(), reader, event: "CrashingHappened", random, ledger, pace, insert };
    await new Producer(options).run(kill ? 1_000_000 : 10);
  });
  const turning = (async () => {
    const rotator = await session();
    while (!stopped) if ((await rotate(rotator)).did === "truncated") truncated += 1;
  })();
  if (kill) {
    const ended = Promise.allSettled([...claimers, ...producers, turning]);
    await pace.after(200);
    // Only then it dies in the middle of rotations: transactions that stay open hold them up for as long.
    await eventually(() => truncated > 0, { everyMs: 1 });
    await server.kill();
    stopped = true;
    pace.end();
    await ended;
    await server.start();
    await tidy(url, ledger);
  } else {
    await Promise.all(producers).finally(() => {
      finished = true;
    });
    await Promise.all(claimers);
    stopped = true;
    await turning;
  }
  await Promise.all(sessions.map((one) => one.close()));
  return truncated;
}

/** What was prepared when the server died commits; what was claimed then and not settled waits from here on. */
async function tidy(url: string, ledger: Ledger): Promise<void> {
  const after = await openSession(url);
  for (const { gid } of await after.rows("select gid from pg_prepared_xacts"))
    await endPrepared(after, String(gid), ledger, true);
  ledger.prepared.clear();
  await after.rows("update posthorn.worker set heartbeat_at = '-infinity'");
  await rescueAll(after);
  await after.close();
}

/**
 * Goal: invariant 8 with crashes of the server.
 * Method: as above with one reader, on a server of its own whose processes are all killed in the middle, three times. Claims and settlements do
 * not wait for the disk, so messages may come again; but each that was committed comes.
 */
test("when the server is killed in the middle of rotations no committed message is lost", async () => {
  const seed = seedOf("rotation-crashes");
  const server: OwnServer = await startServer();
  const own = await openEngine(server);
  try {
    const [reader] = await makeTopic(own, "Crashing", ["crashing"]);
    if (reader === undefined) throw new Error("one was made");
    await keepNothing(own);
    const insert = await makeEarlyInsert(own);
    const crashing: Crashing = { url: own.url, server, reader, insert, seed, ledger: new Ledger(), seen: [] };
    let truncated = 0;
    for (const life of [0, 1, 2, 3]) truncated += await live(crashing, life, life < 3);
    const { ledger, seen } = crashing;
    const last = await openSession(own.url);
    const [again] = await last.rows(
      "select coalesce(array_agg((payload ->> 'm')::int), '{}') as m from posthorn.deferred",
    );
    const counts = countByNumber(seen);
    const waiting = new Set(again?.m as number[]);
    expect(
      [...ledger.committed].filter((number) => !counts.has(number) && !waiting.has(number)),
      "lost",
    ).toEqual([]);
    expect(
      [...counts.keys()].filter((number) => ledger.rolledBack.has(number)),
      "rolled back",
    ).toEqual([]);
    process.stdout.write(`rotation-crashes: ${ledger.committed.size} messages, ${truncated} segments\n`);
    expect(truncated).toBeGreaterThanOrEqual(3);
    await last.close();
  } finally {
    await server.remove();
  }
});
