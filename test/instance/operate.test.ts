import { command, event, type Policy, type Post, posthorn, retry, type Sql, type } from "posthorn";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { silentLogger } from "../../src/core/logger.js";
import { eventually } from "../support/eventually.js";
import { createEmbedded } from "../support/pglite.js";
import { createDatabase } from "../support/server.js";

const SendEmail = command("SendEmail", {
  queue: "email",
  schema: type<{ n: number; fail?: boolean }>(),
  key: ({ n }) => `customer-${n}`,
});
const OrderPlaced = event("OrderPlaced", { topic: "orders", schema: type<{ n: number }>() });

const policy = {
  retry: retry.fixed({ attempts: 1, delayMs: 1 }),
  idempotency: "handler",
  ordering: "none",
  visibilityTimeoutMs: 60_000,
  deadLetter: { keepMs: 86_400_000 },
  alerts: { oldestAgeMs: 600_000, backlog: 1_000, deadLetters: 100, noWorkerMs: 600_000 },
} as const satisfies Policy<"handler">;

const homes = [
  {
    name: "a server",
    open: async () => {
      const database = await createDatabase();
      return { url: database.url, close: () => database.drop() };
    },
  },
  {
    name: "the embedded database",
    open: async () => {
      const { url, remove } = await createEmbedded();
      return { url, close: remove };
    },
  },
];

describe.each(homes)("post.operate on $name", (home) => {
  let post: Post<Sql>;
  let close: () => Promise<void>;
  const ran: number[] = [];
  const heard: number[] = [];
  let fixed = false;

  beforeAll(async () => {
    const opened = await home.open();
    close = opened.close;
    post = posthorn({
      service: "operate",
      database: opened.url,
      migrate: "auto",
      logger: silentLogger,
    }) as Post<Sql>;
    post.queue("email", policy).handle(SendEmail, async ({ n, fail }) => {
      if (fail && !fixed) throw new Error(`no mailbox ${n}`);
      ran.push(n);
    });
    // Said before there is any reader.
    await post.publishMany(OrderPlaced, [{ n: 1 }, { n: 2 }]);
    post.subscription("whole", { topic: "orders", startFrom: "oldest", ...policy }).on(OrderPlaced, ({ n }) => {
      heard.push(n);
    });
    post.subscription("fresh", { topic: "orders", ...policy }).on(OrderPlaced, ({ n }) => {
      heard.push(n + 1_000);
    });
    await post.start();
  });
  afterAll(async () => {
    await post.stop({ graceMs: 0 });
    await close();
  });

  const by = "ann";
  /** A claim that begins after a pause takes nothing; one that was under way may take what is said meanwhile. */
  const nothingClaims = () => post.untilIdle();
  const code = async (work: Promise<unknown>): Promise<unknown> =>
    work.then(
      () => "done",
      (error) => error.code,
    );

  test("a subscription that starts with the oldest gets what was said before it, another one does not", async () => {
    expect(await post.operate.drain("whole")).toBe(true);
    expect(await post.operate.drain("fresh")).toBe(true);
    expect(heard.sort()).toEqual([1, 2]);
    expect((await post.operate.subscriptions()).map(({ name, unread }) => [name, unread])).toEqual([
      ["email", 0],
      ["fresh", 0],
      ["whole", 0],
    ]);
  });

  test("while a queue is paused its handlers do not run; what waits is purged after a confirmation alone", async () => {
    await post.operate.pause("email", { by, reason: "the provider is down" });
    await nothingClaims();
    await post.sendMany(SendEmail, [{ n: 1 }, { n: 2 }, { n: 3 }]);
    expect(await post.operate.unsettled("email")).toMatchObject({ waiting: 3, paused: { by } });
    const { messages, more } = await post.operate.waiting("email", { limit: 2, states: ["queued"] });
    expect([messages.map(({ state }) => state), more]).toEqual([["queued", "queued"], true]);
    expect(await post.statusOf(messages[0]?.message ?? "")).toMatchObject([{ state: "queued" }]);
    expect(await code(post.operate.waiting("emails"))).toBe("PH_NAME_UNKNOWN");
    for (const options of [{ limit: 0 }, { limit: 1_001 }, { states: [] }, { states: ["dead"] }, { state: "queued" }])
      await expect(post.operate.waiting("email", options as object)).rejects.toMatchObject({
        name: "ConfigurationError",
      });
    expect(await code(post.operate.drain("email"))).toBe("PH_PAUSED");
    expect(await code(post.operate.purge("email", { by, confirm: "mail" }))).toBe("PH_CONFIRMATION_MISSING");
    const seen: number[] = [];
    const purged = await post.operate.purge("email", {
      by,
      confirm: "email",
      reason: "a mistake",
      onProgress: ({ done }) => seen.push(done),
    });
    expect(purged).toMatchObject({ state: "done", done: 3 });
    expect(seen.at(-1)).toBe(3);
    expect(ran).toEqual([]);
    await post.operate.resume("email", { by });
    await post.send(SendEmail, { n: 4 });
    await eventually(() => ran.includes(4));
    expect(ran).toEqual([4]);
  });

  test("dead letters are redriven, and what was handled is replayed, as often as it is ordered", async () => {
    const receipt = await post.send(SendEmail, { n: 5, fail: true });
    expect((await receipt.settled({ withinMs: 60_000 })).state).toBe("dead");
    fixed = true;
    expect(
      await post.operate.redrive({ list: "dead-letters", subscription: "email", by, perSecond: 50 }),
    ).toMatchObject({ done: 1 });
    await eventually(() => ran.includes(5));
    expect(await post.operate.drain("email")).toBe(true);
    // Nothing has gone yet, so any time is early enough.
    const from = new Date(0);
    // The three that were purged are not replayed.
    expect(await post.operate.replay("email", { by, confirm: "email", from })).toMatchObject({
      done: 2,
      passed: { ended: 3 },
    });
    await eventually(async () => ran.length === 4);
    expect([...ran].sort()).toEqual([4, 4, 5, 5]);
  });

  test("what was said under a key is erased, and its receipt tells it", async () => {
    await post.operate.pause("email", { by });
    await nothingClaims();
    const receipt = await post.send(SendEmail, { n: 77 });
    expect(await post.operate.erase("customer-77", { by, confirm: "customer-77" })).toMatchObject({
      state: "done",
      done: 1,
    });
    expect(await receipt.status()).toMatchObject({ state: "discarded", reason: "erased" });
    await post.operate.resume("email", { by });
    expect(await post.operate.drain("email")).toBe(true);
    expect(ran).not.toContain(77);
  });

  test("names, numbers and options that are not known are refused; a driver that was told to stop leaves what can be continued", async () => {
    expect(await code(post.operate.pause("emial", { by }))).toBe("PH_NAME_UNKNOWN");
    expect(await code(post.operate.continue("999999"))).toBe("PH_OPERATION_UNKNOWN");
    expect(await code(post.operate.continue("x"))).toBe("PH_OPERATION_UNKNOWN");
    expect(await code(post.operate.pause("email", { by, until: 1 } as never))).toBe("PH_OPTION_UNKNOWN");
    expect(await code(post.operate.purge("email", { by } as never))).toBe("PH_OPTION_MISSING");
    expect(await code(post.operate.removeSubscription("whole", { by, confirm: "whole" }))).toBe(
      "PH_SUBSCRIPTION_IN_USE",
    );
    await post.operate.pause("email", { by });
    await nothingClaims();
    await post.sendMany(
      SendEmail,
      Array.from({ length: 20 }, (_, n) => ({ n: n + 100 })),
    );
    const begun = await post.operate.purge("email", { by, confirm: "email", signal: AbortSignal.abort() });
    expect(begun).toMatchObject({ state: "running", done: 0, found: 20 });
    expect((await post.operate.audit({ unfinished: true })).map(({ operation }) => operation)).toEqual([
      begun.operation,
    ]);
    expect(await post.operate.continue(begun.operation)).toMatchObject({ state: "done", done: 20 });
    expect(await post.operate.stop(begun.operation)).toBe(false);
  });

  test("inside a transaction on the only connection it is refused, and does not wait for itself", async () => {
    const inside = await post.transaction(() => code(post.operate.audit()));
    expect(inside).toBe(home.name === "a server" ? "done" : "PH_WOULD_DEADLOCK");
  });
});
