/** Queues with a backlogLimit, as producers meet them, on every kind of database. */
import { BacklogFullError, command, type Post, posthorn, retry, type Sql } from "posthorn";
import { afterAll, describe, expect, test } from "vitest";
import { z } from "zod";
import { silentLogger } from "../../src/core/logger.js";
import { eventually } from "../support/eventually.js";
import { type Home, homes, type HomeKind } from "./homes.js";

const payload = z.object({ n: z.number() });
const limit = 5;

interface Scene {
  readonly post: Post<Sql>;
  readonly home: Home;
  /** Lets the handlers end that hold messages, and all that come. */
  readonly open: () => void;
  readonly handled: number[];
}

const Fill = command("Fill", { queue: "narrow", schema: payload });
const Relay = command("Relay", { queue: "relay", schema: payload });

const policy = {
  retry: retry.fixed({ attempts: 3, delayMs: 3_600_000 }),
  idempotency: "handler",
  ordering: "none",
  visibilityTimeoutMs: 60_000,
  deadLetter: { keepMs: 60_000 },
  alerts: { oldestAgeMs: 3_600_000, backlog: 1_000_000, deadLetters: 1_000, noWorkerMs: 3_600_000 },
  concurrency: 1,
} as const;

const closing: (() => Promise<void>)[] = [];
afterAll(async () => {
  for (const close of closing) await close();
});

let scenes = 0;

/** One message is held by its handler, so that what comes next waits. */
async function openScene(kind: HomeKind, whenFull: "reject" | "wait", waitMs = 60_000): Promise<Scene> {
  const home = await kind.open();
  scenes += 1;
  const post = posthorn({ service: `till${scenes}`, database: home.input, migrate: "auto", logger: silentLogger }) as Post<Sql>;
  const handled: number[] = [];
  let open = () => {};
  const opened = new Promise<void>((resolve) => {
    open = resolve;
  });
  const backlogLimit = { messages: limit, whenFull, waitMs };
  post.queue("narrow", { ...policy, backlogLimit }).handle(Fill, async ({ n }) => {
    handled.push(n);
    await opened;
  });
  post.queue("relay", { ...policy, concurrency: 5 }).handle(Relay, ({ n }, { send }) => {
    send(Fill, { n });
  });
  closing.push(async () => {
    open();
    await post.stop();
    await home.close();
  });
  await post.start();
  await post.send(Fill, { n: 0 });
  await eventually(async () => handled.length === 1);
  return { post, home, open, handled };
}

/** Sends until the queue is full: how many were let in. */
async function sendUntilFull({ post }: Scene): Promise<{ readonly sent: number; readonly error: BacklogFullError }> {
  for (let sent = 0; ; sent += 1) {
    try {
      await post.send(Fill, { n: sent + 1 });
    } catch (error) {
      if (error instanceof BacklogFullError) return { sent, error };
      throw error;
    }
  }
}

describe.each(homes)("on $name", (kind) => {
  test("send rejects when the backlog is at the limit, says when to come back, and lets in again what there is room for", async () => {
    const scene = await openScene(kind, "reject");
    const { sent, error } = await sendUntilFull(scene);
    expect(sent).toBe(limit);
    expect(error).toMatchObject({ code: "PH_BACKLOG_FULL", retryable: true });
    expect(error.facts).toMatchObject({ queue: "narrow", backlog: limit, limit });
    expect(error.facts.retryAfterMs).toBeGreaterThanOrEqual(100);
    expect(error.facts.retryAfterMs).toBeLessThanOrEqual(60_000);
    const many = scene.post.sendMany(Fill, [{ n: 100 }, { n: 101 }]);
    await expect(many).rejects.toBeInstanceOf(BacklogFullError);
    await expect(scene.post.transaction(async ({ send }) => void send(Fill, { n: 102 }))).rejects.toMatchObject({
      code: "PH_BACKLOG_FULL",
    });
    scene.open();
    await eventually(async () => {
      await scene.post.send(Fill, { n: 7 });
      return true;
    });
    await scene.post.untilIdle();
    expect(scene.handled.sort((a, b) => a - b)).toEqual([0, 1, 2, 3, 4, 5, 7]);
  });

  test("send waits for room where the policy says so, and rejects after the time that the policy allows", async () => {
    const scene = await openScene(kind, "wait", 300);
    const { sent } = await sendUntilFull(scene);
    expect(sent).toBe(limit);
    scene.open();
    await scene.post.send(Fill, { n: 6 });
    await scene.post.untilIdle();
    expect(scene.handled).toHaveLength(limit + 2);
  });
});
