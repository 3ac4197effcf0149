/**
 * A worker that can do nothing now rests, although something waits: what it asks for and how often its loops go round is counted for a second. A slow
 * machine only makes it less.
 */
import { setTimeout as pause } from "node:timers/promises";
import { afterAll, afterEach, beforeAll, beforeEach, expect, test, vi } from "vitest";
import { type CountingProxy, openCountingProxy } from "../../bench/counting-proxy.js";
import { silentLogger } from "../../src/core/logger.js";
import { command, type Post, posthorn, type QueuePolicy, type } from "../../src/index.js";
import { decisions } from "../producer/stage.js";
import { openSession, type Session } from "../sql/engine.js";
import { eventually } from "../support/eventually.js";
import { createPglite } from "../support/pglite.js";
import { createDatabase } from "../support/server.js";

const Work = command("DoWork", { queue: "work", schema: type<{ n: number }>(), key: ({ n }) => String(n) });

let database: Awaited<ReturnType<typeof createDatabase>>;
let proxy: CountingProxy;
let admin: Session;
beforeAll(async () => {
  database = await createDatabase();
  proxy = await openCountingProxy(database.url);
  admin = await openSession(database.url);
});
afterAll(async () => {
  await admin.close();
  await proxy.close();
  await database.drop();
});

let post: Post<unknown>;
let begun: number;
let release: () => void;
beforeEach(() => {
  begun = 0;
});
afterEach(async () => {
  release();
  await post.stop();
});

async function start(policy: Partial<QueuePolicy>, on: unknown = proxy.url): Promise<void> {
  const held = new Promise<void>((resolve) => {
    release = resolve;
  });
  post = posthorn({
    service: "resting",
    database: on as string,
    migrate: "auto",
    logger: silentLogger,
  }) as Post<unknown>;
  post.queue("work", { ...decisions, ...policy }).handle(Work, async () => {
    begun += 1;
    await held;
  });
  await post.start();
}

/** Statements of the worker in a second, once it has come to rest. */
async function statements(): Promise<number> {
  await pause(300);
  const before = proxy.statements();
  await pause(1_000);
  return proxy.statements() - before;
}

// It asked a hundred times a second.
test("while a suspect runs its worker asks for the others now and then, and takes each when the one before has ended", async () => {
  await start({});
  await post.sendMany(Work, [{ n: 1 }, { n: 2 }, { n: 3 }], { delayMs: 3_600_000 });
  await admin.rows("update posthorn.deferred set crashes = 2, due_at = clock_timestamp()");
  await eventually(() => begun === 1);
  expect(await statements()).toBeLessThan(60);
  release();
  await eventually(() => begun === 3);
  await post.untilIdle();
});

// The same.
test("what a producer's transaction holds is looked at now and then, and taken when that has ended", async () => {
  await start({});
  release();
  await post.send(Work, { n: 1 }, { delayMs: 500 });
  const producer = await openSession(database.url);
  await producer.rows("begin");
  await producer.rows("select from posthorn.deferred for update");
  await pause(600);
  expect(await statements()).toBeLessThan(60);
  await producer.rows("rollback");
  await eventually(() => begun === 1);
  await post.untilIdle();
  await producer.close();
});

// Twenty times a second it asked for leave to begin what nobody had sent, and was never idle.
test("where the fleet is full and nothing waits, a worker is idle", async () => {
  await start({ fleetConcurrency: 1 });
  const other = post;
  const end = release;
  await other.send(Work, { n: 1 });
  await eventually(() => begun === 1);
  await start({ fleetConcurrency: 1 }, database.url);
  const late = pause(60_000, "is not idle after a minute", { ref: false });
  expect(await Promise.race([post.untilIdle(), late])).toBeUndefined();
  end();
  await other.stop();
});

// Its loop went round and round, with a whole processor, until the handler had ended.
test("while a slow handler holds the only connection, a queue that keeps order does not go round in circles", async () => {
  const pglite = await createPglite();
  await start({ idempotency: "transaction", ordering: { per: "key", whenDead: "park" } }, pglite);
  await post.sendMany(
    Work,
    Array.from({ length: 8 }, (_, n) => ({ n })),
  );
  await eventually(() => begun === 1);
  await pause(300);
  const rounds = vi.spyOn(globalThis, "setImmediate");
  await pause(1_000);
  expect(rounds.mock.calls.length).toBeLessThan(1_000);
  rounds.mockRestore();
  release();
  await post.untilIdle();
  expect(begun).toBe(8);
  await post.stop();
  await pglite.close();
});
