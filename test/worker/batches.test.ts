/**
 * Handlers of many, from end to end: what becomes of each message. On a real server, and on the embedded database, where one connection serves
 * everybody. Messages are said before the worker starts, so that what a batch holds does not depend on time; `maxWaitMs: 0` takes what is there.
 */
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { silentLogger } from "../../src/core/logger.js";
import { command, event, type Logger, posthorn, type } from "../../src/index.js";
import { schemaOf } from "../producer/stage.js";
import { openSession } from "../sql/engine.js";
import { createDatabase } from "../support/server.js";
import { homes, type Item, inside, numbers, once, openEffects, openOn, outside, sorted, upTo } from "./batching.js";

describe.each(homes)("on $name", ({ make }) => {
  let home: Awaited<ReturnType<typeof make>>;
  beforeAll(async () => {
    home = await make();
  });
  afterAll(async () => {
    await home.close();
  });

  const open = (logger?: Logger) => openOn(home.input, logger);
  const effects = (name: string) => openEffects(home.input, name);

  test("messages that are there go to the handler in batches of the size that it takes, each message once", async () => {
    const post = open();
    const Index = command("IndexItem", { queue: "index", schema: type<Item>() });
    const batches: number[][] = [];
    post.queue("index", outside).handleMany(Index, { size: 10, maxWaitMs: 0 }, (items) => {
      batches.push(numbers(items));
    });
    try {
      await post.sendMany(Index, upTo(25));
      await post.start();
      await post.untilIdle();
      expect(sorted(batches.map(({ length }) => length))).toEqual([5, 10, 10]);
      expect(sorted(batches.flat())).toEqual(upTo(25).map(({ n }) => n));
      expect(await post.backlog()).toEqual(
        expect.arrayContaining([expect.objectContaining({ name: "index", backlog: 0, running: 0 })]),
      );
    } finally {
      await post.stop();
    }
  });

  test("a message of which the handler says that it failed is tried again by itself, and the others of its batch have succeeded", async () => {
    const post = open();
    const Push = command("PushItem", { queue: "push", schema: type<Item>() });
    const seen: { readonly numbers: number[]; readonly attempts: number[] }[] = [];
    post.queue("push", outside).handleMany(Push, { size: 10, maxWaitMs: 0 }, (items) => {
      seen.push({ numbers: numbers(items), attempts: items.map(({ attempt }) => attempt) });
      for (const { payload, attempt, fail } of items) {
        if (payload.n === 3 && attempt === 1) fail(new Error("no such device"));
      }
    });
    try {
      const receipts = await post.sendMany(Push, upTo(5));
      await post.start();
      await post.untilIdle();
      expect(seen).toEqual([
        { numbers: [1, 2, 3, 4, 5], attempts: [1, 1, 1, 1, 1] },
        { numbers: [3], attempts: [2] },
      ]);
      for (const [i, receipt] of receipts.entries()) {
        const [status] = await post.statusOf(receipt.id);
        expect(status).toMatchObject({ state: "succeeded", delivery: i === 2 ? 2 : 1 });
      }
    } finally {
      await post.stop();
    }
  });

  test("a handler that throws fails all of its batch; each is tried again alone, so that only the poisonous one dies", async () => {
    const lines: string[] = [];
    const keep = (message: string) => void lines.push(message);
    const post = open({ info: () => undefined, warn: keep, error: keep });
    const Call = command("CallItem", { queue: "call", schema: type<Item>() });
    const batches: number[][] = [];
    post.queue("call", outside).handleMany(Call, { size: 10, maxWaitMs: 0 }, (items) => {
      batches.push(numbers(items));
      if (items.some(({ payload }) => payload.n === 2)) throw new Error("poison");
    });
    try {
      const receipts = await post.sendMany(Call, upTo(4));
      await post.start();
      await post.untilIdle();
      expect(batches[0]).toEqual([1, 2, 3, 4]);
      expect(batches.slice(1).every(({ length }) => length === 1)).toBe(true);
      expect(sorted(batches.slice(1).flat())).toEqual([1, 2, 2, 3, 4]);
      const states = await Promise.all(receipts.map(async ({ id }) => (await post.statusOf(id))[0]));
      expect(states.map((status) => status?.state)).toEqual(["succeeded", "dead", "succeeded", "succeeded"]);
      expect(states[1]).toMatchObject({ attempts: 3, history: [{}, {}, { error: { message: "poison" } }] });
      // Four messages failed together: that is told once.
      expect(lines.filter((line) => line.includes("a batch of 4"))).toHaveLength(1);
      expect(lines.filter((line) => line.startsWith("CallItem in") && line.includes("is tried again"))).toHaveLength(1);
      expect(lines.filter((line) => line.includes("is a dead letter now"))).toHaveLength(1);
    } finally {
      await post.stop();
    }
  });

  test("in transaction mode a poisonous message burns its own attempts only: the effects of its neighbours are there once, at their first attempt", async () => {
    const { post, write, written } = await effects("poison");
    const Sum = command("SumItem", { queue: "sums", schema: type<Item>() });
    const attempts = new Map<number, number>();
    post.queue("sums", inside).handleMany(Sum, { size: 16, maxWaitMs: 0 }, async (items, { tx }) => {
      await write(tx, items);
      for (const { payload, attempt } of items) attempts.set(payload.n, attempt);
      if (items.some(({ payload }) => payload.n === 5)) throw new Error("poison");
    });
    try {
      const receipts = await post.sendMany(Sum, upTo(16));
      await post.start();
      await post.untilIdle();
      expect(await written()).toEqual(upTo(16).flatMap(({ n }) => (n === 5 ? [] : [n])));
      expect([...attempts].filter(([n, attempt]) => n !== 5 && attempt !== 1)).toEqual([]);
      for (const [i, receipt] of receipts.entries()) {
        const [status] = await post.statusOf(receipt.id);
        expect(status).toMatchObject(i === 4 ? { state: "dead", attempts: 3 } : { state: "succeeded", delivery: 1 });
      }
    } finally {
      await post.stop();
    }
  });

  test("in transaction mode a batch of which one message is said to have failed is rolled back, and the others run again at once without it", async () => {
    const { post, write, written } = await effects("named");
    const Book = command("BookItem", { queue: "books", schema: type<Item>() });
    const batches: number[][] = [];
    post.queue("books", inside).handleMany(Book, { size: 10, maxWaitMs: 0 }, async (items, { tx }) => {
      batches.push(numbers(items));
      await write(tx, items);
      for (const { payload, attempt, fail } of items) if (payload.n === 2 && attempt < 3) fail(new Error("locked"));
    });
    try {
      await post.sendMany(Book, upTo(4));
      await post.start();
      await post.untilIdle();
      expect(batches).toEqual([[1, 2, 3, 4], [1, 3, 4], [2], [2]]);
      expect(await written()).toEqual([1, 2, 3, 4]);
    } finally {
      await post.stop();
    }
  });

  test.each(["handler", "transaction"] as const)(
    "in %s mode a message that does not fit its schema is invalid by itself, and the handler gets the others",
    async (idempotency) => {
      const post = open();
      const bad = new Set<number>();
      const Check = command(`CheckItem${idempotency}`, {
        queue: `checks-${idempotency}`,
        schema: schemaOf<Item>((value) =>
          bad.has((value as Item).n) ? { issues: [{ message: "has gone bad", path: ["n"] }] } : { value },
        ),
      });
      const batches: number[][] = [];
      post
        .queue(`checks-${idempotency}`, { ...outside, idempotency })
        .handleMany(Check, { size: 10, maxWaitMs: 0 }, (items) => {
          batches.push(numbers(items));
        });
      try {
        const receipts = await post.sendMany(Check, upTo(4));
        bad.add(2);
        await post.start();
        await post.untilIdle();
        expect(batches).toEqual([[1, 3, 4]]);
        const states = await Promise.all(receipts.map(async ({ id }) => (await post.statusOf(id))[0]?.state));
        expect(states).toEqual(["succeeded", "invalid", "succeeded", "succeeded"]);
      } finally {
        await post.stop();
      }
    },
  );

  test.each(["handler", "transaction"] as const)(
    "in %s mode what a handler says goes out once with its batch, and nothing of it where all messages failed",
    async (idempotency) => {
      const post = open();
      const Say = command(`SayItem${idempotency}`, { queue: `say-${idempotency}`, schema: type<Item>() });
      const Next = command(`TakeNext${idempotency}`, { queue: `next-${idempotency}`, schema: type<Item>() });
      const Said = event(`${idempotency === "handler" ? "Note" : "Row"}Written`, {
        topic: `said-${idempotency}`,
        schema: type<Item>(),
      });
      const said: number[] = [];
      const published: number[] = [];
      post
        .queue(`say-${idempotency}`, { ...outside, idempotency })
        .handleMany(Say, { size: 10, maxWaitMs: 0 }, (items, { send, publish }) => {
          for (const { payload } of items) send(Next, payload);
          publish(Said, { n: items.length });
          for (const { payload, attempt, fail } of items) {
            if (attempt === 1 && payload.n > 10) fail(new Error("all of them"));
          }
        });
      post.queue(`next-${idempotency}`, outside).handle(Next, ({ n }) => void said.push(n));
      post
        .subscription(`said-${idempotency}`, { topic: `said-${idempotency}`, ...outside })
        .on(Said, ({ n }) => void published.push(n));
      try {
        await post.start();
        await post.sendMany(Say, upTo(4));
        await post.untilIdle();
        expect(sorted(said)).toEqual([1, 2, 3, 4]);
        expect(published.reduce((sum, n) => sum + n, 0)).toBe(4);
        await post.send(Say, { n: 11 });
        await post.untilIdle();
        expect(sorted(said)).toEqual([1, 2, 3, 4, 11]);
      } finally {
        await post.stop();
      }
    },
  );

  test("at most once, a batch that throws makes dead letters of all its messages, and a message that is said to have failed is the only one", async () => {
    const post = open();
    const Ring = command("RingItem", { queue: "ring", schema: type<Item>() });
    let runs = 0;
    post.queue("ring", once).handleMany(Ring, { size: 3, maxWaitMs: 0 }, (items) => {
      runs += items.length;
      for (const { payload, fail } of items) {
        if (payload.n === 2) fail(new Error("no answer"));
        if (payload.n === 5) throw new Error("nobody there");
      }
    });
    try {
      const receipts = await post.sendMany(Ring, upTo(6));
      await post.start();
      await post.untilIdle();
      const states = await Promise.all(receipts.map(async ({ id }) => (await post.statusOf(id))[0]?.state));
      expect(states).toEqual(["succeeded", "dead", "succeeded", "dead", "dead", "dead"]);
      expect(runs).toBe(6);
    } finally {
      await post.stop();
    }
  });

  test("a subscription takes many of one event and one of another at a time, each with its message around it", async () => {
    const post = open();
    const Sold = event("ItemWasSold", { topic: "shelf", schema: type<Item>(), key: ({ n }) => `item-${n}` });
    const Moved = event("ItemWasMoved", { topic: "shelf", schema: type<Item>() });
    const sold: string[] = [];
    const keys = new Map<string, string>();
    let moved = 0;
    post
      .subscription("shelves", { topic: "shelf", ...outside })
      .onMany(Sold, { size: 5, maxWaitMs: 0 }, (items, context) => {
        expect("tx" in context).toBe(false);
        for (const { message, idempotencyKey } of items) {
          sold.push(`${message.name} ${message.key} ${message.headers.from}`);
          keys.set(idempotencyKey(), message.id);
        }
      })
      .on(Moved, ({ n }, { idempotencyKey, message }) => {
        moved += n;
        keys.set(idempotencyKey(), message.id);
      });
    try {
      await post.start();
      await post.publishMany(Sold, upTo(7), { headers: { from: "till" } });
      await post.publish(Moved, { n: 20 });
      await post.untilIdle();
      expect(sold.sort()).toEqual(upTo(7).map(({ n }) => `ItemWasSold item-${n} till`));
      expect(moved).toBe(20);
      expect(keys.size).toBe(8);
    } finally {
      await post.stop();
    }
  });

  test("a batch that takes longer than the visibility timeout has failed, and in transaction mode its messages run again in smaller ones", async () => {
    const { post, write, written } = await effects("late");
    const Late = command("LateItem", { queue: "late", schema: type<Item>() });
    const sizes: number[] = [];
    post
      .queue("late", { ...inside, visibilityTimeoutMs: 300 })
      .handleMany(Late, { size: 4, maxWaitMs: 0 }, async (items, { tx, signal }) => {
        sizes.push(items.length);
        await write(tx, items);
        // Too much for one run; nothing but the signal ends it.
        if (items.length > 1) await new Promise((resolve) => signal.addEventListener("abort", resolve));
      });
    try {
      const receipts = await post.sendMany(Late, upTo(4));
      await post.start();
      await post.untilIdle();
      expect(await written()).toEqual([1, 2, 3, 4]);
      expect(sizes.slice(0, 2)).toEqual([4, 2]);
      for (const { id } of receipts) expect(await post.statusOf(id)).toMatchObject([{ state: "succeeded" }]);
    } finally {
      await post.stop();
    }
  });
});

test("in transaction mode a message that somebody else has ended is left to them, and the others of its batch run again without it", async () => {
  const { url, drop } = await createDatabase();
  const admin = await openSession(url);
  const post = posthorn({ service: "fenced", database: url, migrate: "auto", logger: silentLogger });
  try {
    const Mark = command("MarkItem", { queue: "marks", schema: type<Item>() });
    await admin.rows("create table mark (n int not null)");
    const batches: number[][] = [];
    post.queue("marks", inside).handleMany(Mark, { size: 10, maxWaitMs: 0 }, async (items, { tx, send }) => {
      batches.push(numbers(items));
      await tx.query("insert into mark select unnest($1::int[])", [numbers(items)]);
      if (items.some(({ payload }) => payload.n === 9)) return;
      send(Mark, { n: 9 });
      if (batches.length > 1) return;
      await admin.rows(
        "select posthorn.end_of(1::smallint, s.id, m.id, 1, 'crashed', null, null) from posthorn.message_1 m, posthorn.subscription s where m.payload ->> 'n' = '2'",
      );
    });
    const receipts = await post.sendMany(Mark, upTo(3));
    await post.start();
    await post.untilIdle();
    expect(batches).toEqual([[1, 2, 3], [1, 3], [9]]);
    expect(await admin.rows("select n from mark order by n")).toEqual([{ n: 1 }, { n: 3 }, { n: 9 }]);
    const states = await Promise.all(receipts.map(async ({ id }) => (await post.statusOf(id))[0]?.state));
    expect([states[0], states[2]]).toEqual(["succeeded", "succeeded"]);
  } finally {
    await post.stop();
    await admin.close();
    await drop();
  }
});

test("in transaction mode a batch whose connection is lost runs again, and no attempt is burnt", async () => {
  const { url, drop } = await createDatabase();
  const admin = await openSession(url);
  const post = posthorn({ service: "cut", database: url, migrate: "auto", logger: silentLogger });
  try {
    const Cut = command("CutItem", { queue: "cuts", schema: type<Item>() });
    await admin.rows("create table cut (n int not null)");
    const attempts: number[] = [];
    let calls = 0;
    post.queue("cuts", inside).handleMany(Cut, { size: 10, maxWaitMs: 0 }, async (items, { tx }) => {
      calls += 1;
      attempts.push(...items.map(({ attempt }) => attempt));
      await tx.query("insert into cut select unnest($1::int[])", [numbers(items)]);
      if (calls === 1) await tx.query("select pg_terminate_backend(pg_backend_pid())");
    });
    await post.sendMany(Cut, upTo(4));
    await post.start();
    await post.untilIdle();
    expect(await admin.rows("select n from cut order by n")).toEqual(upTo(4).map(({ n }) => ({ n })));
    expect(new Set(attempts)).toEqual(new Set([1]));
  } finally {
    await post.stop();
    await admin.close();
    await drop();
  }
});
