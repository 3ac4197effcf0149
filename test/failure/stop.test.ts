import { once } from "node:events";
import { command, type Post, policies, posthorn, type Sql, type } from "posthorn";
import { beforeEach, expect, test } from "vitest";
import { silentLogger } from "../../src/core/logger.js";
import { eventually } from "../support/eventually.js";
import { type OwnServer, startServer } from "../support/server.js";
import { deadOf, effectsOf, holds } from "./account.js";
import { CallOutside, FireOnce, WriteRow } from "./fixtures/contracts.js";
import { judge } from "./judge.js";
import { Load } from "./load.js";
import { openScene, type Scene, upTo } from "./scene.js";

const patience = { withinMs: 60_000 };

let scene: Scene;
beforeEach(async () => {
  scene = await openScene();
});

const say = { rows: WriteRow, outside: CallOutside, once: FireOnce } as const;

for (const reader of ["rows", "outside"] as const) {
  test(`a worker that is told to stop finishes what runs in the queue ${reader}, takes nothing new, and another worker does the rest`, async () => {
    const leaving = await scene.worker({ readers: [reader] });
    await scene.post.sendMany(
      say[reader],
      upTo(5).map((n) => ({ n, act: "hold" })),
    );
    for (const n of upTo(5)) await leaving.line(`holds ${reader} ${n} attempt 1`, patience);
    leaving.say("stop 120000");
    await leaving.line("stops", patience);
    await scene.post.sendMany(
      say[reader],
      upTo(20, 6).map((n) => ({ n })),
    );
    const staying = await scene.worker({ readers: [reader] });
    await eventually(async () => (await effectsOf(scene, reader)).size >= 20, patience);
    for (const n of upTo(5)) leaving.say(`go ${n}`);
    expect(await leaving.exited).toEqual({ code: 0, signal: null });
    await scene.quiet();
    const effects = await scene.rows("select n, pid, attempt from effect order by n");
    expect(effects).toEqual(upTo(25).map((n) => ({ n, pid: n <= 5 ? leaving.pid : staying.pid, attempt: 1 })));
    expect(await holds(scene)).toEqual({ openClaims: 0, heldDeferred: 0, deferred: 0, workers: 1 });
  });

  test(`a handler of the queue ${reader} that ignores its signal past the grace time does not keep its worker: the message is handed back at once, and no attempt is burnt`, async () => {
    const leaving = await scene.worker({ readers: [reader] });
    const receipt = await scene.post.send(say[reader], { n: 1, act: "hold" });
    await leaving.line(`holds ${reader} 1 attempt 1`, patience);
    leaving.say("stop 100");
    expect(await leaving.exited).toEqual({ code: 0, signal: null });
    expect(
      await scene.rows(
        "select reason, delivery, attempts, crashes, token, due_at <= clock_timestamp() as due from posthorn.deferred",
      ),
    ).toEqual([{ reason: "released", delivery: 2, attempts: 0, crashes: 0, token: null, due: true }]);
    expect(await receipt.status()).toMatchObject({ state: "queued", attempt: 0 });
    const staying = await scene.worker({ readers: [reader] });
    await staying.line(`holds ${reader} 1 attempt 1`, patience);
    staying.say("go 1");
    expect(await receipt.settled(patience)).toMatchObject({ state: "succeeded" });
  });
}

test("an at-most-once handler that ignores its signal past the grace time is not run again: its message is a dead letter whose outcome is unknown", async () => {
  const leaving = await scene.worker({ readers: ["once"] });
  const receipt = await scene.post.send(FireOnce, { n: 1, act: "hold" });
  await leaving.line("holds once 1 attempt 1", patience);
  leaving.say("stop 100");
  expect(await leaving.exited).toEqual({ code: 0, signal: null });
  const status = await receipt.status();
  expect(status).toMatchObject({ state: "dead", reason: "outcome unknown" });
  expect(status.history).toEqual([expect.objectContaining({ error: expect.objectContaining({ code: "PH_STOPPED" }) })]);
});

test("workers that are stopped and replaced under load lose nothing, burn no attempt, and repeat nothing in any mode", async () => {
  // Goal: a deployment is no crash: nothing is ended as crashed or unknown, and even handler mode takes effect exactly once.
  // Method: two places; each worker is told to stop soon after it began, ten times in all, while producers say on.
  await scene.rows("create table orders (n int primary key)");
  await scene.subscribe();
  const load = new Load(scene, 50);
  load.start();
  let left = 10;
  const place = async () => {
    while (left > 0) {
      left -= 1;
      const worker = await scene.worker();
      await new Promise((resolve) => setTimeout(resolve, Math.random() * 300));
      worker.say("stop");
      expect(await worker.exited).toEqual({ code: 0, signal: null });
    }
  };
  await Promise.all([place(), place()]);
  await load.stop();
  await scene.worker();
  await scene.quiet();
  await judge(scene, load);
  expect(await deadOf(scene, "once")).toEqual(new Map());
  for (const reader of ["mirror", "once"]) {
    expect(
      [...(await effectsOf(scene, reader))].filter(([, times]) => times !== 1),
      reader,
    ).toEqual([]);
  }
  expect(await scene.count("select count(*) from posthorn.settlement_1 where outcome in ('crashed', 'unknown')")).toBe(
    0,
  );
});

const TickClock = command("TickClock", { queue: "ticks", schema: type<{ readonly n: number }>() });

/** A worker in this process. */
function inProcess(url: string, handled: number[] = [], service = "near"): Post<Sql> {
  const post = posthorn({ service, database: url, logger: silentLogger });
  post.queue("ticks", policies.notify).handle(TickClock, ({ n }) => void handled.push(n));
  return post;
}

/** Sessions of the library, beside those of the scene's own producer. */
const sessions = () =>
  scene.count(
    "select count(*) from pg_stat_activity where datname = current_database() and application_name = 'posthorn near'",
  );

test("an instance that is stopped at any moment of its start leaves no worker, no session and no claim", async () => {
  for (let i = 0; i < 20; i += 1) {
    const post = inProcess(scene.url);
    await scene.post.send(TickClock, { n: i });
    const starting = post.start().then(
      () => "started",
      (error: { code?: string }) => error.code,
    );
    await new Promise((resolve) => (i % 4 === 0 ? setImmediate(resolve) : setTimeout(resolve, i * 3)));
    await post.stop();
    expect(["started", "PH_STOPPED"]).toContain(await starting);
    await eventually(async () => (await sessions()) === 0, patience);
    expect(await holds(scene)).toMatchObject({ openClaims: 0, heldDeferred: 0, workers: 0 });
  }
});

test("an instance that is started and stopped twenty times in a row handles every message once", async () => {
  const handled: number[] = [];
  for (let i = 0; i < 20; i += 1) {
    await scene.post.sendMany(
      TickClock,
      upTo(10, i * 10).map((n) => ({ n })),
    );
    const post = inProcess(scene.url, handled);
    await post.start();
    if (i % 2 === 0) await post.untilIdle();
    await Promise.all([post.stop(), post.stop()]);
    await expect(post.send(TickClock, { n: -1 })).rejects.toMatchObject({ code: "PH_STOPPED" });
    await expect(post.start()).rejects.toMatchObject({ code: "PH_STOPPED" });
  }
  const last = inProcess(scene.url, handled);
  await last.start();
  await last.untilIdle();
  await last.stop();
  await last.stop();
  expect(handled.sort((a, b) => a - b)).toEqual(upTo(200, 0));
  await eventually(async () => (await sessions()) === 0, patience);
  expect(await holds(scene)).toEqual({ openClaims: 0, heldDeferred: 0, deferred: 0, workers: 0 });
});

test("stop returns although the server has died, and the messages that ran are handled when it is back", async () => {
  const server: OwnServer = await startServer();
  const far = await openScene(server);
  try {
    const handled: number[] = [];
    const post = posthorn({ service: "near", database: far.url, logger: silentLogger });
    let begin = () => {};
    const held = new Promise<void>((resolve) => {
      begin = resolve;
    });
    post.queue("ticks", policies.notify).handle(TickClock, async () => {
      begin();
      await new Promise(() => undefined);
    });
    await post.start();
    await far.post.send(TickClock, { n: 1 });
    await held;
    await server.kill();
    await Promise.race([post.stop({ graceMs: 100 }).catch(() => undefined), overdue(60_000)]);
    await server.start();
    const next = inProcess(far.url, handled);
    await next.start();
    await eventually(() => handled.length === 1, patience);
    await next.stop();
  } finally {
    await far.post.stop();
    await server.remove();
  }
});

async function overdue(ms: number): Promise<never> {
  await once(AbortSignal.timeout(ms), "abort");
  throw new Error(`it did not return within ${ms} ms`);
}
