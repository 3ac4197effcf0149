import { hostname } from "node:os";
import type { Receipt, Retry } from "posthorn";
import { retry } from "posthorn";
import { beforeAll, expect, test } from "vitest";
import { eventually } from "../support/eventually.js";
import { deadOf, effectsOf } from "./account.js";
import { CallOutside, FireOnce, WriteRow } from "./fixtures/contracts.js";
import { openScene, type Scene } from "./scene.js";

const patience = { withinMs: 60_000 };
const hour = 3_600_000;
const attempts = 6;
/** Waits so long that nothing happens by itself while we look. */
const patient: Retry = retry.exponential({ attempts, firstMs: hour, maxMs: 4 * hour });
const bases = [hour, 2 * hour, 4 * hour, 4 * hour, 4 * hour];

let scene: Scene;
beforeAll(async () => {
  scene = await openScene();
});

interface Waiting {
  readonly id: string;
  readonly attempts: number;
  readonly delivery: number;
  readonly crashes: number;
  readonly waits: number;
}

/** The waiting message once it has failed so often, and how long after the end of its last attempt it is due. */
async function waiting(n: number, failures: number): Promise<Waiting> {
  return eventually(async () => {
    const [row] = await scene.rows<Waiting>(
      `select id, attempts, delivery, crashes,
         extract(epoch from due_at - (history -> (json_array_length(history) - 1) ->> 'endedAt')::timestamptz)::float8 * 1000 as waits
       from posthorn.deferred where (payload ->> 'n')::int = $1 and attempts = $2 and token is null`,
      [n, failures],
    );
    return row;
  }, patience);
}

for (const [reader, say] of [
  ["outside", (n: number): Promise<Receipt> => scene.post.send(CallOutside, { n, act: "fail" })],
  ["rows", (n: number): Promise<Receipt> => scene.post.send(WriteRow, { n, act: "fail" })],
] as const) {
  test(`a message of the queue ${reader} that always fails is tried as often as its policy says, each wait lies between half of its step and the whole, and its dead letter tells every attempt`, async () => {
    // Goal: provenance and schedule, without waiting for the schedule: the hour is looked at and then taken away.
    // Method: every second attempt is run by another worker process, so that the history has to tell them apart.
    const n = reader === "rows" ? 1 : 2;
    const receipt = await say(n);
    const began = Date.now();
    const pids: number[] = [];
    for (let failures = 1; failures <= attempts; failures += 1) {
      const worker = await scene.worker({ readers: [reader], retry: patient });
      pids.push(worker.pid);
      if (failures < attempts) {
        const base = bases[failures - 1] ?? 0;
        const row = await waiting(n, failures);
        expect(row).toMatchObject({ attempts: failures, crashes: 0, delivery: failures + 1 });
        expect(row.waits).toBeGreaterThanOrEqual(base / 2);
        expect(row.waits).toBeLessThanOrEqual(base + 60_000);
        expect(await receipt.status()).toMatchObject({ state: "retrying", attempt: failures });
        worker.say("stop");
        await worker.exited;
        await scene.rows("update posthorn.deferred set due_at = clock_timestamp() where id = $1", [row.id]);
      }
    }
    const status = await receipt.settled(patience);
    await scene.stopWorkers();
    expect(status).toMatchObject({ state: "dead", attempt: attempts, reason: `failed ${attempts} times` });
    expect(status.history).toEqual(
      pids.map((pid, i) => ({
        attempt: i + 1,
        outcome: "failed",
        worker: { id: expect.stringMatching(/^\d+$/), service: "fleet", host: hostname(), pid },
        startedAt: expect.any(String),
        endedAt: expect.any(String),
        error: expect.objectContaining({
          name: "Error",
          message: "it always fails",
          stack: expect.stringMatching(/acts/),
        }),
      })),
    );
    let last = began - 1_000;
    for (const { startedAt = "", endedAt = "" } of status.history) {
      expect(Date.parse(startedAt)).toBeGreaterThanOrEqual(last);
      expect(Date.parse(endedAt)).toBeGreaterThanOrEqual(Date.parse(startedAt));
      last = Date.parse(endedAt);
    }
    expect(await deadOf(scene, reader)).toEqual(new Map([[n, `failed ${attempts} times`]]));
  });
}

test("a message that fails first and succeeds later leaves no dead letter, and took effect once", async () => {
  const worker = await scene.worker({ readers: ["outside"], retry: retry.fixed({ attempts: 3, delayMs: hour }) });
  const receipt = await scene.post.send(CallOutside, { n: 3, act: "fail once" });
  const { waits, id } = await waiting(3, 1);
  expect(waits).toBeGreaterThanOrEqual(hour - 1);
  expect(waits).toBeLessThanOrEqual(hour + 60_000);
  await scene.rows("update posthorn.deferred set due_at = clock_timestamp() where id = $1", [id]);
  expect(await receipt.settled(patience)).toMatchObject({ state: "succeeded" });
  expect((await effectsOf(scene, "outside")).get(3)).toBe(1);
  worker.say("stop");
  await worker.exited;
});

test("an at-most-once message that fails is a dead letter after its one run", async () => {
  await scene.worker({ readers: ["once"] });
  const receipt = await scene.post.send(FireOnce, { n: 4, act: "fail" });
  const status = await receipt.settled(patience);
  expect(status).toMatchObject({ state: "dead", attempt: 1, reason: "failed and is not retried" });
  expect(status.history).toHaveLength(1);
});
