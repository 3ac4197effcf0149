import { rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { DatabaseUnavailableError } from "posthorn";
import { afterAll, beforeAll, expect, test } from "vitest";
import { eventually } from "../support/eventually.js";
import { type OwnServer, startServer } from "../support/server.js";
import { holds } from "./account.js";
import { WriteRow } from "./fixtures/contracts.js";
import { openScene, type Scene } from "./scene.js";

const patience = { withinMs: 60_000 };

let server: OwnServer;
let scene: Scene;
beforeAll(async () => {
  server = await startServer();
  scene = await openScene(server);
});
afterAll(async () => {
  await scene.stopWorkers();
  await server.remove();
});

const effect = (n: number) => scene.count("select count(*) from effect where n = $1", [n]);

/** The producer is refused with an error that says what is wrong and that it may be repeated; the worker says why it does nothing. */
async function refusedAndTold(worker: Awaited<ReturnType<Scene["worker"]>>): Promise<void> {
  const calls = {
    send: () => scene.post.send(WriteRow, { n: 1 }),
    sendMany: () => scene.post.sendMany(WriteRow, [{ n: 1 }, { n: 2 }]),
    transaction: () => scene.post.transaction(async ({ send }) => void send(WriteRow, { n: 1 })),
  };
  for (const [name, call] of Object.entries(calls)) {
    const refused = await eventually(async () => {
      const error = await call().then(
        () => undefined,
        (reason: unknown) => reason,
      );
      // A connection that was open when the server went away is found to be lost first.
      return error instanceof DatabaseUnavailableError && error.code === "PH_DATABASE_READ_ONLY" && error;
    }, patience);
    expect(refused, name).toMatchObject({ retryable: true });
  }
  await worker.line(/^warn the worker cannot begin; it tries again .*read-only/, patience);
}

test("a server that turns read-only is waited for: producers are told, the worker says why, and goes on when it can be written to", async () => {
  const worker = await scene.worker({ readers: ["rows"] });
  await scene.post.send(WriteRow, { n: 10 });
  await eventually(async () => (await effect(10)) === 1, patience);
  await scene.rows("alter system set default_transaction_read_only = on");
  await scene.rows("select pg_reload_conf()");
  await refusedAndTold(worker);
  await scene.rows("set default_transaction_read_only = off");
  await scene.rows("alter system reset default_transaction_read_only");
  await scene.rows("select pg_reload_conf()");
  await eventually(() => scene.post.send(WriteRow, { n: 11 }).then(() => true), patience);
  await eventually(async () => (await effect(11)) === 1, patience);
  worker.say("stop");
  expect(await worker.exited).toEqual({ code: 0, signal: null });
  await scene.quiet();
}, 180_000);

test("a hot standby is waited for until it is promoted, and nothing is lost or blamed on the way", async () => {
  // Goal: a fail-over: the connections end, who answers next is a standby, and some time later it is the primary.
  // Method: the server itself comes back as a standby without a primary; then it is promoted under the waiting worker.
  const worker = await scene.worker({ readers: ["rows"], workerTimeoutMs: 2_000 });
  await scene.post.send(WriteRow, { n: 20, act: "hold" });
  await worker.line("holds rows 20 attempt 1", patience);
  await server.stop();
  await writeFile(join(server.dataFolder, "standby.signal"), "");
  await server.start();
  await refusedAndTold(worker);
  expect(await eventually(() => scene.count("select pg_is_in_recovery()::int"), patience)).toBe(1);
  await scene.rows("select pg_promote(true, 60)");
  worker.say("go 20");
  await worker.line("holds rows 20 attempt 1", patience);
  worker.say("go 20");
  await eventually(async () => (await effect(20)) === 1, patience);
  await eventually(() => scene.post.send(WriteRow, { n: 21 }).then(() => true), patience);
  await eventually(async () => (await effect(21)) === 1, patience);
  await scene.quiet();
  expect(await scene.rows("select * from posthorn.dead_letters")).toEqual([]);
  worker.say("stop");
  expect(await worker.exited).toEqual({ code: 0, signal: null });
  expect(await holds(scene)).toMatchObject({ openClaims: 0, heldDeferred: 0, deferred: 0 });
  await rm(join(server.dataFolder, "standby.signal"), { force: true });
}, 240_000);
