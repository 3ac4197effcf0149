import { expect, test } from "vitest";
import { command, type Policy, policies, posthorn, type } from "../../src/index.js";
import { Slots } from "../../src/worker/slots.js";
import { eventually } from "../support/eventually.js";
import { createDatabase } from "../support/server.js";

const Work = command("DoWork", { queue: "work", schema: type<{ n: number }>() });
const policy: Policy<"transaction"> = {
  ...policies.rollUp,
  idempotency: "transaction",
  concurrency: 3,
  visibilityTimeoutMs: 300_000,
};

test("what may be claimed ahead of the slots follows the runs: some while they are short, nothing before the first, while they are long, or when what was claimed has waited too long", () => {
  const slots = new Slots({ single: false, transactions: 10 });
  expect(slots.ahead(9)).toBe(0);
  slots.took(15);
  expect([slots.ahead(9), slots.ahead(3)]).toEqual([18, 6]);
  slots.took(30_000);
  expect(slots.ahead(9)).toBe(0);
  for (let run = 0; run < 100; run += 1) slots.took(1);
  expect(slots.ahead(9)).toBe(64);
  slots.stalled();
  expect(slots.ahead(9)).toBe(0);
  slots.took(15);
  expect(slots.ahead(9)).toBe(18);
});

test("messages that were claimed ahead run once each, and never more at once than the queue's concurrency", async () => {
  const { url, drop } = await createDatabase();
  const post = posthorn({ service: "worker", database: url, migrate: "auto" });
  const handled: number[] = [];
  let running = 0;
  let most = 0;
  post.queue("work", policy).handle(Work, async ({ n }, { tx }) => {
    running += 1;
    most = Math.max(most, running);
    await tx.query("select 1");
    handled.push(n);
    running -= 1;
  });
  try {
    const numbers = Array.from({ length: 300 }, (_, n) => n);
    await post.sendMany(
      Work,
      numbers.map((n) => ({ n })),
    );
    await post.start();
    await post.untilIdle();
    expect(handled.toSorted((a, b) => a - b)).toEqual(numbers);
    expect(most).toBe(3);
  } finally {
    await post.stop();
    await drop();
  }
});

/**
 * Goal: what a worker has claimed ahead is not kept from others when its handlers hang.
 * Method: its first two hundred runs are short, so that it claims ahead; then all its slots hang, with a hundred messages left. Another worker
 * must handle all of these but the three that hang, while they do.
 */
test("messages that were claimed ahead of slots that do not become free are handed back, and others handle them", async () => {
  const { url, drop } = await createDatabase();
  const hanging = new Set<number>();
  let release: () => void = () => undefined;
  const released = new Promise<void>((resolve) => {
    release = resolve;
  });
  const slow = posthorn({ service: "works", database: url, migrate: "auto" });
  slow.queue("work", policy).handle(Work, async ({ n }) => {
    if (n < 200) return;
    hanging.add(n);
    await released;
  });
  const handled = new Set<number>();
  // Another worker of the same service: one process may have it under another spelling of the database alone.
  const again = new URL(url);
  again.searchParams.set("application_name", "other");
  const other = posthorn({ service: "works", database: again.href });
  other.queue("work", policy).handle(Work, ({ n }) => {
    handled.add(n);
  });
  try {
    await slow.sendMany(
      Work,
      Array.from({ length: 300 }, (_, n) => ({ n })),
    );
    await slow.start();
    await eventually(() => hanging.size === 3, { withinMs: 60_000 });
    await other.start();
    await eventually(() => handled.size === 97, { withinMs: 60_000 });
    expect([...handled].filter((n) => n < 200 || hanging.has(n))).toEqual([]);
    release();
    await slow.untilIdle();
    await other.untilIdle();
    expect([handled.size, hanging.size]).toEqual([97, 3]);
  } finally {
    release();
    await slow.stop();
    await other.stop();
    await drop();
  }
});
