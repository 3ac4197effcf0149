import { command, type Policy, policies, posthorn, retry, type } from "posthorn";
import { beforeEach, expect, test } from "vitest";
import { silentLogger } from "../../src/core/logger.js";
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

test("untilIdle returns only when nothing is due any more: what handlers have sent, and retries that are due", async () => {
  // Goal: at its return every chain of messages has come to its end, through two queues and through failures.
  // Method: each message sends the next to the other queue, and fails twice first; a hundred rounds, so that it is asked at many moments.
  const post = posthorn({ service: "near", database: scene.url, logger: silentLogger });
  const ended: number[] = [];
  const runs = { count: 0 };
  const walk = (next: (left: number) => void, { left }: Step, attempt: number) => {
    runs.count += 1;
    if (attempt < 3) throw new Error("not yet");
    if (left === 0) ended.push(left);
    else next(left - 1);
  };
  post
    .queue("steps", quick)
    .handle(TakeStep, (step, { send, attempt }) => walk((left) => void send(MirrorStep, { left }), step, attempt));
  post
    .queue("mirrored", { ...quick, idempotency: "transaction" })
    .handle(MirrorStep, (step, { send, attempt }) => walk((left) => void send(TakeStep, { left }), step, attempt));
  await post.start();
  for (const round of upTo(15)) {
    await post.send(TakeStep, { left: 4 });
    await post.untilIdle();
    expect(ended).toHaveLength(round);
    expect(runs.count).toBe(round * 5 * 3);
  }
  await post.untilIdle();
  await post.stop();
}, 120_000);

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
