import { setImmediate as turn } from "node:timers/promises";
import { expect, test } from "vitest";
import { command, type Policy, policies, posthorn, retry, type } from "../../src/index.js";
import { createDatabase } from "../support/server.js";

const Work = command("DoWork", { queue: "work", schema: type<{ n: number }>() });
/** Enough slots that a reader asks for more before it has read what it asked for. */
const concurrency = 120;
const policy: Policy<"handler"> = {
  ...policies.email,
  idempotency: "handler",
  ordering: "none",
  concurrency,
  retry: retry.exponential({ attempts: 5, firstMs: 1, maxMs: 1 }),
  visibilityTimeoutMs: 300_000,
};
const numbers = Array.from({ length: 3_000 }, (_, n) => n);

async function filled() {
  const { url, drop } = await createDatabase();
  const post = posthorn({ service: "works", database: url, migrate: "auto" });
  await post.sendMany(
    Work,
    numbers.map((n) => ({ n })),
  );
  await post.stop();
  return { url, drop };
}

test("at full speed each message runs once, those that fail once more, and never more at once than the queue's concurrency", async () => {
  const { url, drop } = await filled();
  const logger = { info: () => undefined, warn: () => undefined, error: () => undefined };
  const post = posthorn({ service: "works", database: url, logger });
  const begun: number[] = [];
  let running = 0;
  let most = 0;
  post.queue("work", policy).handle(Work, async ({ n }, { attempt, signal }) => {
    begun.push(n);
    running += 1;
    most = Math.max(most, running);
    // Some end at once, some a little later, and between two claims there are always some that run.
    for (let turns = n % 4; turns > 0; turns -= 1) await turn(undefined, { signal });
    running -= 1;
    if (n % 500 === 7 && attempt === 1) throw new Error("not yet");
  });
  try {
    await post.start();
    await post.untilIdle();
    const twice = numbers.filter((n) => n % 500 === 7);
    expect(begun.toSorted((a, b) => a - b)).toEqual([...numbers, ...twice].toSorted((a, b) => a - b));
    expect(most).toBeGreaterThan(concurrency / 2);
    expect(most).toBeLessThanOrEqual(concurrency);
    expect(await post.backlog()).toMatchObject([{ backlog: 0, running: 0, retrying: 0, deadLetters: 0 }]);
  } finally {
    await post.stop();
    await drop();
  }
});

/**
 * Goal: what a worker has asked for and not read when it is told to stop is not lost, and runs once.
 * Method: workers stop after a few hundred messages each, called by a handler at full speed; the last works off what is left.
 */
test("a worker that stops at full speed hands back what it has asked for, and each message runs once", async () => {
  const { url, drop } = await filled();
  const handled: number[] = [];
  try {
    for (const until of [400, 900, 1_500, Number.POSITIVE_INFINITY]) {
      const post = posthorn({ service: "works", database: url });
      let stop: () => void = () => undefined;
      const toldToStop = new Promise<void>((resolve) => {
        stop = resolve;
      });
      post.queue("work", policy).handle(Work, async ({ n }) => {
        handled.push(n);
        if (handled.length >= until) stop();
        await turn();
      });
      await post.start();
      const last = until === Number.POSITIVE_INFINITY;
      await (last ? post.untilIdle() : toldToStop);
      await post.stop();
      // Otherwise nothing was handed back.
      if (!last) expect(handled.length).toBeLessThan(numbers.length);
    }
    expect(handled.toSorted((a, b) => a - b)).toEqual(numbers);
  } finally {
    await drop();
  }
});

test("what failed and is due again runs while the log still has more, however fast that is", async () => {
  const { url, drop } = await filled();
  const logger = { info: () => undefined, warn: () => undefined, error: () => undefined };
  const post = posthorn({ service: "works", database: url, logger });
  const begun: number[] = [];
  const later: Policy<"handler"> = { ...policy, retry: retry.fixed({ attempts: 5, delayMs: 20 }) };
  post.queue("work", later).handle(Work, async ({ n }, { attempt }) => {
    begun.push(n);
    if (n === 0 && attempt === 1) throw new Error("not yet");
  });
  try {
    await post.start();
    await post.untilIdle();
    expect(begun.lastIndexOf(0)).toBeGreaterThan(0);
    expect(begun.lastIndexOf(0)).toBeLessThan(numbers.length * 0.9);
  } finally {
    await post.stop();
    await drop();
  }
});
