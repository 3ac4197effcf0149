import { beforeEach, expect, test } from "vitest";
import { eventually } from "../support/eventually.js";
import { effectsOf, holds, notEndedOnce } from "./account.js";
import { CallAnew, CallOutside, OrderPlaced, OrderShipped } from "./fixtures/contracts.js";
import { openScene, type Scene, upTo } from "./scene.js";

const patience = { withinMs: 60_000 };

let scene: Scene;
beforeEach(async () => {
  scene = await openScene();
});

test("a command that an older worker of a rolling deployment does not know is handed back without burning an attempt, and the newer worker handles it", async () => {
  const older = await scene.worker({ readers: ["outside"] });
  const receipts = await scene.post.sendMany(
    CallAnew,
    upTo(10).map((n) => ({ n })),
  );
  await scene.post.sendMany(
    CallOutside,
    upTo(10, 11).map((n) => ({ n })),
  );
  await eventually(
    async () => (await scene.count("select count(*) from posthorn.deferred where reason = 'released'")) === 10,
    patience,
  );
  await eventually(async () => (await effectsOf(scene, "outside")).size === 10, patience);
  // Nobody takes them to and fro meanwhile: each was handed back once.
  expect(
    await scene.rows("select distinct delivery, attempts, crashes, token, history::text from posthorn.deferred"),
  ).toEqual([{ delivery: 2, attempts: 0, crashes: 0, token: null, history: "[]" }]);
  for (const receipt of receipts) expect(await receipt.status()).toMatchObject({ state: "queued", attempt: 0 });
  const newer = await scene.worker({ readers: ["outside"], anew: true });
  for (const receipt of receipts) expect(await receipt.settled(patience)).toMatchObject({ state: "succeeded" });
  expect(await scene.rows("select n, pid, attempt from effect where n <= 10 order by n")).toEqual(
    upTo(10).map((n) => ({ n, pid: newer.pid, attempt: 1 })),
  );
  expect(await scene.rows("select distinct pid from effect where n > 10")).toEqual([{ pid: older.pid }]);
  await scene.quiet();
  expect(await notEndedOnce(scene)).toEqual([]);
});

test("while older and newer workers run side by side every command reaches a worker that knows it, at its first attempt", async () => {
  await scene.worker({ readers: ["outside"] });
  await scene.worker({ readers: ["outside"], anew: true });
  for (let i = 0; i < 20; i += 1) {
    await scene.post.sendMany(
      CallAnew,
      upTo(5, i * 10).map((n) => ({ n })),
    );
    await scene.post.sendMany(
      CallOutside,
      upTo(5, i * 10 + 5).map((n) => ({ n })),
    );
  }
  await scene.quiet();
  expect(await scene.rows("select attempt, count(*)::int as times from effect group by 1")).toEqual([
    { attempt: 1, times: 200 },
  ]);
  expect(await notEndedOnce(scene)).toEqual([]);
});

test("an event that no worker listens to is skipped and holds nothing up", async () => {
  await scene.worker({ readers: ["ledger", "mirror"] });
  for (const n of upTo(30)) await scene.post.publish(n % 3 === 0 ? OrderPlaced : OrderShipped, { n });
  await scene.quiet();
  for (const reader of ["ledger", "mirror"]) {
    expect([...(await effectsOf(scene, reader)).keys()].sort((a, b) => a - b)).toEqual(upTo(10).map((n) => n * 3));
  }
  expect(await notEndedOnce(scene)).toEqual([]);
  expect(await holds(scene)).toEqual({ openClaims: 0, heldDeferred: 0, deferred: 0, workers: 1 });
});
