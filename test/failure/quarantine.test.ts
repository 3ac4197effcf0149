import { beforeEach, expect, test } from "vitest";
import { limits } from "../../src/core/limits.js";
import { deadOf, effectsOf, holds, notEndedOnce } from "./account.js";
import { CallOutside, FireOnce, WriteRow } from "./fixtures/contracts.js";
import { openScene, type Scene, upTo } from "./scene.js";

let scene: Scene;
beforeEach(async () => {
  scene = await openScene();
});

/** Workers that are replaced when they die, until everything has ended. Returns how many died. */
async function workThrough(places: number): Promise<number> {
  let deaths = 0;
  let done = false;
  const place = async () => {
    while (!done) {
      const worker = await scene.worker().catch(() => undefined);
      if (done) worker?.kill();
      await worker?.exited;
      if (!done) deaths += 1;
    }
  };
  const all = Promise.all(Array.from({ length: places }, place));
  await scene.quiet(120_000);
  done = true;
  await scene.stopWorkers();
  await all;
  return deaths;
}

for (const act of ["die", "exit"] as const) {
  const how = act === "die" ? "kill their process by SIGKILL" : "call process.exit";
  test(`messages whose handlers ${how} are quarantined after ${limits.crashes} crashes, and all their neighbours are handled`, async () => {
    // Goal: a message that takes its worker along must not take its neighbours along, nor run for ever.
    // Method: one such message among forty in each of two queues, so that they are claimed with neighbours; two places for workers,
    // each replaced when it dies. No attempt of a neighbour is counted.
    const killers = [7];
    const work = upTo(40).map((n) => (killers.includes(n) ? { n, act } : { n }));
    await scene.post.sendMany(WriteRow, work);
    await scene.post.sendMany(CallOutside, work);
    const deaths = await workThrough(2);
    const quarantined = new Map(killers.map((n) => [n, "killed its workers"]));
    for (const reader of ["rows", "outside"]) {
      expect(await deadOf(scene, reader), reader).toEqual(quarantined);
      expect(
        [...(await effectsOf(scene, reader)).keys()].sort((a, b) => a - b),
        reader,
      ).toEqual(upTo(40).filter((n) => !killers.includes(n)));
    }
    expect([...(await effectsOf(scene, "rows")).values()].every((times) => times === 1)).toBe(true);
    expect(await scene.rows("select distinct attempt from effect")).toEqual([{ attempt: 1 }]);
    expect(
      await scene.rows("select distinct crashes, json_array_length(history) as entries from posthorn.dead_letter"),
    ).toEqual([{ crashes: limits.crashes, entries: limits.crashes }]);
    expect(deaths).toBeGreaterThanOrEqual(limits.crashes);
    expect(await notEndedOnce(scene)).toEqual([]);
    expect(await holds(scene)).toMatchObject({ openClaims: 0, heldDeferred: 0, deferred: 0 });
  }, 180_000);
}

test("an at-most-once message whose handler kills its process is a dead letter after one run, and its neighbours end once or as unknown", async () => {
  await scene.post.sendMany(
    FireOnce,
    upTo(12).map((n) => (n === 5 ? { n, act: "die" } : { n })),
  );
  await workThrough(1);
  const effects = await effectsOf(scene, "once");
  const dead = await deadOf(scene, "once");
  expect(dead.get(5)).toBe("outcome unknown");
  expect(effects.get(5)).toBeUndefined();
  for (const n of upTo(12)) {
    expect(effects.get(n) ?? 0).toBeLessThanOrEqual(1);
    expect(effects.has(n) || dead.get(n) === "outcome unknown", `${n}`).toBe(true);
  }
  const [letter] = await scene.rows<{ history: { outcome: string; error: { name: string } }[] }>(
    "select history from posthorn.dead_letters where (payload ->> 'n')::int = 5",
  );
  expect(letter?.history).toEqual([
    expect.objectContaining({ outcome: "unknown", error: expect.objectContaining({ name: "WorkerDied" }) }),
  ]);
});
