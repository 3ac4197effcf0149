/** Handlers of many: which slots and connections their batches take, what is claimed for them, and what a stop does with them. */
import pg from "pg";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { silentLogger } from "../../src/core/logger.js";
import { command, posthorn, type } from "../../src/index.js";
import { eventually } from "../support/eventually.js";
import { createDatabase } from "../support/server.js";
import { gate, homes, type Item, inside, numbers, openOn, outside, sorted, upTo } from "./batching.js";

describe.each(homes)("on $name", ({ make }) => {
  let home: Awaited<ReturnType<typeof make>>;
  beforeAll(async () => {
    home = await make();
  });
  afterAll(async () => {
    await home.close();
  });

  const open = () => openOn(home.input);

  test("no more messages are claimed than the slots of the policy can hold as batches, however many there are", async () => {
    const post = open();
    const Slow = command("SlowItem", { queue: "slow", schema: type<Item>() });
    const begun = [gate(), gate()];
    const go = gate();
    let calls = 0;
    post.queue("slow", { ...outside, concurrency: 2 }).handleMany(Slow, { size: 5, maxWaitMs: 60_000 }, async () => {
      calls += 1;
      begun[calls - 1]?.open();
      await go.passed;
    });
    try {
      await post.sendMany(Slow, upTo(40));
      await post.start();
      await Promise.all(begun.map(({ passed }) => passed));
      const line = async () => (await post.backlog()).find(({ name }) => name === "slow");
      expect(await line()).toMatchObject({ backlog: 30, running: 10 });
      go.open();
      await post.untilIdle();
      expect(calls).toBe(8);
    } finally {
      go.open();
      await post.stop();
    }
  });

  test("a stop hands back at once what waits for company, without blame, and lets the batch that runs finish", async () => {
    const Wait = command("WaitItem", { queue: "waits", schema: type<Item>() });
    const begun = gate();
    const go = gate();
    const first = open();
    const handled: number[][] = [];
    first.queue("waits", outside).handleMany(Wait, { size: 4, maxWaitMs: 600_000 }, async (items) => {
      begun.open();
      await go.passed;
      handled.push(numbers(items));
    });
    await first.start();
    const receipts = await first.sendMany(Wait, upTo(6));
    await begun.passed;
    // Two of them wait: the next claim has brought them.
    await eventually(async () =>
      (await first.backlog()).some(({ name, running }) => name === "waits" && running === 6),
    );
    const stopped = first.stop({ graceMs: 600_000 });
    go.open();
    await stopped;
    expect(handled).toEqual([[1, 2, 3, 4]]);
    const next = open();
    next.queue("waits", outside).handleMany(Wait, { size: 2, maxWaitMs: 600_000 }, (items) => {
      handled.push(numbers(items));
      expect(items.map(({ attempt }) => attempt)).toEqual([1, 1]);
    });
    try {
      for (const [i, receipt] of receipts.entries()) {
        const [status] = await next.statusOf(receipt.id);
        expect(status).toMatchObject(
          i < 4 ? { state: "succeeded" } : { state: "queued", attempts: 0, crashes: 0, history: [] },
        );
      }
      await next.start();
      await next.untilIdle();
      expect(handled.map(sorted)).toEqual([
        [1, 2, 3, 4],
        [5, 6],
      ]);
    } finally {
      await next.stop();
    }
  });

  test.each(["handler", "transaction"] as const)(
    "in %s mode a batch that does not end within the grace time is handed back as a whole, and what it does later is nobody's",
    async (idempotency) => {
      const queue = `grace-${idempotency}`;
      const Hang = command(`HangItem${idempotency}`, { queue, schema: type<Item>() });
      const begun = gate();
      const go = gate();
      const refused = gate();
      const post = open();
      post
        .queue(queue, { ...outside, idempotency })
        .handleMany(Hang, { size: 3, maxWaitMs: 0 }, async (items, { signal, send }) => {
          begun.open();
          await go.passed;
          expect(signal.aborted).toBe(true);
          expect(() => items[0]?.fail(new Error("late"))).toThrow(/fail\(\) was called after/);
          expect(() => send(Hang, { n: 9 })).toThrow(/after the handler/);
          refused.open();
        });
      const receipts = await post.sendMany(Hang, upTo(3));
      await post.start();
      await begun.passed;
      await post.stop({ graceMs: 1 });
      go.open();
      await refused.passed;
      const eye = open();
      try {
        for (const { id } of receipts) {
          expect(await eye.statusOf(id)).toMatchObject([{ state: "queued", attempts: 0, crashes: 0 }]);
        }
      } finally {
        await eye.stop();
      }
    },
  );

  test.each(["handler", "transaction"] as const)(
    "in %s mode a queue with a handler of one and a handler of many never runs more at once than its concurrency, and neither waits for ever",
    async (idempotency) => {
      const queue = `mixed-${idempotency}`;
      const One = command(`DoOne${idempotency}`, { queue, schema: type<Item>() });
      const Many = command(`DoMany${idempotency}`, { queue, schema: type<Item>() });
      const post = open();
      const seen: number[] = [];
      let running = 0;
      let most = 0;
      const run = async (of: readonly number[]) => {
        running += 1;
        most = Math.max(most, running);
        await new Promise((resolve) => setTimeout(resolve, Math.random() * 3));
        seen.push(...of);
        running -= 1;
      };
      post
        .queue(queue, { ...outside, idempotency, concurrency: 2 })
        .handle(One, ({ n }) => run([n]))
        .handleMany(Many, { size: 10, maxWaitMs: 1 }, (items) => run(numbers(items)));
      try {
        for (let i = 0; i < 200; i += 10) {
          await post.sendMany(
            One,
            upTo(10).map(({ n }) => ({ n: i + n })),
          );
          await post.sendMany(
            Many,
            upTo(3).map(({ n }) => ({ n: 1_000 + i + n })),
          );
        }
        await post.start();
        await post.untilIdle();
        const many = upTo(20).flatMap(({ n }) => [1, 2, 3].map((one) => 1_000 + 10 * (n - 1) + one));
        expect(sorted(seen)).toEqual([...upTo(200).map(({ n }) => n), ...many]);
        expect(most).toBeLessThanOrEqual(2);
      } finally {
        await post.stop();
      }
    },
  );
});

test("in transaction mode a batch takes one connection, and what is due waits for one without being claimed twice", async () => {
  const { url, drop } = await createDatabase();
  const pool = new pg.Pool({ connectionString: url, max: 3 });
  const post = posthorn({ service: "narrow", database: pool, migrate: "auto", logger: silentLogger });
  try {
    const Fill = command("FillItem", { queue: "fill", schema: type<Item>() });
    const batches: number[][] = [];
    let running = 0;
    let most = 0;
    post
      .queue("fill", { ...inside, concurrency: 8 })
      .handleMany(Fill, { size: 4, maxWaitMs: 0 }, async (items, { tx }) => {
        running += 1;
        most = Math.max(most, running);
        await tx.query("select 1");
        batches.push(numbers(items));
        running -= 1;
      });
    await post.sendMany(Fill, upTo(40));
    await post.start();
    await post.untilIdle();
    expect(sorted(batches.flat())).toEqual(upTo(40).map(({ n }) => n));
    expect(most).toBeLessThan(3);
  } finally {
    await post.stop();
    await pool.end();
    await drop();
  }
});
