/** Handlers of many that decide by what they throw, with a circuit breaker, and messages of theirs that somebody cancels. */
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { command, OpenCircuit, Reject, RetryLater, retry, type } from "../../src/index.js";
import { eventually } from "../support/eventually.js";
import { gate, homes, type Item, numbers, once, openOn, outside, upTo } from "./batching.js";

const hour = 3_600_000;
const modes = ["handler", "transaction"] as const;
const breaker = { failures: 2, windowMs: hour, openMs: hour };

describe.each(homes)("on $name", ({ name, make }) => {
  let home: Awaited<ReturnType<typeof make>>;
  beforeAll(async () => {
    home = await make();
  });
  afterAll(async () => {
    await home.close();
  });

  let queues = 0;
  /** A queue of its own. */
  function fresh() {
    queues += 1;
    const queue = `verdicts-${queues}`;
    const lines: string[] = [];
    const keep = (line: string): void => void lines.push(line);
    const post = openOn(home.input, { info: keep, warn: keep, error: keep });
    const Do = command(`DoVerdict${queues}`, { queue, schema: type<Item>() });
    const line = async () => (await post.backlog()).find((one) => one.name === queue);
    const states = (receipts: readonly { readonly id: string }[]) =>
      Promise.all(receipts.map(async ({ id }) => (await post.statusOf(id))[0]));
    return { post, Do, queue, lines, line, states };
  }

  describe.each(modes)("in %s mode", (idempotency) => {
    test("a message that is said to be put off or rejected ends so by itself, and the others of its batch have succeeded", async () => {
      const { post, Do, queue, states } = fresh();
      post.queue(queue, { ...outside, idempotency }).handleMany(Do, { size: 10, maxWaitMs: 0 }, (items) => {
        for (const { payload, fail } of items) {
          if (payload.n === 1) fail(new RetryLater(hour, "not yet"));
          if (payload.n === 2) fail(new Reject("no such address"));
        }
      });
      try {
        const receipts = await post.sendMany(Do, upTo(4));
        await post.start();
        await post.untilIdle();
        const [later, rejected, ...others] = await states(receipts);
        expect(later).toMatchObject({
          state: "retrying",
          reason: "postponed",
          attempts: 0,
          history: [{ note: "not yet" }],
        });
        expect(rejected).toMatchObject({ state: "dead", attempts: 1, reason: "rejected: no such address" });
        expect(others).toMatchObject([{ state: "succeeded" }, { state: "succeeded" }]);
      } finally {
        await post.stop();
      }
    });

    test("a handler that asks to come back later puts off its whole batch at once, and that is told once", async () => {
      const { post, Do, queue, lines, states } = fresh();
      const batches: number[][] = [];
      post.queue(queue, { ...outside, idempotency }).handleMany(Do, { size: 10, maxWaitMs: 0 }, (items) => {
        batches.push(numbers(items));
        throw new RetryLater(hour, "too many requests");
      });
      try {
        const receipts = await post.sendMany(Do, upTo(4));
        await post.start();
        await post.untilIdle();
        expect(batches).toEqual([[1, 2, 3, 4]]);
        const postponed = { state: "retrying", reason: "postponed", attempts: 0 };
        expect(await states(receipts)).toMatchObject(Array(4).fill(postponed));
        expect(lines.filter((line) => line.includes("too many requests"))).toEqual([
          `a batch of 4 × ${Do.name} in "${queue}" is put off by its handler: too many requests`,
        ]);
      } finally {
        await post.stop();
      }
    });

    test("a handler that opens the circuit puts off its batch, and the one message that is tried then runs alone and closes it", async () => {
      const { post, Do, queue, line, states } = fresh();
      const batches: number[][] = [];
      let full = true;
      const policy = { ...outside, idempotency, circuitBreaker: breaker, concurrency: 1 };
      post.queue(queue, policy).handleMany(Do, { size: 3, maxWaitMs: 0 }, (items) => {
        batches.push(numbers(items));
        if (full) throw new OpenCircuit(1_500, "quota spent");
      });
      try {
        const receipts = await post.sendMany(Do, upTo(9));
        await post.start();
        await eventually(async () => (await line())?.circuit?.reason === "quota spent");
        full = false;
        await eventually(async () => (await states(receipts)).every((status) => status?.state === "succeeded"), {
          withinMs: 60_000,
        });
        const first = batches.findIndex(({ length }) => length === 1);
        // What had been claimed before may have met the open circuit; the first run that succeeds is one message.
        expect(batches.slice(0, first).every(({ length }) => length === 3)).toBe(true);
        expect((await line())?.circuit).toMatchObject({ state: "closed" });
      } finally {
        await post.stop();
      }
    });
  });

  test("a batch whose handler throws is one failed run for the circuit, whatever it holds", async () => {
    const { post, Do, queue, line } = fresh();
    const lazy = retry.fixed({ attempts: 3, delayMs: hour });
    let calls = 0;
    post
      .queue(queue, { ...outside, circuitBreaker: breaker, concurrency: 1, retry: lazy })
      .handleMany(Do, { size: 5, maxWaitMs: 0 }, () => {
        calls += 1;
        throw new Error("away");
      });
    try {
      await post.start();
      await post.sendMany(Do, upTo(5));
      await post.untilIdle();
      expect([calls, (await line())?.circuit?.state]).toEqual([1, "closed"]);
      await post.sendMany(Do, upTo(5));
      await eventually(async () => (await line())?.circuit?.state === "open");
      expect(calls).toBe(2);
    } finally {
      await post.stop();
    }
  });

  test("a message that waits for company when somebody cancels it ends as cancelled, and is not handled", async () => {
    for (const policy of [outside, { ...outside, idempotency: "transaction" as const }, once]) {
      const { post, Do, queue, line } = fresh();
      const batches: number[][] = [];
      post.queue(queue, policy as typeof outside).handleMany(Do, { size: 3, maxWaitMs: 600_000 }, (items) => {
        batches.push(numbers(items));
      });
      try {
        await post.start();
        const [first] = await post.sendMany(Do, upTo(2));
        await eventually(async () => (await line())?.running === 2);
        expect(await first?.cancel()).toBe("signalled");
        expect(await first?.settled({ withinMs: 60_000 })).toMatchObject({ state: "cancelled" });
        await post.sendMany(Do, [{ n: 3 }, { n: 4 }]);
        await post.untilIdle();
        expect(batches).toEqual([[2, 3, 4]]);
      } finally {
        await post.stop();
      }
    }
  });

  test.each(modes)(
    "in %s mode a message of a batch that runs is cancelled when it fails, and the others are not",
    async (idempotency) => {
      const { post, Do, queue, states } = fresh();
      const begun = gate();
      const go = gate();
      post.queue(queue, { ...outside, idempotency }).handleMany(Do, { size: 3, maxWaitMs: 0 }, async (items) => {
        begun.open();
        await go.passed;
        items.find(({ payload }) => payload.n === 1)?.fail(new Error("given up"));
      });
      try {
        const receipts = await post.sendMany(Do, upTo(3));
        await post.start();
        await begun.passed;
        // On the one connection of an embedded database the request waits for the end of the transaction.
        const beside = idempotency === "handler" || name === "a server";
        const asked = Promise.all(receipts.slice(0, 2).map((receipt) => receipt.cancel()));
        if (beside) expect(await asked).toEqual(["signalled", "signalled"]);
        else asked.catch(() => undefined);
        go.open();
        await post.untilIdle();
        await asked;
        const ended = await states(receipts);
        expect(ended.slice(1)).toMatchObject([{ state: "succeeded" }, { state: "succeeded" }]);
        if (beside) expect(ended[0]).toMatchObject({ state: "cancelled" });
        else expect(["cancelled", "dead"]).toContain(ended[0]?.state);
      } finally {
        go.open();
        await post.stop();
      }
    },
  );

  test("steps and progress, which are of one message, are refused with the reason", async () => {
    const { post, Do, queue } = fresh();
    const said: unknown[] = [];
    post.queue(queue, outside).handleMany(Do, { size: 2, maxWaitMs: 0 }, (_items, context) => {
      const untyped = context as typeof context & Record<"step" | "progress", (...given: unknown[]) => void>;
      for (const call of [() => untyped.step("charge", () => 1), () => untyped.progress(0.5)]) {
        try {
          call();
        } catch (error) {
          said.push((error as Error).message);
        }
      }
      expect({ ...context }).not.toHaveProperty("step");
    });
    try {
      await post.send(Do, { n: 1 });
      await post.start();
      await post.untilIdle();
      expect(said).toEqual([
        "step() records what was done for one message, and this handler was given many. Use handle() or on().",
        "progress() tells how far the run of one message is, and this handler was given many. Use handle() or on().",
      ]);
    } finally {
      await post.stop();
    }
  });
});
