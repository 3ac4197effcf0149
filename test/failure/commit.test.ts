import { beforeAll, expect, onTestFinished, test } from "vitest";
import { eventually } from "../support/eventually.js";
import { spawnFixture } from "../support/processes.js";
import { type OwnServer, startServer } from "../support/server.js";
import { effectsOf, holds, notEndedOnce } from "./account.js";
import { WriteRow } from "./fixtures/contracts.js";
import { openScene, type Scene } from "./scene.js";

const patience = { withinMs: 60_000 };

let server: OwnServer;
let scene: Scene;
beforeAll(async () => {
  server = await startServer();
  scene = await openScene(server);
  return () => server.remove();
});

for (const how of ["post.transaction", "post.in", "post.send"] as const) {
  test(`a message whose producer is killed by SIGKILL right after the COMMIT of ${how} is delivered, and one whose producer is killed right before it never was`, async () => {
    // Goal: the log is the outbox: COMMIT alone decides; nothing that the producer would do after it is needed.
    // Method: a producer process kills itself in the statement before, or after, COMMIT; a worker is started only then.
    const n = { "post.transaction": 100, "post.in": 200, "post.send": 300 }[how];
    for (const [moment, number] of [
      ["after", n],
      ["before", n + 1],
    ] as const) {
      if (how === "post.send" && moment === "before") continue;
      const producer = await spawnFixture("test/failure/fixtures/suicide.ts", {
        args: [JSON.stringify({ url: scene.url, n: number, how, moment })],
      });
      expect(await producer.exited).toEqual({ code: null, signal: "SIGKILL" });
      expect(producer.lines).toEqual([`${moment} COMMIT`]);
    }
    const worker = await scene.worker({ readers: ["rows"] });
    await eventually(async () => (await effectsOf(scene, "rows")).get(n) === 1, patience);
    await scene.quiet();
    expect((await effectsOf(scene, "rows")).get(n + 1)).toBeUndefined();
    expect(await notEndedOnce(scene)).toEqual([]);
    worker.say("stop");
    await worker.exited;
  });
}

/** The backend that is in COMMIT, waiting for what the test has prepared. */
async function committing(event: string): Promise<number> {
  return eventually(async () => {
    const [row] = await scene.rows<{ pid: number }>(
      "select pid from pg_stat_activity where datname = current_database() and query ilike '%commit' and wait_event = $1 and state = 'active'",
      [event],
    );
    return row?.pid;
  }, patience);
}

/** Handles a message that is held in its handler; `inCommit` does something to the COMMIT that follows. */
async function throughCommit(n: number, inCommit: () => Promise<void>): Promise<void> {
  const worker = await scene.worker({ readers: ["rows"] });
  await scene.post.send(WriteRow, { n, act: "hold" });
  await worker.line(`holds rows ${n} attempt 1`, patience);
  worker.say(`go ${n}`);
  // For the run after a COMMIT that was rolled back.
  worker.say(`go ${n}`);
  await inCommit();
  await scene.quiet();
  worker.say("stop");
  expect(await worker.exited).toEqual({ code: 0, signal: null });
  expect(await notEndedOnce(scene)).toEqual([]);
  expect(await holds(scene)).toEqual({ openClaims: 0, heldDeferred: 0, deferred: 0, workers: 0 });
}

test("a handler's transaction whose connection is lost in COMMIT before it is stored runs again, and its effects are there once", async () => {
  // Goal: the worker cannot know how the COMMIT ended; here it did not, and the message must run again.
  // Method: a deferred constraint trigger of the user's makes COMMIT wait for a lock that the test holds; its backend is terminated there.
  await scene.rows(`create function wait_in_commit() returns trigger language plpgsql as $$
    begin perform pg_advisory_xact_lock(4711); return null; end $$`);
  await scene.rows(`create constraint trigger wait_in_commit after insert on effect deferrable initially deferred
    for each row when (new.n = 400 and new.attempt = 1) execute function wait_in_commit()`);
  await scene.rows("select pg_advisory_lock(4711)");
  await throughCommit(400, async () => {
    const pid = await committing("advisory");
    await scene.rows("select pg_terminate_backend($1)", [pid]);
    await eventually(
      async () => (await scene.count("select count(*) from pg_stat_activity where pid = $1", [pid])) === 0,
    );
    await scene.rows("select pg_advisory_unlock(4711)");
  });
  expect((await effectsOf(scene, "rows")).get(400)).toBe(1);
});

test("a handler's transaction whose connection is lost in COMMIT after it was stored does not run again, and its effects are there once", async () => {
  // Goal: the other outcome of the same loss: the effects and the end are stored although the worker never hears of it.
  // Method: COMMIT waits for a standby that does not exist, which it does after the transaction is stored here; its backend is
  // terminated in that wait.
  onTestFinished(async () => void (await standby("")));
  const worker = await scene.worker({ readers: ["rows"] });
  await scene.post.send(WriteRow, { n: 500, act: "hold synchronously" });
  await worker.line("holds rows 500 attempt 1", patience);
  await standby("nobody");
  worker.say("go 500");
  const pid = await committing("SyncRep");
  await scene.rows("select pg_terminate_backend($1)", [pid]);
  await eventually(
    async () => (await scene.count("select count(*) from pg_stat_activity where pid = $1", [pid])) === 0,
  );
  await standby("");
  // A second run would print a line and wait for the test's word.
  await worker.line(/a settlement was refused/, patience);
  await scene.quiet();
  worker.say("stop");
  expect(await worker.exited).toEqual({ code: 0, signal: null });
  expect(worker.lines.filter((line) => line.startsWith("holds"))).toHaveLength(1);
  expect((await effectsOf(scene, "rows")).get(500)).toBe(1);
  expect(await notEndedOnce(scene)).toEqual([]);
});

async function standby(name: string): Promise<void> {
  // Not through a COMMIT of its own: that would wait for the standby as well.
  await scene.rows("set synchronous_commit = local");
  await scene.rows(`alter system set synchronous_standby_names = '${name}'`);
  await scene.rows("select pg_reload_conf()");
  await eventually(async () => {
    const [row] = await scene.rows<{ setting: string }>(
      "select setting from pg_settings where name = 'synchronous_standby_names'",
    );
    return row?.setting === name;
  });
}
