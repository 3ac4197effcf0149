import { beforeAll, expect, test } from "vitest";
import { holds } from "./account.js";
import { judge } from "./judge.js";
import { Load } from "./load.js";
import { openScene, type Scene } from "./scene.js";

const long = process.env.POSTHORN_LONG === "1";
const kills = long ? 160 : 40;
const fleet = 4;

let scene: Scene;
beforeAll(async () => {
  scene = await openScene();
  await scene.rows("create table orders (n int primary key)");
  await scene.subscribe();
});

const between = (low: number, high: number) => low + Math.random() * (high - low);
const after = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

/** One place in the fleet: a worker is started, killed soon after it works, and replaced, until there were enough kills. */
async function place(left: { kills: number }): Promise<void> {
  while (left.kills > 0) {
    left.kills -= 1;
    const worker = await scene.spawn();
    // Some die while they register.
    if (Math.random() < 0.8) await worker.line("works", { withinMs: 60_000 });
    await after(between(20, 400));
    worker.kill();
    await worker.exited;
    const complaints = worker.lines.filter((line) => /^(unhandled|uncaught)/.test(line));
    expect(complaints).toEqual([]);
  }
}

test(`a fleet whose workers are killed ${kills} times under load loses nothing, and takes effect as often as each queue promises`, async () => {
  // Goal: wherever a worker dies, in a claim, a handler, a settlement or a COMMIT: every committed message ends exactly once for each
  // reader; its effect is there exactly once in transaction mode, at least once in handler mode, at most once in at-most-once,
  // where a missing one is a dead letter; and nobody holds anything in the end.
  // Method: four places for workers; each is killed 20 to 400 ms after it began to work, or after it was started, and replaced. Two queues, an at-most-once
  // queue and two subscriptions; some messages fail first, some say more. The tables are then read as a whole.
  const load = new Load(scene, long ? 40 : 30);
  load.start();
  const left = { kills };
  await Promise.all(Array.from({ length: fleet }, () => place(left)));
  await load.stop();
  const survivor = await scene.worker();
  await scene.quiet(120_000);
  await judge(scene, load);
  expect(load.count("confirmed")).toBeGreaterThan(kills * 5);
  survivor.say("stop");
  expect(await survivor.exited).toEqual({ code: 0, signal: null });
  expect(await holds(scene)).toEqual({ openClaims: 0, heldDeferred: 0, deferred: 0, workers: 0 });
}, 300_000);
