/** The same request at the same moment: many connections, rollbacks, open transactions, kills. */
import { afterAll, beforeAll, expect, test } from "vitest";
import { type Outgoing, publicId, writeMessages } from "../../src/store/publish.js";
import { type Delivery, settle } from "../../src/store/work.js";
import {
  claim,
  die,
  type Engine,
  end,
  failure,
  makeQueue,
  makeWorker,
  openEngine,
  outgoing,
  part,
  type Reader,
  rescueAll,
  retryNow,
  type Session,
  takeOf as take,
  upTo,
  waitsForLock,
} from "./engine.js";
import { makeRandom, seedOf } from "./random.js";

let engine: Engine;
let queue: Reader;
let keys = 0;
beforeAll(async () => {
  engine = await openEngine();
  queue = await makeQueue(engine, "requests");
});
afterAll(() => engine.close());

const freshKey = (): string => {
  keys += 1;
  return `key-${keys}`;
};

type Mode = "drop" | "throttle" | "debounce" | "replace" | "once-more";
const windowed = (mode: Mode) => ({
  mode,
  ...(mode === "replace" || mode === "once-more" ? {} : { windowMs: 60_000 }),
});

/** Says one request through SQL, as any language would. */
async function say(session: Pick<Session, "value">, key: string, mode: Mode, n = 0): Promise<string> {
  const options = JSON.stringify({ dedupe: { key, ...windowed(mode) } });
  return String(
    await session.value("select posthorn.send('Dorequests', $1::json, options => $2::json)", [
      JSON.stringify({ key, n }),
      options,
    ]),
  );
}

/** The same with the mode drop, as a producer of ours does: by a function of its own. */
async function sayHere(session: Session, key: string): Promise<string> {
  const extras = {
    json: JSON.stringify({ dedupe: windowed("drop") }),
    dedupeKey: key,
    dropWithinMs: windowed("drop").windowMs,
    priority: 0,
    waits: false,
    once: `Dorequests\0${key}`,
  };
  const [place] = await writeMessages(session, [{ ...outgoing(queue), json: JSON.stringify({ key }), extras }]);
  if (place === undefined) throw new Error("it has no place");
  return publicId(place);
}

const storedOf = (key: string) =>
  engine.admin.value("select count(*)::int from posthorn.message_1 where payload ->> 'key' = $1", [key]);

/** Takes the one delivery of a key; the others of the queue are left. */
async function takeOf(key: string, worker: string): Promise<Delivery> {
  const found = (await take(engine.db, queue.subscription, worker, [queue.contract], 100)).find(({ payload }) =>
    JSON.stringify(payload).includes(`"${key}"`),
  );
  if (found === undefined) throw new Error(`nothing is due of ${key}`);
  return found;
}

test.each(["drop", "throttle", "debounce", "replace", "once-more"] as const)(
  "%s: of twenty connections that say the same at once one writes, and all get its id",
  async (mode) => {
    const sessions = await Promise.all(upTo(20).map(() => engine.session()));
    for (let round = 0; round < 5; round += 1) {
      const key = freshKey();
      const ids = await Promise.all(sessions.map((session, n) => say(session, key, mode, n)));
      // The first of a throttle runs at once; the others are the one at the end of its window.
      const wanted = mode === "throttle" ? 2 : 1;
      expect(new Set(ids).size).toBe(wanted);
      expect(await storedOf(key)).toBe(wanted);
    }
    await Promise.all(sessions.map((session) => session.close()));
  },
);

/**
 * Goal: with winners that roll back or lose their connection, exactly one request of each key is accepted among those that commit.
 * Method: twenty connections, each in transactions that say keys out of few, and end by COMMIT, ROLLBACK, or the end of their backend.
 */
test("drop under contention: whoever rolls back or is killed, of each key that anybody committed there is exactly one message", async () => {
  const seed = seedOf("dedupe");
  const pool = upTo(12).map(freshKey);
  const committed = new Map<string, Set<string>>();
  await Promise.all(
    upTo(20).map(async (number) => {
      const random = makeRandom(seed + number);
      let session = await engine.session();
      for (let turn = 0; turn < 15; turn += 1) {
        const key = pool[random.int(0, pool.length - 1)] ?? "";
        await session.rows("begin");
        const id = await (random.int(0, 1) === 0 ? say(session, key, "drop") : sayHere(session, key));
        const how = random.int(0, 3);
        if (how === 0) await session.rows("rollback");
        else if (how === 1) {
          await engine.db.query("select pg_terminate_backend($1::int)", [session.pid]);
          await session.close();
          session = await engine.session();
        } else {
          await session.rows("commit");
          committed.set(key, (committed.get(key) ?? new Set()).add(id));
        }
      }
      await session.close();
    }),
  );
  expect(committed.size).toBeGreaterThan(6);
  for (const [key, ids] of committed) {
    expect([key, ids.size]).toEqual([key, 1]);
    expect([key, await storedOf(key)]).toEqual([key, 1]);
  }
});

test("who says a key second waits for the first: it gets the first's id after a commit, and is accepted after a rollback", async () => {
  const [first, second] = [await engine.session(), await engine.session()];
  const ways = [(session: Session, key: string) => say(session, key, "drop"), sayHere];
  for (const [commits, one, two] of [true, false].flatMap((how) =>
    ways.flatMap((a) => ways.map((b) => [how, a, b] as const)),
  )) {
    const key = freshKey();
    await first.rows("begin");
    const id = await one(first, key);
    const other = two(second, key);
    await waitsForLock(engine, second);
    await first.rows(commits ? "commit" : "rollback");
    expect((await other) === id).toBe(commits);
    expect(await storedOf(key)).toBe(1);
  }
});

/** A list of requests with these keys. */
const listOf = (names: readonly string[]): readonly Outgoing[] =>
  names.map((key) => ({
    ...outgoing(queue),
    json: JSON.stringify({ key }),
    extras: {
      json: JSON.stringify({ dedupe: windowed("drop") }),
      dedupeKey: key,
      dropWithinMs: windowed("drop").windowMs,
      priority: 0,
      waits: false,
      once: `Dorequests\0${key}`,
    },
  }));

test("a list that waits for a key holds none of those that come behind it, in whatever order it has them", async () => {
  const first = `a${freshKey()}`;
  const others = upTo(6).map(() => `z${freshKey()}`);
  const [holder, list] = [await engine.session(), await engine.session()];
  await holder.rows("begin");
  await say(holder, first, "drop");
  const writing = writeMessages(list, listOf([...others, first]));
  await waitsForLock(engine, list);
  for (const key of others) expect(await sayHere(engine.admin, key)).toMatch(/-/);
  await holder.rows("rollback");
  await writing;
});

test("lists with the same keys in opposite orders wait for each other and never in a ring", async () => {
  const sessions = await Promise.all(upTo(4).map(() => engine.session()));
  for (let round = 0; round < 5; round += 1) {
    const names = upTo(200).map(freshKey);
    const orders = [names, [...names].reverse(), names, [...names].reverse()];
    const written = await Promise.all(sessions.map((session, i) => writeMessages(session, listOf(orders[i] ?? []))));
    const idsOf = (i: number) => written[i]?.map(({ id }) => id) ?? [];
    expect(idsOf(1).reverse()).toEqual(idsOf(0));
    expect(idsOf(2)).toEqual(idsOf(0));
  }
});

test("a transaction that cannot see who was first is refused with a typed error, and may be repeated", async () => {
  for (const level of ["repeatable read", "serializable"]) {
    const key = freshKey();
    const [early, late] = [await engine.session(), await engine.session()];
    await early.rows(`begin isolation level ${level}`);
    await early.rows("select count(*) from posthorn.contract");
    await say(late, key, "drop");
    const refusal = await failure(sayHere(early, key));
    expect(refusal).toMatchObject({ code: "PH_TRANSACTION_CONFLICT", retryable: true });
    await early.rows("rollback");
  }
});

test("what is counted on is not taken before who counts on it has committed", async () => {
  const worker = await makeWorker(engine, [queue]);
  for (const mode of ["once-more", "replace"] as const) {
    const key = freshKey();
    const id = await say(engine.admin, key, mode);
    const open = await engine.session();
    await open.rows("begin");
    expect(await say(open, key, mode, 1)).toBe(id);
    await expect(takeOf(key, worker)).rejects.toThrow("nothing is due");
    await open.rows("commit");
    expect((await takeOf(key, worker)).payload).toEqual({ key, n: mode === "replace" ? 1 : 0 });
  }
});

test("a producer's open transaction never holds up the worker of the delivery that runs", async () => {
  const worker = await makeWorker(engine, [queue]);
  const key = freshKey();
  const first = await say(engine.admin, key, "once-more");
  const running = await takeOf(key, worker);
  const open = await engine.session();
  await open.rows("begin");
  expect(await say(open, key, "once-more", 1)).not.toBe(first);
  // Waits for nothing, and cannot see the one that is kept.
  await settle(engine.db, [], [end(running, "succeeded", null)], null);
  await open.rows("commit");
  await expect(takeOf(key, worker)).rejects.toThrow("nothing is due");
  await engine.admin.rows("select posthorn.tidy_dedupe(100)");
  expect((await takeOf(key, worker)).payload).toEqual({ key, n: 1 });
});

test.each([
  ["has succeeded", async (running: Delivery) => settle(engine.db, [], [end(running, "succeeded", null)], null), 1],
  [
    "waits for a retry",
    async (running: Delivery) => settle(engine.db, [], [end(running, "failed", retryNow)], null),
    2,
  ],
  [
    "died with its worker",
    async (_: Delivery, worker: string) => die(engine, worker).then(() => rescueAll(engine.db)),
    2,
  ],
] as const)("once more: the one that is kept is due as soon as the running one %s", async (_what, ends, count) => {
  const [worker, next] = [await makeWorker(engine, [queue]), await makeWorker(engine, [queue])];
  const key = freshKey();
  await say(engine.admin, key, "once-more");
  const running = await takeOf(key, worker);
  await say(engine.admin, key, "once-more", 1);
  await expect(takeOf(key, next)).rejects.toThrow("nothing is due");
  await ends(running, worker);
  const due = (await take(engine.db, queue.subscription, next, [queue.contract], 100)).filter(({ payload }) =>
    JSON.stringify(payload).includes(`"${key}"`),
  );
  expect(due).toHaveLength(count);
});

test("a message that outlived its worker keeps its key: it is found by the next request while it waits again", async () => {
  const worker = await makeWorker(engine, [queue]);
  const key = freshKey();
  const first = await say(engine.admin, key, "replace");
  await takeOf(key, worker);
  await die(engine, worker);
  await rescueAll(engine.db);
  expect(await say(engine.admin, key, "replace", 7)).toBe(first);
  const next = await makeWorker(engine, [queue]);
  expect(await takeOf(key, next)).toMatchObject({ payload: { key, n: 7 }, delivery: 2, crashes: 1 });
});

test("a key stands for its first message until its window is over, also when that has long ended, and is forgotten then", async () => {
  const worker = await makeWorker(engine, [queue]);
  const key = freshKey();
  const id = await say(engine.admin, key, "drop");
  const all = await claim(engine.db, queue, worker, 10_000);
  await settle(engine.db, [part(all, 1, "succeeded", true)], [], null);
  await engine.admin.rows("select posthorn.tidy_dedupe(1000)");
  expect(await say(engine.admin, key, "drop")).toBe(id);
  const past = "until = clock_timestamp() - interval '1 s', look_at = clock_timestamp() - interval '1 s'";
  await engine.admin.rows(`update posthorn.dedupe set ${past} where key = $1`, [key]);
  await engine.admin.rows("select posthorn.tidy_dedupe(1000)");
  expect(await engine.admin.value("select count(*)::int from posthorn.dedupe where key = $1", [key])).toBe(0);
});

test("what waits once more is due in the moment in which the one before it ends", async () => {
  const worker = await makeWorker(engine, [queue]);
  const key = freshKey();
  await say(engine.admin, key, "once-more");
  const first = await takeOf(key, worker);
  const id = await say(engine.admin, key, "once-more", 1);
  await settle(engine.db, [], [end(first, "succeeded", null)], null);
  expect(publicId(await takeOf(key, worker))).toBe(id);
});

test("keys are tidied while they are said, and none is lost or accepted twice", async () => {
  const sessions = await Promise.all(upTo(8).map(() => engine.session()));
  const tidier = await engine.session();
  const names = upTo(20).map(freshKey);
  let saying = true;
  const tidying = (async () => {
    while (saying) {
      // Over at once, as far as the tidier is concerned; the window itself is not.
      await tidier.rows("update posthorn.dedupe set look_at = '-infinity' where key = any ($1::text[])", [names]);
      await tidier.rows("select posthorn.tidy_dedupe(1000)");
    }
  })();
  const ids = await Promise.all(
    sessions.map(async (session) => {
      const own: string[] = [];
      for (const key of names) own.push(await say(session, key, "once-more"));
      return own;
    }),
  );
  saying = false;
  await tidying;
  for (const own of ids) expect(own).toEqual(ids[0]);
});
