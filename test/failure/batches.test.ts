import { command, type } from "posthorn";
import { beforeEach, expect, test } from "vitest";
import { limits } from "../../src/core/limits.js";
import { type FixtureProcess, spawnFixture } from "../support/processes.js";
import { deadOf, effectsOf, holds, notEndedOnce } from "./account.js";
import type { Settings, Work } from "./fixtures/contracts.js";
import { openScene, type Scene, upTo } from "./scene.js";

const BulkRow = command("BulkRow", { queue: "bulk-rows", schema: type<Work>() });
const BulkCall = command("BulkCall", { queue: "bulk-calls", schema: type<Work>() });
const BulkFire = command("BulkFire", { queue: "bulk-once", schema: type<Work>() });
const numbers = (effects: ReadonlyMap<number, number>) => [...effects.keys()].sort((a, b) => a - b);

let scene: Scene;
beforeEach(async () => {
  scene = await openScene();
});

async function worker(settings: Omit<Settings, "url"> = {}): Promise<FixtureProcess> {
  const started = await spawnFixture("test/failure/fixtures/bulk.ts", {
    args: [JSON.stringify({ ...settings, url: scene.url })],
  });
  await started.line("works", { withinMs: 60_000 });
  return started;
}

test("a worker that is killed in the middle of a batch leaves nothing of its transaction, and each message of it is handled elsewhere without an attempt burnt", async () => {
  await scene.post.sendMany(
    BulkRow,
    upTo(12).map((n) => (n === 12 ? { n, act: "wait" } : { n })),
  );
  const first = await worker({ readers: ["bulk-rows"] });
  await first.line("begins 12", { withinMs: 60_000 });
  first.kill();
  await first.exited;
  expect(numbers(await effectsOf(scene, "bulk-rows"))).toEqual([]);
  const second = await worker({ readers: ["bulk-rows"] });
  // What was under a crash comes alone, so that one that kills takes no neighbours along.
  await second.line("begins 1", { withinMs: 60_000 });
  second.say("go");
  await scene.quiet();
  expect(
    await scene.rows("select n, attempt, pid, count(*)::int as times from effect group by 1, 2, 3 order by 1"),
  ).toEqual(upTo(12).map((n) => ({ n, attempt: 1, pid: second.pid, times: 1 })));
  expect(await notEndedOnce(scene)).toEqual([]);
  expect(await holds(scene)).toMatchObject({ openClaims: 0, heldDeferred: 0, deferred: 0 });
  second.kill();
  await second.exited;
});

test(`a message that kills its worker in a batch is quarantined after ${limits.crashes} crashes, and all its neighbours are handled`, async () => {
  // Goal: one that kills must not take the batch along, nor run for ever.
  // Method: one such message among forty in each of two queues; a place for a worker that is replaced when it dies.
  const work = upTo(40).map((n) => (n === 7 ? { n, act: "die" } : { n }));
  await scene.post.sendMany(BulkRow, work);
  await scene.post.sendMany(BulkCall, work);
  let done = false;
  let current: FixtureProcess | undefined;
  const place = (async () => {
    while (!done) {
      current = await worker().catch(() => undefined);
      if (done) current?.kill();
      await current?.exited;
    }
  })();
  await scene.quiet(120_000);
  done = true;
  current?.kill();
  await place;
  const others = upTo(40).filter((n) => n !== 7);
  for (const reader of ["bulk-rows", "bulk-calls"]) {
    expect(await deadOf(scene, reader), reader).toEqual(new Map([[7, "killed its workers"]]));
    expect(numbers(await effectsOf(scene, reader)), reader).toEqual(others);
  }
  expect([...(await effectsOf(scene, "bulk-rows")).values()].every((times) => times === 1)).toBe(true);
  expect(await scene.rows("select distinct attempt from effect")).toEqual([{ attempt: 1 }]);
  expect(await notEndedOnce(scene)).toEqual([]);
  expect(await holds(scene)).toMatchObject({ openClaims: 0, heldDeferred: 0, deferred: 0 });
}, 240_000);

test("a worker that was stopped in the middle of a batch and comes back changes nothing: the whole batch has ended elsewhere", async () => {
  await scene.post.sendMany(
    BulkRow,
    upTo(12).map((n) => (n === 12 ? { n, act: "wait" } : { n })),
  );
  const first = await worker({ readers: ["bulk-rows"], workerTimeoutMs: 5_000 });
  await first.line("begins 12", { withinMs: 60_000 });
  await scene.freeze(first);
  const second = await worker({ readers: ["bulk-rows"] });
  await second.line("begins 1", { withinMs: 60_000 });
  second.say("go");
  await scene.quiet();
  process.kill(first.pid, "SIGCONT");
  first.say("go");
  await first.line(/drops what it holds/, { withinMs: 60_000 });
  await scene.quiet();
  expect(await scene.rows("select distinct pid, attempt from effect")).toEqual([{ pid: second.pid, attempt: 1 }]);
  expect([...(await effectsOf(scene, "bulk-rows")).values()]).toEqual(upTo(12).map(() => 1));
  expect(await notEndedOnce(scene)).toEqual([]);
  for (const one of [first, second]) one.kill();
  await Promise.all([first.exited, second.exited]);
});

test("at most once, a killed worker makes dead letters of the batch that it ran, and what waited for company is handled elsewhere", async () => {
  await scene.post.sendMany(
    BulkFire,
    upTo(14).map((n) => (n === 1 ? { n, act: "wait" } : { n })),
  );
  const first = await worker({ readers: ["bulk-once"] });
  await first.line("begins 12", { withinMs: 60_000 });
  first.kill();
  await first.exited;
  const second = await worker({ readers: ["bulk-once"] });
  await scene.quiet();
  expect(await deadOf(scene, "bulk-once")).toEqual(new Map(upTo(12).map((n) => [n, "outcome unknown"])));
  expect(await scene.rows("select n, pid from effect where n > 12 order by n")).toEqual(
    [13, 14].map((n) => ({ n, pid: second.pid })),
  );
  expect([...(await effectsOf(scene, "bulk-once")).values()]).toEqual(upTo(14).map(() => 1));
  expect(await notEndedOnce(scene)).toEqual([]);
  second.kill();
  await second.exited;
});
