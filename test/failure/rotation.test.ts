import { beforeAll, expect, test } from "vitest";
import { eventually } from "../support/eventually.js";
import { spawnFixture } from "../support/processes.js";
import { deadOf, effectsOf } from "./account.js";
import { CallOutside } from "./fixtures/contracts.js";
import { Load } from "./load.js";
import { openScene, type Scene } from "./scene.js";

const long = process.env.POSTHORN_LONG === "1";
const kills = long ? 60 : 12;

let scene: Scene;
beforeAll(async () => {
  scene = await openScene();
  await scene.rows("create table orders (n int primary key)");
  await scene.subscribe();
  // Whoever starts without saying what is kept leaves this: nothing, so that a segment goes as soon as it may.
  await scene.rows("update posthorn.retention set keep_ms = 0");
});

const random = (low: number, high: number) => Math.floor(low + Math.random() * (high - low + 1));

/** Starts a process that rotates, lets it do some steps, and kills it before or while it does the next. */
async function rotateAndDie(): Promise<readonly string[]> {
  const rotator = await spawnFixture("test/failure/fixtures/rotator.ts", { args: [scene.url] });
  const steps = random(1, 6);
  await eventually(() => rotator.lines.length >= steps, { everyMs: 1 });
  rotator.kill();
  await rotator.exited;
  return [...rotator.lines];
}

/** Starts a worker, kills it in its work. */
async function workAndDie(): Promise<void> {
  const worker = await scene.spawn();
  await worker.line("works", { withinMs: 60_000 });
  await new Promise((resolve) => setTimeout(resolve, random(50, 500)));
  worker.kill();
  await worker.exited;
}

interface Wrong {
  readonly reader: string;
  readonly n: number;
  readonly effects: number;
  readonly dead: string | undefined;
}

/** The log is gone, so what was confirmed is compared with what took effect: a number of a queue has one reader, that of the topic two. */
async function wrongEnds(load: Load): Promise<readonly Wrong[]> {
  const readers = {
    WriteRow: ["rows"],
    CallOutside: ["outside"],
    FireOnce: ["once"],
    OrderPlaced: ["ledger", "mirror"],
  };
  const wrong: Wrong[] = [];
  for (const [contract, names] of Object.entries(readers)) {
    const confirmed = [...(load.fates.get(contract) ?? [])].flatMap(([n, fate]) => (fate === "confirmed" ? [n] : []));
    for (const reader of names) {
      const [effects, deaths] = [await effectsOf(scene, reader), await deadOf(scene, reader)];
      for (const n of confirmed) {
        const [times, dead] = [effects.get(n) ?? 0, deaths.get(n)];
        const repeats = reader === "outside" || reader === "mirror";
        const right =
          dead === undefined
            ? repeats
              ? times >= 1
              : times === 1
            : reader === "once" || (repeats ? true : times === 0);
        if (!right) wrong.push({ reader, n, effects: times, dead });
      }
    }
  }
  return wrong;
}

test(`while those who work and those who rotate are killed ${kills} times each, every message ends as its queue promises, and the space comes back`, async () => {
  // Goal: invariants 3, 4 and 8 with real processes: a rescue that races a rotation is still fenced, and a rotation is gone on with by the next one.
  // Method: producers, workers and rotators at once, all but the producers killed with SIGKILL; nothing is kept, so the ring turns all the time. Some messages
  // fail first, some say more. The effects are compared with what was confirmed, because the log is gone.
  const load = new Load(scene, long ? 40 : 30);
  load.start();
  const steady = await scene.worker();
  const steps: string[] = [];
  await Promise.all([
    (async () => {
      for (let i = 0; i < kills; i += 1) steps.push(...(await rotateAndDie()));
    })(),
    (async () => {
      for (let i = 0; i < kills; i += 1) await workAndDie();
    })(),
  ]);
  await load.stop();
  await scene.quiet(120_000);
  expect(await wrongEnds(load)).toEqual([]);
  expect(load.count("confirmed")).toBeGreaterThan(kills * 5);
  expect(steps).toEqual(expect.arrayContaining(["opened", "switched", "sealed", "advanced", "finished", "truncated"]));
  // A worker looks by itself.
  await eventually(async () => (await scene.count("select cardinality(slots) from posthorn.ring")) <= 2, {
    withinMs: 60_000,
  });
  expect(await scene.count("select count(*) from posthorn.deferred")).toBe(0);
  steady.say("stop");
  expect(await steady.exited).toEqual({ code: 0, signal: null });
}, 300_000);

test("a process that only starts gives the space of a database back by itself", async () => {
  await scene.post.sendMany(CallOutside, [{ n: 5_000_001 }]);
  const first = await scene.count("select first_segment from posthorn.ring");
  const worker = await scene.worker();
  await eventually(async () => (await scene.count("select first_segment from posthorn.ring")) > first, {
    withinMs: 120_000,
  });
  worker.say("stop");
  await worker.exited;
});
