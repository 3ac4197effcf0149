/** Limits of a policy, as an application sees them, on a server and on PGlite. */
import { command, type Policy, type Post, posthorn, type QueuePolicy, retry, type Sql } from "posthorn";
import { describe, expect, onTestFinished, test } from "vitest";
import { z } from "zod";
import { silentLogger } from "../../src/core/logger.js";
import { type HomeKind, twoHomes } from "../producer/homes.js";
import { eventually } from "../support/eventually.js";

const Step = command("Step", { queue: "steps", schema: z.object({ n: z.int(), of: z.string() }), key: ({ of }) => of });
const Bare = command("Bare", { queue: "steps", schema: z.object({}) });

const policy: Policy<"handler"> = {
  retry: retry.fixed({ attempts: 3, delayMs: 10 }),
  idempotency: "handler",
  ordering: "none",
  visibilityTimeoutMs: 60_000,
  deadLetter: { keepMs: 60_000 },
  alerts: { oldestAgeMs: 3_600_000, backlog: 1_000_000, deadLetters: 1_000, noWorkerMs: 3_600_000 },
};

async function open(kind: HomeKind): Promise<Post<Sql>> {
  const home = await kind.open();
  const post = posthorn({ service: "steps", database: home.input, migrate: "auto", logger: silentLogger }) as Post<Sql>;
  onTestFinished(async () => {
    await post.stop();
    await home.close();
  });
  return post;
}

const steps = Array.from({ length: 30 }, (_, n) => ({ n, of: `key-${n % 3}` }));
const eachThird = (key: number) => steps.map(({ n }) => n).filter((n) => n % 3 === key);

describe.each(twoHomes)("on $name", (kind) => {
  test("all limits at once: everything is handled once, each key in its order, and no more at once than allowed", async () => {
    const post = await open(kind);
    const handled: number[] = [];
    const running = new Map<string, number>();
    let most = 0;
    const limits = {
      rateLimit: { messages: 200, perMs: 1_000, burst: 5 },
      fleetConcurrency: 2,
      keyRateLimit: { messages: 100, perMs: 1_000, burst: 1 },
      keyConcurrency: 1,
    };
    post.queue("steps", { ...policy, ...limits }).handle(Step, async ({ n, of }) => {
      running.set(of, (running.get(of) ?? 0) + 1);
      expect(running.get(of)).toBe(1);
      most = Math.max(
        most,
        [...running.values()].reduce((sum, one) => sum + one),
      );
      await new Promise((resolve) => setImmediate(resolve));
      handled.push(n);
      running.set(of, 0);
    });
    await post.start();
    await post.sendMany(Step, steps);
    // Not untilIdle(): what stands in the line of a key is not due.
    await eventually(() => handled.length >= steps.length, { withinMs: 60_000 });
    await post.untilIdle();
    expect(most).toBeLessThanOrEqual(2);
    expect([...handled].sort((a, b) => a - b)).toEqual(steps.map(({ n }) => n));
    for (const key of [0, 1, 2]) {
      const own = handled.filter((n) => n % 3 === key);
      expect(own).toEqual([...own].sort((a, b) => a - b));
    }
  });

  test("a message that fails and is tried again within a rate has all of its runs, and no more", async () => {
    const post = await open(kind);
    let runs = 0;
    const rateLimit = { messages: 100, perMs: 1_000, burst: 1 };
    post.queue("steps", { ...policy, rateLimit }).handle(Step, () => {
      runs += 1;
      throw new Error("not today");
    });
    await post.start();
    await post.sendMany(Step, steps.slice(0, 5));
    await eventually(() => runs >= 15, { withinMs: 60_000 });
    await post.untilIdle();
    expect(runs).toBe(15);
  });
});

describe.each(twoHomes)("beside other parts of a policy on $name", (kind) => {
  test("where order is kept, limits of the fleet hold and each key stays in its order, also when some fail", async () => {
    const post = await open(kind);
    const handled: number[] = [];
    let running = 0;
    let most = 0;
    const limited: QueuePolicy<"handler"> = {
      ...policy,
      ordering: { per: "key", whenDead: "park" },
      rateLimit: { messages: 200, perMs: 1_000, burst: 5 },
      fleetConcurrency: 2,
    };
    const failed = new Set<number>();
    post.queue("steps", limited).handle(Step, async ({ n }) => {
      running += 1;
      most = Math.max(most, running);
      await new Promise((resolve) => setImmediate(resolve));
      running -= 1;
      if (n % 7 === 0 && !failed.has(n)) {
        failed.add(n);
        throw new Error("the first time it fails");
      }
      handled.push(n);
    });
    await post.start();
    await post.sendMany(Step, steps);
    await eventually(() => handled.length >= steps.length, { withinMs: 60_000 });
    await post.untilIdle();
    expect(most).toBeLessThanOrEqual(2);
    for (const key of [0, 1, 2]) expect(handled.filter((n) => n % 3 === key)).toEqual(eachThird(key));
  });

  test("a circuit opens, tries one message with a permit and closes, and everything is handled within the limits", async () => {
    const post = await open(kind);
    const handled = new Set<number>();
    let failures = 0;
    const limited: QueuePolicy<"handler"> = {
      ...policy,
      retry: retry.fixed({ attempts: 10, delayMs: 10 }),
      circuitBreaker: { failures: 3, windowMs: 60_000, openMs: 50 },
      rateLimit: { messages: 200, perMs: 1_000, burst: 5 },
      keyConcurrency: 1,
    };
    post.queue("steps", limited).handle(Step, ({ n }) => {
      if (failures < 5) {
        failures += 1;
        throw new Error("down");
      }
      handled.add(n);
    });
    await post.start();
    await post.sendMany(Step, steps);
    await eventually(() => handled.size >= steps.length, { withinMs: 60_000 });
    expect(failures).toBe(5);
  });

  test("in transaction mode short runs keep to one at once in the fleet, and each is handled once", async () => {
    const post = await open(kind);
    const begun: number[] = [];
    const limited: QueuePolicy<"transaction"> = {
      ...policy,
      idempotency: "transaction",
      rateLimit: { messages: 100, perMs: 1_000, burst: 1 },
      fleetConcurrency: 1,
    };
    let running = 0;
    post.queue("steps", limited).handle(Step, async ({ n }, { tx }) => {
      running += 1;
      expect(running).toBe(1);
      await tx.query("select 1");
      begun.push(n);
      running -= 1;
    });
    await post.start();
    await post.sendMany(Step, steps);
    await eventually(() => begun.length >= steps.length, { withinMs: 60_000 });
    await post.untilIdle();
    expect([...begun].sort((a, b) => a - b)).toEqual(steps.map(({ n }) => n));
  });
});

test("a limit of keys refuses a contract without one", async () => {
  const post = posthorn({ service: "keyless", database: "postgres://localhost/none" });
  for (const limit of [{ keyConcurrency: 1 }, { keyRateLimit: { messages: 1, perMs: 1_000 } }]) {
    const [name] = Object.keys(limit);
    const queue = posthorn({ service: `keyless-${name}`.toLowerCase(), database: "postgres://localhost/none" }).queue(
      "steps",
      {
        ...policy,
        ...limit,
      },
    );
    expect(() => queue.handle(Bare, () => {})).toThrow(new RegExp(`Bare has no key, and "steps" has a ${name}`));
  }
  await post.stop();
});
