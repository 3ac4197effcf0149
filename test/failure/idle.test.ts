import { command, type Policy, policies, posthorn, retry, type } from "posthorn";
import { beforeEach, expect, test } from "vitest";
import { silentLogger } from "../../src/core/logger.js";
import { Slots } from "../../src/worker/slots.js";
import { eventually } from "../support/eventually.js";
import { openScene, type Scene, upTo } from "./scene.js";

interface Step {
  readonly left: number;
}
const TakeStep = command("TakeStep", { queue: "steps", schema: type<Step>() });
const MirrorStep = command("MirrorStep", { queue: "mirrored", schema: type<Step>() });

let scene: Scene;
beforeEach(async () => {
  scene = await openScene();
});

const quick: Policy<"handler"> = { ...policies.notify, retry: retry.fixed({ attempts: 4, delayMs: 1 }) };

test("untilIdle returns only when every chain of messages that handlers send has come to its end", async () => {
  // Goal: there is no moment between a handler's end and its message's start at which nothing seems to be left.
  // Method: each message sends the next to the other queue, one in each mode; forty rounds, so that it is asked at many moments.
  const post = posthorn({ service: "near", database: scene.url, logger: silentLogger });
  const runs: number[] = [];
  post.queue("steps", quick).handle(TakeStep, ({ left }, { send }) => {
    runs.push(left);
    if (left > 0) send(MirrorStep, { left: left - 1 });
  });
  post.queue("mirrored", { ...quick, idempotency: "transaction" }).handle(MirrorStep, ({ left }, { send }) => {
    runs.push(left);
    if (left > 0) send(TakeStep, { left: left - 1 });
  });
  await post.start();
  for (const round of upTo(40)) {
    await post.send(TakeStep, { left: 5 });
    await post.untilIdle();
    expect(runs).toHaveLength(round * 6);
  }
  await post.stop();
});

test("untilIdle waits for retries that become due while something else runs", async () => {
  const post = posthorn({ service: "near", database: scene.url, logger: silentLogger });
  const ended: string[] = [];
  post.queue("steps", quick).handle(TakeStep, (_step, { attempt }) => {
    if (attempt < 4) throw new Error("not yet");
    ended.push("retried");
  });
  post.queue("mirrored", quick).handle(MirrorStep, async () => {
    // Three retries of a millisecond each are over long before this.
    await eventually(() => ended.length === 20 || undefined, { withinMs: 60_000 });
    ended.push("slow");
  });
  await post.start();
  await post.send(MirrorStep, { left: 0 });
  await post.sendMany(
    TakeStep,
    upTo(20).map(() => ({ left: 0 })),
  );
  await post.untilIdle();
  expect(ended).toHaveLength(21);
  await post.stop();
});

test("untilIdle takes what is due at its call: messages that were handed back and retries whose time has come", async () => {
  const post = posthorn({ service: "near", database: scene.url, logger: silentLogger });
  const ended: number[] = [];
  post
    .queue("steps", { ...quick, retry: retry.fixed({ attempts: 2, delayMs: 3_600_000 }) })
    .handle(TakeStep, ({ left }, { attempt }) => {
      if (attempt === 1) throw new Error("not yet");
      ended.push(left);
    });
  await post.start();
  for (const round of upTo(10)) {
    await post.send(TakeStep, { left: round });
    await post.untilIdle();
    expect(ended).toHaveLength(round - 1);
    await scene.rows("update posthorn.deferred set due_at = clock_timestamp()");
    await post.untilIdle();
    expect(ended).toHaveLength(round);
  }
  await post.stop();
});

test("untilIdle does not wait for a retry that is not due, and returns at once when there is nothing", async () => {
  const post = posthorn({ service: "near", database: scene.url, logger: silentLogger });
  post.queue("steps", { ...quick, retry: retry.fixed({ attempts: 2, delayMs: 3_600_000 }) }).handle(TakeStep, () => {
    throw new Error("it fails");
  });
  await post.start();
  await post.untilIdle();
  const receipt = await post.send(TakeStep, { left: 0 });
  await post.untilIdle();
  expect(await receipt.status()).toMatchObject({ state: "retrying", attempt: 1 });
  await post.stop();
  await expect(post.untilIdle()).rejects.toMatchObject({ code: "PH_STOPPED" });
});

test("shared slots of which none came back wake nobody: readers that find nothing rest", () => {
  // A reader that looks and finds nothing gives its empty hands back; being told of that it looked again, for ever, at full speed.
  const slots = new Slots({ single: false, transactions: 3 });
  let told = 0;
  const unlisten = slots.onFreed(() => {
    told += 1;
  });
  slots.take(2);
  slots.give(0);
  expect(told).toBe(0);
  slots.give(2);
  expect([told, slots.free]).toEqual([1, 2]);
  unlisten();
});

test("readers that share slots are told of freed ones in turn, so that none with a backlog starves the others", () => {
  // The order was always the same: with one slot, the second reader began when the first had drained ten thousand messages.
  const slots = new Slots({ single: false, transactions: 2 });
  const told: string[] = [];
  for (const reader of ["a", "b", "c"]) slots.onFreed(() => told.push(reader));
  for (let freed = 0; freed < 3; freed += 1) {
    slots.take(1);
    slots.give(1);
  }
  expect(told.join("")).toBe("abcbcacab");
});
