/**
 * Order per key, from end to end on a real server: several workers at once, failures, slow messages, dead ones, restarts. What is judged is
 * the journal that handlers write: every begin and every success with its key and number.
 */
import { setTimeout as slowWork } from "node:timers/promises";
import { afterAll, beforeAll, expect, test } from "vitest";
import { silentLogger } from "../../src/core/logger.js";
import { command, event, type Policy, posthorn, retry, type } from "../../src/index.js";
import { openSession, type Session } from "../sql/engine.js";
import { eventually } from "../support/eventually.js";
import { createPglite } from "../support/pglite.js";
import { createDatabase } from "../support/server.js";

interface Step {
  readonly key: string;
  readonly n: number;
}

const policy = {
  retry: retry.fixed({ attempts: 4, delayMs: 20 }),
  idempotency: "handler",
  ordering: { per: "key", whenDead: "park" },
  visibilityTimeoutMs: 60_000,
  deadLetter: { keepMs: 3_600_000 },
  alerts: { oldestAgeMs: 60_000, backlog: 100_000, deadLetters: 100_000, noWorkerMs: 60_000 },
} as const satisfies Policy;

let database: Awaited<ReturnType<typeof createDatabase>>;
let admin: Session;
beforeAll(async () => {
  database = await createDatabase();
  admin = await openSession(database.url);
});
afterAll(async () => {
  await admin.close();
  await database.drop();
});

let opened = 0;
/** Workers of one service, which one process may have only under several spellings of its database. */
function open() {
  opened += 1;
  const url = new URL(database.url);
  url.searchParams.set("application_name", `orderly-${opened}`);
  return posthorn({ service: "orderly", database: url.href, migrate: "auto", logger: silentLogger });
}

/** What happened, in the order in which it did: one process, so one clock. */
class Journal {
  readonly entries: { readonly key: string; readonly n: number; readonly what: "begin" | "done" }[] = [];

  begin({ key, n }: Step): void {
    this.entries.push({ key, n, what: "begin" });
  }

  done({ key, n }: Step): void {
    this.entries.push({ key, n, what: "done" });
  }

  doneOf(key: string): number[] {
    return this.entries.filter((entry) => entry.key === key && entry.what === "done").map(({ n }) => n);
  }

  /** The first place where a message began before the one before it was done. */
  disorder(): string | undefined {
    const last = new Map<string, number>();
    for (const { key, n, what } of this.entries) {
      const before = last.get(key) ?? 0;
      if (n !== before + 1) return `${key}: ${what} ${n} while ${before} was the last that was done`;
      if (what === "done") last.set(key, n);
    }
    return undefined;
  }
}

function inbox<const Q extends string>(queue: Q) {
  const Command = command(`DoStep${queue.replace(/\W/g, "")}`, { queue, schema: type<Step>(), key: ({ key }) => key });
  const keys = Array.from({ length: 12 }, (_, i) => `k${i}`);
  return { Command, keys };
}

function shuffledSteps(keys: readonly string[], each: number): Step[] {
  const next = new Map(keys.map((key) => [key, 0]));
  const steps: Step[] = [];
  while (steps.length < keys.length * each) {
    const key = keys[Math.floor(Math.random() * keys.length)] ?? "";
    const n = (next.get(key) ?? 0) + 1;
    if (n > each) continue;
    next.set(key, n);
    steps.push({ key, n });
  }
  return steps;
}

test.each(["handler", "transaction"] as const)(
  "in %s mode each key is handled in order by three workers, whatever fails, is slow, or hands back at a stop",
  async (idempotency) => {
    const { Command, keys } = inbox(`mixed-${idempotency}`);
    const each = 25;
    const journal = new Journal();
    const failed = new Set<string>();
    const start = async () => {
      const post = open();
      post
        .queue(`mixed-${idempotency}`, {
          ...policy,
          idempotency,
          retry: retry.fixed({ attempts: 50, delayMs: 5 }),
          concurrency: 6,
        })
        .handle(Command, async (step, { signal }) => {
          journal.begin(step);
          const id = `${step.key}:${step.n}`;
          // A few are slow enough to be moved out of their claim; some fail once, before or after that.
          const slow = step.n % 9 === 0;
          await new Promise((resolve) => setTimeout(resolve, slow ? 350 : Math.random() * 4));
          signal.throwIfAborted();
          if (step.n % 5 === 0 && !failed.has(id)) {
            failed.add(id);
            throw new Error("the first time it fails");
          }
          journal.done(step);
        });
      await post.start();
      return post;
    };
    const sender = open();
    const workers = [await start(), await start(), await start()];
    const steps = shuffledSteps(keys, each);
    for (let i = 0; i < steps.length; i += 10) await sender.sendMany(Command, steps.slice(i, i + 10));
    // One worker goes in the middle, and hands back what it has not begun.
    await eventually(() => journal.entries.length > steps.length, { withinMs: 60_000 });
    await workers.shift()?.stop();
    workers.push(await start());
    await eventually(() => keys.every((key) => journal.doneOf(key).length >= each), { withinMs: 60_000 });
    expect(journal.disorder()).toBeUndefined();
    await Promise.all(workers.map((worker) => worker.untilIdle()));
    for (const worker of workers) await worker.stop();
    expect(await sender.backlog()).toContainEqual(
      expect.objectContaining({ name: `mixed-${idempotency}`, backlog: 0, running: 0 }),
    );
    await sender.stop();
  },
);

test("a dead message parks its key: the others go on, and a redrive resumes the key in order", async () => {
  const { Command } = inbox("parked");
  const post = open();
  const journal = new Journal();
  let broken = true;
  post.queue("parked", { ...policy, retry: retry.none }).handle(Command, (step) => {
    if (step.key === "a" && step.n === 2 && broken) throw new Error("broken");
    journal.begin(step);
    journal.done(step);
  });
  await post.start();
  const receipts = await post.sendMany(
    Command,
    [1, 2, 3, 4].flatMap((n) => [
      { key: "a", n },
      { key: "b", n },
    ]),
  );
  await post.untilIdle();
  expect(journal.doneOf("b")).toEqual([1, 2, 3, 4]);
  expect(journal.doneOf("a")).toEqual([1]);
  expect(await receipts[2]?.status()).toMatchObject({ state: "dead" });
  expect(await receipts[4]?.status()).toMatchObject({ state: "parked" });
  // What is said later waits as well.
  const later = await post.send(Command, { key: "a", n: 5 });
  await post.untilIdle();
  expect(await later.status()).toMatchObject({ state: "parked" });
  broken = false;
  await admin.rows("select posthorn.redrive($1, 'test', 10)", [{ list: "dead-letters", message: receipts[2]?.id }]);
  await eventually(() => journal.doneOf("a").length === 5);
  expect(journal.disorder()).toBeUndefined();
  // The key is free again: the next one comes from the log.
  await post.untilIdle();
  await post.send(Command, { key: "a", n: 6 });
  await eventually(() => journal.doneOf("a").length === 6);
  expect(await later.status()).toMatchObject({ state: "succeeded" });
  await post.stop();
});

test("where dead messages are skipped, the key goes on behind one", async () => {
  const { Command } = inbox("skipped");
  const post = open();
  const seen: number[] = [];
  post
    .queue("skipped", {
      ...policy,
      retry: retry.fixed({ attempts: 2, delayMs: 10 }),
      ordering: { per: "key", whenDead: "skip" },
    })
    .handle(Command, ({ n }) => {
      seen.push(n);
      if (n === 2) throw new Error("never");
    });
  await post.start();
  await post.sendMany(
    Command,
    [1, 2, 3, 4].map((n) => ({ key: "a", n })),
  );
  await eventually(() => seen.length === 5);
  expect(seen).toEqual([1, 2, 2, 3, 4]);
  await post.stop();
});

/** The next message of the slow key lies before the others: a claim stops at it, until the slow one is moved out of its claim. */
test("a slow message of one key does not stop the others, also where the next of its key comes before them", async () => {
  const { Command } = inbox("slow");
  const post = open();
  const done: string[] = [];
  let begun = false;
  let release: () => void = () => undefined;
  const held = new Promise<void>((resolve) => {
    release = resolve;
  });
  post.queue("slow", { ...policy, concurrency: 4 }).handle(Command, async ({ key, n }) => {
    if (key === "slow" && n === 1) {
      begun = true;
      await held;
    }
    done.push(`${key}${n}`);
  });
  await post.start();
  await post.send(Command, { key: "slow", n: 1 });
  await eventually(() => begun);
  await post.send(Command, { key: "slow", n: 2 });
  await post.sendMany(
    Command,
    Array.from({ length: 200 }, (_, i) => ({ key: `k${i % 20}`, n: i })),
  );
  await eventually(() => done.length === 200);
  expect(done.some((id) => id.startsWith("slow"))).toBe(false);
  release();
  await eventually(() => done.length === 202);
  expect(done.slice(-2)).toEqual(["slow1", "slow2"]);
  await post.stop();
});

// Once the claim of a slow handler was moved aside while its transaction held the only connection: each waited for the other for ever.
test("a slow handler in transaction mode does not stop a queue in order on a database with one connection", async () => {
  const Command = command("DoSlowStep", { queue: "narrow", schema: type<Step>(), key: ({ key }) => key });
  const pglite = await createPglite();
  const post = posthorn({ service: "narrow", database: pglite, migrate: "auto", logger: silentLogger });
  const journal = new Journal();
  const orderly = { ...policy, idempotency: "transaction", concurrency: 4 } as const;
  post.queue("narrow", orderly).handle(Command, async (step) => {
    journal.begin(step);
    // Longer than a claim may be open before it is looked at.
    if (step.n === 1) await slowWork(400);
    journal.done(step);
  });
  await post.start();
  await post.sendMany(Command, shuffledSteps(["a", "b"], 4));
  await eventually(() => expect(["a", "b"].map((key) => journal.doneOf(key).length)).toEqual([4, 4]));
  expect(journal.disorder()).toBeUndefined();
  await post.stop();
  await pglite.close();
});

test("events without a handler do not hold the key of an ordered subscription", async () => {
  const Opened = event("AccountOpened", { topic: "accounts", schema: type<{ id: string }>(), key: ({ id }) => id });
  const Closed = event("AccountClosed", { topic: "accounts", schema: type<{ id: string }>(), key: ({ id }) => id });
  const post = open();
  const seen: string[] = [];
  post.subscription("mirror", { ...policy, topic: "accounts" }).on(Closed, ({ id }) => {
    seen.push(id);
  });
  await post.start();
  await post.publish(Opened, { id: "1" });
  await post.publish(Closed, { id: "1" });
  await eventually(() => seen.length === 1);
  await post.stop();
});

test("a contract without a key is refused where order is kept", () => {
  const Keyless = command("DoKeyless", { queue: "keyless", schema: type<Step>() });
  const post = open();
  expect(() => post.queue("keyless", policy).handle(Keyless, () => undefined)).toThrow(
    /keeps order per key, and DoKeyless has no key/,
  );
  const Happened = event("KeylessHappened", { topic: "keyless-facts", schema: type<Step>() });
  const reader = post.subscription("keyless-reader", { topic: "keyless-facts", ...policy });
  expect(() => reader.on(Happened, () => undefined)).toThrow(/keeps order per key, and KeylessHappened has no key/);
});
