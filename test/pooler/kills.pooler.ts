import { afterAll, beforeAll, expect, test } from "vitest";
import { holds } from "../failure/account.js";
import { judge } from "../failure/judge.js";
import { Load } from "../failure/load.js";
import { openScene, type Scene } from "../failure/scene.js";
import { eventually } from "../support/eventually.js";
import { type Bouncer, startBouncer } from "../support/pgbouncer.js";
import { adminUrl } from "../support/server.js";

const fleet = 3;
const kills = 10;

let bouncer: Bouncer;
let scene: Scene;
beforeAll(async () => {
  // Fewer sessions than there are connections: they change hands all the time.
  bouncer = await startBouncer({ url: await adminUrl() }, { size: 8 });
  scene = await openScene(undefined, { through: bouncer.through, pooler: "transaction" });
  await scene.rows("create table orders (n int primary key)");
  await scene.subscribe();
});
afterAll(() => bouncer.remove());

const after = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

async function place(left: { kills: number }): Promise<void> {
  while (left.kills > 0) {
    left.kills -= 1;
    const worker = await scene.spawn({ workerTimeoutMs: 2_000 });
    if (Math.random() < 0.8) await worker.line("works", { withinMs: 60_000 });
    await after(50 + Math.random() * 600);
    worker.kill();
    await worker.exited;
    expect(worker.lines.filter((line) => /^(unhandled|uncaught)/.test(line))).toEqual([]);
  }
}

async function progress(load: Load): Promise<void> {
  const effects = await scene.count("select count(*) from effect");
  const confirmed = load.count("confirmed");
  const both = async () =>
    load.count("confirmed") > confirmed + 30 && (await scene.count("select count(*) from effect")) > effects + 30;
  await eventually(both, { withinMs: 60_000, everyMs: 50 });
}

test("behind a pooler, workers that are killed, and a pooler that is killed, lose nothing, and effects are there as often as each queue promises", async () => {
  // Goal: heartbeats alone decide who is dead; all state that the engine counts on lies in transactions.
  // Method: as test/failure/kills, with producers and workers behind PgBouncer, which is killed and started again in between.
  const load = new Load(scene, 40);
  load.start();
  const left = { kills };
  await Promise.all(Array.from({ length: fleet }, () => place(left)));
  const survivor = await scene.worker({ workerTimeoutMs: 2_000 });
  await progress(load);
  await bouncer.kill();
  await bouncer.start();
  await progress(load);
  await load.stop();
  await scene.quiet(120_000);
  await judge(scene, load);
  expect(load.count("confirmed")).toBeGreaterThan(60);
  survivor.say("stop");
  expect(await survivor.exited).toEqual({ code: 0, signal: null });
  expect(survivor.lines.filter((line) => /^(unhandled|uncaught)/.test(line))).toEqual([]);
  // The incarnation that ended with the pooler is forgotten when its heartbeats have been missing for long enough.
  const rescuer = await scene.worker({ workerTimeoutMs: 2_000 });
  await eventually(async () => (await scene.count("select count(*) from posthorn.worker")) === 1);
  rescuer.say("stop");
  await rescuer.exited;
  expect(await holds(scene)).toEqual({ openClaims: 0, heldDeferred: 0, deferred: 0, workers: 0 });
}, 300_000);
