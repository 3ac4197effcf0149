/** Queues with a backlogLimit, as producers meet them, on every kind of database. */
import { setTimeout as pause } from "node:timers/promises";
import { BacklogFullError, command, type Post, posthorn, retry, type SendOptions, type Sql } from "posthorn";
import { describe, expect, onTestFinished, test } from "vitest";
import { z } from "zod";
import { silentLogger } from "../../src/core/logger.js";
import { eventually } from "../support/eventually.js";
import { type Home, type HomeKind, homes } from "./homes.js";

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
  visibilityTimeoutMs: 600_000,
  deadLetter: { keepMs: 60_000 },
  alerts: { oldestAgeMs: 3_600_000, backlog: 1_000_000, deadLetters: 1_000, noWorkerMs: 3_600_000 },
  concurrency: 1,
} as const;

let scenes = 0;

/** Closed with its test: an embedded database that works on beside the next one would slow it down. One message is held by its handler, so that what comes next waits. */
async function openScene(kind: HomeKind, whenFull: "reject" | "wait", waitMs = 60_000): Promise<Scene> {
  const home = await kind.open();
  scenes += 1;
  const post = posthorn({
    service: `till${scenes}`,
    database: home.input,
    migrate: "auto",
    logger: silentLogger,
  }) as Post<Sql>;
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
  onTestFinished(async () => {
    open();
    await post.stop();
    await home.close();
  });
  await post.start();
  await post.send(Fill, { n: 0 });
  await eventually(async () => handled.length === 1);
  return { post, home, open, handled };
}

/** Sends until the queue is full, by the table: how many were let in. A refusal before that comes from a figure that errs on the fuller side. */
async function sendUntilFull(
  { post }: Scene,
  optionsOf: (n: number) => SendOptions | undefined = () => undefined,
): Promise<{ readonly sent: number; readonly error: BacklogFullError }> {
  for (let sent = 0; ; ) {
    try {
      if (sent > 10 * limit) throw new Error("the queue never said that it is full");
      await post.send(Fill, { n: sent + 1 }, optionsOf(sent));
      sent += 1;
    } catch (error) {
      if (!(error instanceof BacklogFullError)) throw error;
      if ((await waiting(post)) >= limit) return { sent, error };
    }
  }
}

async function waiting(post: Post<Sql>): Promise<number> {
  return (await post.backlog()).find(({ name }) => name === "narrow")?.backlog ?? 0;
}

const some = homes.filter(({ name }) => ["a server by URL", "a pool of 1", "PGlite in memory"].includes(name));

// The embedded database is made anew for each test, which takes a while on a busy machine.
describe.each(some)("on $name", (kind) => {
  test("send with a key of dedupe is held to the limit as well", async () => {
    const scene = await openScene(kind, "reject");
    const { error } = await sendUntilFull(scene, (n) => ({
      dedupe: { key: `key ${n}`, mode: "drop", windowMs: 30 * 86_400_000 },
    }));
    expect(error).toMatchObject({ code: "PH_BACKLOG_FULL" });
  });

  test("send rejects when the backlog is at the limit, says when to come back, and lets in again when there is room", async () => {
    const scene = await openScene(kind, "reject");
    const { post } = scene;
    const { sent, error } = await sendUntilFull(scene);
    expect(sent).toBe(limit);
    expect(error).toMatchObject({ code: "PH_BACKLOG_FULL", retryable: true });
    expect(error.facts).toMatchObject({ queue: "narrow", backlog: limit, limit });
    expect(error.facts.retryAfterMs).toBeGreaterThanOrEqual(100);
    expect(error.facts.retryAfterMs).toBeLessThanOrEqual(60_000);
    await expect(post.sendMany(Fill, [{ n: 100 }, { n: 101 }])).rejects.toBeInstanceOf(BacklogFullError);
    expect(await waiting(post)).toBe(limit);
    scene.open();
    await eventually(async () => {
      await post.send(Fill, { n: 7 });
      return true;
    });
    await post.untilIdle();
    expect(scene.handled.sort((a, b) => a - b)).toEqual([0, 1, 2, 3, 4, 5, 7]);
  });

  test("send waits for room where the policy says so, and rejects when the time is over that the policy allows", async () => {
    const scene = await openScene(kind, "wait", 300);
    const { sent } = await sendUntilFull(scene);
    expect(sent).toBe(limit);
    const waits = scene.post.send(Fill, { n: 6 }).catch((error: unknown) => error);
    expect(await waits).toBeInstanceOf(BacklogFullError);
    scene.open();
    await eventually(async () => (await waiting(scene.post)) === 0);
    await eventually(async () => {
      await scene.post.send(Fill, { n: 6 });
      return true;
    });
    await scene.post.untilIdle();
    expect(scene.handled).toHaveLength(limit + 2);
  });

  test("what waits for room is sent when there is some", async () => {
    const scene = await openScene(kind, "wait", 60_000);
    for (let n = 1; n <= limit; n += 1) await scene.post.send(Fill, { n });
    expect(await waiting(scene.post)).toBe(limit);
    const sent = scene.post.send(Fill, { n: 6 }).then(
      () => "is sent",
      (error: unknown) => error,
    );
    expect(await Promise.race([sent, pause(300, "waits")])).toBe("waits");
    scene.open();
    expect(await sent).toBe("is sent");
    await eventually(() => expect(scene.handled).toHaveLength(limit + 2));
  });

  test("in a transaction a full queue rejects also where send waits, and all of it is rolled back", async () => {
    const scene = await openScene(kind, "wait", 3_600_000);
    const { post, home } = scene;
    while ((await waiting(post)) < limit)
      await post.transaction(async ({ send }) => void send(Fill, { n: 1 })).catch(isFull);
    const before = await waiting(post);
    await expect(post.transaction(async ({ send }) => void send(Fill, { n: 2 }))).rejects.toBeInstanceOf(
      BacklogFullError,
    );
    if (home.transaction !== undefined) {
      const mine = home.transaction((tx) => post.in(tx).send(Fill, { n: 3 }));
      await expect(mine).rejects.toMatchObject({ code: "PH_BACKLOG_FULL", facts: { queue: "narrow", limit } });
    }
    expect(await waiting(post)).toBe(before);
  });

  // On the only connection the question was asked from inside the transaction, refused there, and never answered.
  test("who says everything from inside transactions learns that a queue is full", async () => {
    const scene = await openScene(kind, "reject");
    await sendUntilFull(scene);
    const warned: string[] = [];
    const logger = { ...silentLogger, warn: (message: string) => void warned.push(message) };
    const late = posthorn({ service: "late", database: scene.home.input, logger }) as Post<Sql>;
    await eventually(() =>
      expect(late.transaction(({ tx }) => late.in(tx).send(Fill, { n: 9 }))).rejects.toBeInstanceOf(BacklogFullError),
    );
    expect(warned).toEqual([]);
    await late.stop();
  });

  test("a handler is refused at the call, and what it said before is never lost at its settlement", async () => {
    const scene = await openScene(kind, "reject");
    const { post } = scene;
    for (let n = 1; n <= 3 * limit; n += 1) await post.send(Relay, { n });
    const settled = async () => {
      const relay = (await post.backlog()).find(({ name }) => name === "relay");
      return relay !== undefined && relay.running === 0 && relay.backlog === relay.retrying
        ? relay.retrying
        : undefined;
    };
    await eventually(async () => (await settled()) !== undefined);
    // Each command that was relayed is there once; each that was refused is tried again.
    expect((await waiting(post)) + ((await settled()) ?? 0)).toBe(3 * limit);
    // What erred on the fuller side may leave a little room.
    await sendUntilFull(scene);
  });
});

function isFull(error: unknown): void {
  if (!(error instanceof BacklogFullError)) throw error;
}
