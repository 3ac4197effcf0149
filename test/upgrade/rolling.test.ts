import { beforeEach, expect, test } from "vitest";
import { holds } from "../failure/account.js";
import { openScene, type Scene } from "../failure/scene.js";
import { eventually } from "../support/eventually.js";
import { type FixtureProcess, spawnFixture } from "../support/processes.js";

const patience = { withinMs: 120_000 };
let scene: Scene;
beforeEach(async () => {
  scene = await openScene();
  await scene.rows("alter table effect add column got text");
});

async function deployment(settings: { readonly generation: 1 | 2; readonly from?: number }): Promise<FixtureProcess> {
  const process = await spawnFixture("test/upgrade/fixtures/deployment.ts", {
    args: [JSON.stringify({ ...settings, url: scene.url })],
  });
  await process.line("works", { withinMs: 60_000 });
  return process;
}

async function end(process: FixtureProcess): Promise<void> {
  process.say("stop");
  expect(await process.exited).toEqual({ code: 0, signal: null });
}

async function kill(process: FixtureProcess): Promise<void> {
  process.kill();
  await process.exited;
}

const saidBy = ({ lines }: FixtureProcess): number[] =>
  lines.filter((line) => line.startsWith("said ")).map((line) => Number(line.slice(5)));

/** Until the fleet has handled so many more. */
async function handles(more: number): Promise<void> {
  const so = await scene.count("select count(*) from effect");
  await eventually(async () => (await scene.count("select count(*) from effect")) >= so + more, patience);
}

test("a rolling deployment under load, with workers killed at every stage, loses nothing, does nothing twice and burns no attempt", async () => {
  // Goal: producers and workers of two versions of a contract share the queues in every mixture; each message takes effect exactly once, as the
  // newest version that its worker knows, at its first attempt.
  // Method: new producers go first, so that old workers meet messages that they cannot read; then workers are replaced one by one, half of them by
  // SIGKILL; a new worker is killed as well; old producers go last, so that new workers meet old messages. All are real processes.
  const oldWorkers = [await deployment({ generation: 1 }), await deployment({ generation: 1 })];
  const oldProducer = await deployment({ generation: 1, from: 1 });
  await handles(50);
  const newProducer = await deployment({ generation: 2, from: 1_000_001 });
  await eventually(
    async () =>
      (await scene.count("select count(*) from posthorn.deferred where reason = 'released' and token is null")) > 20,
    patience,
  );
  const newWorkers = [await deployment({ generation: 2 })];
  await handles(100);
  for (const [i, old] of oldWorkers.entries()) {
    newWorkers.push(await deployment({ generation: 2 }));
    await handles(50);
    if (i === 0) await kill(old);
    else await end(old);
  }
  await handles(50);
  const [first, ...rest] = newWorkers;
  if (first !== undefined) await kill(first);
  await handles(100);
  await end(newProducer);
  await end(oldProducer);
  await scene.quiet();
  const said = [...saidBy(oldProducer), ...saidBy(newProducer)].sort((a, b) => a - b);
  expect(saidBy(oldProducer).length).toBeGreaterThan(50);
  expect(saidBy(newProducer).length).toBeGreaterThan(50);
  for (const reader of ["letters", "mirror"]) {
    const effects = await scene.rows<{ n: number; attempt: number; got: string }>(
      "select n, attempt, got from effect where reader = $1 order by n",
      [reader],
    );
    // A subscription begins with its first worker, which came before anything was published.
    expect(effects.map(({ n }) => n)).toEqual(said);
    expect(new Set(effects.map(({ attempt }) => attempt))).toEqual(new Set([1]));
    const shapes = (from: number, to: number) =>
      new Set(effects.filter(({ n }) => n > from && n <= to).map(({ got }) => got));
    expect(shapes(0, 1_000_000)).toEqual(new Set(['"one"', '["one"]']));
    expect(shapes(1_000_000, 2_000_000)).toEqual(new Set(['["two"]']));
  }
  for (const table of ["dead_letter", "invalid"])
    expect(await scene.count(`select count(*) from posthorn.${table}`)).toBe(0);
  for (const worker of rest) await end(worker);
  expect(await holds(scene)).toEqual({ openClaims: 0, heldDeferred: 0, deferred: 0, workers: 0 });
  for (const { lines } of [...oldWorkers, ...newWorkers])
    expect(lines.filter((line) => line.startsWith("unhandled"))).toEqual([]);
}, 300_000);
