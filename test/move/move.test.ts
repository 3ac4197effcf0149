import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { openDatabase } from "../../src/databases/open.js";
import { move, refuseMove } from "../../src/store/move.js";
import { planRebase } from "../../src/store/rebase.js";
import { posthornCommand } from "../cli/command.js";
import { die, type Engine, failure, makeQueue, makeWorker, openEngine, say, upTo } from "../sql/engine.js";
import { makeRandom, seedOf } from "../sql/random.js";
import { eventually } from "../support/eventually.js";
import { spawnFixture } from "../support/processes.js";
import { createDatabase, type OwnServer, startServer } from "../support/server.js";
import { drain, type Fleet, leftToDo, makeFleet, underLoad } from "./load.js";
import { sendNow } from "./saying.js";

let other: OwnServer;
beforeAll(async () => {
  other = await startServer();
});
afterAll(() => other.remove());

async function within<T>(work: (from: Engine, to: Engine) => Promise<T>): Promise<T> {
  const [from, to] = await Promise.all([openEngine(), openEngine(other)]);
  try {
    return await work(from, to);
  } finally {
    await Promise.all([from.close(), to.close()]);
  }
}

/** A fleet that was stopped in the middle of its work, and what it left. */
async function stoppedFleet(engine: Engine, name: string): Promise<{ fleet: Fleet; left: ReadonlySet<string> }> {
  const random = makeRandom(seedOf(name));
  const fleet = await makeFleet(engine);
  await underLoad(engine, fleet, random, () =>
    eventually(async () => Number(await engine.admin.value("select count(*) from posthorn.claim_1")) >= 100, {
      everyMs: 5,
    }),
  );
  const workers = await engine.admin.rows("select id::text from posthorn.worker");
  await die(engine, ...workers.map(({ id }) => String(id)));
  return { fleet, left: await leftToDo(engine) };
}

function first({ readers: [reader] }: Fleet) {
  if (reader === undefined) throw new Error("the fleet has readers");
  return reader;
}

test("a log is moved with all that was not done, and nothing else; the source says where it went", async () => {
  await within(async (from, to) => {
    const { fleet, left } = await stoppedFleet(from, "move");
    const moved = await move({ source: from.db, target: to.db });
    expect(moved).toMatchObject({ resumed: false });
    const error = await failure(say(from.db, first(fleet), [1]));
    expect(error).toMatchObject({ code: "PH_DATABASE_MOVED", facts: { detail: "moved" } });
    expect(error.message).toContain(`127.0.0.1:${other.port}`);
    expect(error.message).not.toContain("postgres@");
    expect((await drain(to, fleet)).deliveries.toSorted()).toEqual([...left].toSorted());
    expect(await move({ source: from.db, target: to.db })).toMatchObject({ resumed: true });
    expect((await drain(to, fleet)).deliveries).toEqual([]);
  });
});

const kills = [
  "rescued",
  "marked",
  "still",
  "emptied",
  "counted",
  "copying",
  "copying 2",
  "copying 5",
  "copied",
  "left",
  "finished",
] as const;

/**
 * Goal: a move that dies anywhere leaves one owner or none, never two, and can be called again.
 * Method: a process moves and kills itself when it tells of a step; then both sides are asked; then it is called again.
 */
test.each(kills)(
  'a move that is killed at "%s" leaves one owner or none, and the next call moves all of it',
  async (at) => {
    await within(async (from, to) => {
      const { fleet, left } = await stoppedFleet(from, `killed at ${at}`);
      const mover = await spawnFixture("test/move/fixtures/mover.ts", { args: [from.url, to.url, ...at.split(" ")] });
      expect(await mover.exited).toMatchObject({ signal: "SIGKILL" });
      const told = (step: string) => mover.lines.includes(step);
      const expected = new Set(left);
      if (told("left")) {
        expect(await failure(say(from.db, first(fleet), [1]))).toMatchObject({ facts: { detail: "moved" } });
      } else {
        // What held the source still ends with its connection: it is worked on as before.
        const [id] = await say(from.db, first(fleet), [1]);
        for (const { subscription } of fleet.readers.slice(0, 2)) expected.add(`${subscription}/${id}`);
      }
      if (told("marked") && !told("finished")) {
        expect(await failure(say(to.db, first(fleet), [1]))).toMatchObject({ facts: { detail: "unfinished" } });
      }
      expect(await move({ source: from.db, target: to.db })).toMatchObject({ resumed: told("left") });
      expect((await drain(to, fleet)).deliveries.toSorted()).toEqual([...expected].toSorted());
    });
  },
);

describe("a move is refused", () => {
  test("while a worker lives at the source, and frees nothing of it", async () => {
    await within(async (from, to) => {
      await makeWorker(from, [await makeQueue(from, "mail")]);
      const moves = [() => move({ source: from.db, target: to.db }), () => refuseMove(from.db, to.db)];
      for (const refused of moves) {
        const error = await failure(refused());
        expect(error).toMatchObject({ code: "PH_SOURCE_IN_USE", facts: { workers: [{ service: "test", pid: 1 }] } });
      }
      expect(await planRebase(to.db)).toBeUndefined();
    });
  });

  test("while a transaction that said something is open, and then takes its message along", async () => {
    await within(async (from, to) => {
      const reader = await makeQueue(from, "mail");
      const session = await from.session();
      await session.rows("begin");
      await say(session, reader, [1]);
      expect(await failure(move({ source: from.db, target: to.db }))).toMatchObject({ code: "PH_SOURCE_IN_USE" });
      await session.rows("commit");
      await move({ source: from.db, target: to.db });
      expect((await drain(to, { readers: [reader], ordered: new Set(), once: 0 })).deliveries).toHaveLength(1);
    });
  });

  test("where the target is used, is the source, or is the target of another move", async () => {
    await within(async (from, to) => {
      await makeQueue(from, "mail");
      expect(await failure(move({ source: from.db, target: from.db }))).toMatchObject({ code: "PH_TARGET_IN_USE" });
      const third = await openEngine(other);
      await makeQueue(third, "mail");
      const error = await failure(move({ source: from.db, target: third.db }));
      expect(error).toMatchObject({ code: "PH_TARGET_IN_USE" });
      expect(error.message).toContain('the queue "mail"');
      await to.admin.rows("select posthorn.expect_move(gen_random_uuid(), 'elsewhere', 1, 1)");
      expect((await failure(move({ source: from.db, target: to.db }))).message).toContain("a move from elsewhere");
      await third.close();
    });
  });

  test("of a copy and of a log that has been moved", async () => {
    await within(async (from, to) => {
      await makeQueue(from, "mail");
      await move({ source: from.db, target: to.db });
      const third = await openEngine(other);
      const error = await failure(move({ source: from.db, target: third.db }));
      expect(error).toMatchObject({ code: "PH_DATABASE_MOVED", facts: { detail: "moved" } });
      expect(await planRebase(third.db)).toBeUndefined();
      await third.close();
    });
  });
});

test("a transaction that began before the move at repeatable read says nothing into the source that was left", async () => {
  await within(async (from, to) => {
    const reader = await makeQueue(from, "mail");
    const session = await from.session();
    await say(session, reader, [1]);
    await session.rows("begin isolation level repeatable read");
    await session.rows("select 1 from pg_class limit 1");
    await move({ source: from.db, target: to.db });
    expect(await failure(say(session, reader, [2]))).toMatchObject({ code: "PH_DATABASE_MOVED" });
    await session.rows("rollback");
    expect((await drain(to, { readers: [reader], ordered: new Set(), once: 0 })).deliveries).toHaveLength(1);
  });
});

test("every value arrives as it was: JSON null, blanks and escapes in payloads, infinity, arrays, and what sequences gave", async () => {
  await within(async (from, to) => {
    const reader = await makeQueue(from, "mail");
    const payloads = ["null", ' { "a" : "b\\"\\\\\\n\\u0041" } ', '"x,(y)"', "1e400", "[]", '"\u{1F600}\'"'];
    for (const payload of payloads) await from.admin.rows("select posthorn.send('Domail', $1::json)", [payload]);
    await from.admin.rows(
      "insert into posthorn.step (subscription, message, name, result) values ($1, 1, 'a,b', 'null'), ($1, 1, 'c', null)",
      [reader.subscription],
    );
    const look = (engine: Engine) =>
      engine.admin.rows(`select (select json_agg(m order by id) from (select id, nonce, payload::text, published_at from posthorn.message_1) m) as messages,
        (select json_agg(s order by name) from (select name, result::text, result is null as none, at from posthorn.step) s) as steps,
        (select json_agg(l) from posthorn.channel l) as channels, (select json_agg(c) from posthorn.contract c) as contracts`);
    const before = await look(from);
    await move({ source: from.db, target: to.db });
    expect(await look(to)).toEqual(before);
    const [id] = await say(to.db, reader, upTo(1));
    expect(Number(id)).toBeGreaterThan(payloads.length);
  });
});

test("an embedded folder is moved by the command line, which tells how far it is and refuses the folder afterwards", async () => {
  const folder = await mkdtemp(join(tmpdir(), "posthorn-move-"));
  const target = await createDatabase({ on: other });
  try {
    const from = `embedded:${join(folder, "db")}`;
    const database = await openDatabase(from);
    await sendNow(database, 250);
    const held = await posthornCommand(["move", "--from", from, "--to", target.url]);
    expect(held).toMatchObject({ code: 1, err: expect.stringContaining("PH_EMBEDDED_HELD") });
    await database.close();
    expect(await posthornCommand(["move", "--from", from, "--to", target.url, "--dry-run"])).toMatchObject({
      code: 0,
      out: "Nothing stands in the way of the move.\n",
    });
    const ended = await posthornCommand(["move", "--from", from, "--to", target.url]);
    expect(ended).toMatchObject({
      code: 0,
      out: expect.stringMatching(/^Moved: embedded:.* to postgres:[\s\S]*message_1: 250/),
    });
    expect(ended.err).toMatch(/the source holds still[\s\S]*message_1: 250 of 250 rows[\s\S]*the target is the owner/);
    const again = await posthornCommand(["migrate", "--database", from]);
    expect(again).toMatchObject({ code: 1, out: expect.stringMatching(/was moved to postgres:\/\/127\.0\.0\.1:/) });
    expect((await posthornCommand(["migrate", "--database", target.url])).code).toBe(0);
    const status = JSON.parse((await posthornCommand(["status", "--database", target.url, "--json"])).out);
    expect(status.lines).toMatchObject([{ name: "mail", backlog: 250 }]);
    expect((await posthornCommand(["move", "--from", from, "--to", target.url])).out).toMatch(
      /had been interrupted and is finished/,
    );
  } finally {
    await target.drop();
    await rm(folder, { recursive: true, force: true });
  }
});
