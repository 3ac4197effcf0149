/** Order per key together with times, expiry and what is refused there, from end to end on a real server. */
import { afterAll, beforeAll, expect, test } from "vitest";
import { silentLogger } from "../../src/core/logger.js";
import { command, type Policy, type Post, posthorn, retry, type Sql, type } from "../../src/index.js";
import { eventually } from "../support/eventually.js";
import { createDatabase } from "../support/server.js";

interface Step {
  readonly key: string;
  readonly n: number;
}

const soon = { withinMs: 60_000 };
const policy = {
  retry: retry.none,
  idempotency: "handler",
  ordering: { per: "key", whenDead: "park" },
  visibilityTimeoutMs: 60_000,
  deadLetter: { keepMs: 3_600_000 },
  alerts: { oldestAgeMs: 60_000, backlog: 100_000, deadLetters: 100_000, noWorkerMs: 60_000 },
} as const satisfies Policy;

let database: Awaited<ReturnType<typeof createDatabase>>;
beforeAll(async () => {
  database = await createDatabase();
});
afterAll(() => database.drop());

const modes = ["handler", "transaction", "at-most-once"] as const;
const stepOf = <const Q extends string>(queue: Q) =>
  command(`Do${queue}`, { queue, schema: type<Step>(), key: ({ key }: Step) => key });

/** An instance that works on an ordered queue, and what its handler was given. */
async function working(
  idempotency: (typeof modes)[number],
  choices: Partial<Pick<Policy, "retry" | "ordering">>,
  handler: (step: Step) => unknown = () => undefined,
) {
  const queue = `timely${Math.random().toString(36).slice(2)}`;
  const Do = stepOf(queue);
  const post = posthorn({ service: queue, database: database.url, migrate: "auto", logger: silentLogger }) as Post<Sql>;
  const done: number[] = [];
  const handle = async (step: Step) => {
    await handler(step);
    done.push(step.n);
  };
  const chosen = { ...policy, idempotency, ...choices } as Policy;
  post.queue(queue, chosen).handle(Do, handle);
  await post.start();
  const does = (expected: readonly number[]) => eventually(() => expect(done).toEqual(expected), soon);
  return { post, Do, done, does };
}

/** For all that waits for a time. */
const hourPasses = (post: Post<Sql>) =>
  post.transaction(({ tx }) =>
    tx.query(
      "update posthorn.deferred set due_at = due_at - interval '1 hour', expires_at = expires_at - interval '1 hour' where due_at < 'infinity'",
    ),
  );

test.each(modes)(
  "in %s mode the next messages of a key run when the first has expired before it was claimed",
  async (idempotency) => {
    const { post, Do, done, does } = await working(idempotency, {});
    try {
      const first = await post.transaction(async ({ tx, send }) => {
        const said = await post.in(tx).send(Do, { key: "a", n: 1 }, { expiresInMs: 1 });
        send(Do, { key: "a", n: 2 });
        send(Do, { key: "a", n: 3 });
        await tx.query("select pg_sleep(0.05)");
        return said;
      });
      await does([2, 3]);
      expect(await first.settled(soon)).toMatchObject({ state: "expired" });
      expect(done).toEqual([2, 3]);
    } finally {
      await post.stop();
    }
  },
);

test.each([
  ["handler", "park"],
  ["handler", "skip"],
  ["transaction", "park"],
] as const)(
  "in %s mode, where the dead %s, the next of a key goes on when the first has expired while it waited for a retry",
  async (idempotency, whenDead) => {
    const choices = {
      retry: retry.fixed({ attempts: 3, delayMs: 3_600_000 }),
      ordering: { per: "key", whenDead },
    } as const;
    const { post, Do, done } = await working(idempotency, choices, ({ n }) => {
      if (n === 1) throw new Error("not the first");
    });
    try {
      const first = await post.send(Do, { key: "a", n: 1 }, { expiresInMs: 3_599_000 });
      await eventually(async () => expect(await first.status()).toMatchObject({ state: "retrying" }), soon);
      const [second] = await post.sendMany(
        Do,
        [2, 3].map((n) => ({ key: "a", n })),
      );
      await eventually(async () => expect(await second?.status()).toMatchObject({ state: "parked" }), soon);
      await hourPasses(post);
      // At once, and not when a sweep comes to the key.
      await post.untilIdle();
      expect(done).toEqual([2, 3]);
      expect(await first.status()).toMatchObject({ state: "expired" });
    } finally {
      await post.stop();
    }
  },
);

test("a delayed message does not hold its key, runs after its time in the order of its key, and can be cancelled before", async () => {
  const { post, Do, does } = await working("handler", {});
  try {
    const later = await post.send(Do, { key: "a", n: 1 }, { delayMs: 3_600_000 });
    const never = await post.send(Do, { key: "a", n: 2 }, { delayMs: 3_600_000 });
    expect(await never.cancel()).toBe("cancelled");
    await post.send(Do, { key: "a", n: 3 });
    await does([3]);
    expect(await later.status()).toMatchObject({ state: "scheduled" });
    await hourPasses(post);
    await does([3, 1]);
    expect(await never.status()).toMatchObject({ state: "cancelled" });
    await post.send(Do, { key: "a", n: 4 });
    await does([3, 1, 4]);
  } finally {
    await post.stop();
  }
});

/** It was once the order of the keys of dedupe: ids were drawn as these were locked, and messages without one came first or last. */
test("of one call and of one transaction the messages of a key run as they were said, also those with a key of dedupe", async () => {
  const { post, Do, does } = await working("handler", {});
  try {
    const dedupe = (key: string) => ({ dedupe: { key, mode: "drop", windowMs: 3_600_000 } }) as const;
    const steps = [1, 2, 3].map((n) => ({ key: "a", n }));
    await post.sendMany(Do, steps, {
      dedupe: { key: ({ n }: Step) => `list ${9 - n}`, mode: "drop", windowMs: 3_600_000 },
    });
    const receipts = await post.transaction(async ({ send }) => {
      send(Do, { key: "a", n: 4 });
      const first = send(Do, { key: "a", n: 5 }, dedupe("y"));
      send(Do, { key: "a", n: 6 }, dedupe("x"));
      send(Do, { key: "a", n: 7 });
      return [first, send(Do, { key: "a", n: 8 }, dedupe("y"))];
    });
    await does([1, 2, 3, 4, 5, 6, 7]);
    // Of the two with the same key one was written, and its id is that of both.
    expect(receipts[1]?.id).toBe(receipts[0]?.id);
    expect((await post.send(Do, { key: "a", n: 9 }, dedupe("y"))).id).toBe(receipts[0]?.id);
  } finally {
    await post.stop();
  }
});

test("a priority, and dedupe that changes what waits, are refused by name for an ordered queue, in every way to say something", async () => {
  const { post, Do, done } = await working("handler", {});
  try {
    const payload = { key: "a", n: 1 };
    const refused = [
      { priority: 1 },
      { priority: -1 },
      { dedupe: { key: "a", mode: "throttle", windowMs: 60_000 } },
      { dedupe: { key: "a", mode: "debounce", windowMs: 60_000 } },
      { dedupe: { key: "a", mode: "replace" } },
      { dedupe: { key: "a", mode: "once-more" } },
    ] as const;
    for (const options of refused) {
      for (const call of [
        () => post.send(Do, payload, options),
        () => post.sendMany(Do, [payload, payload], options),
        () => post.transaction(async ({ send }) => send(Do, payload, options)),
        () => post.transaction(async ({ tx }) => post.in(tx).send(Do, payload, options)),
      ]) {
        await expect(call()).rejects.toMatchObject({
          code: "PH_OPTION_INVALID",
          message: expect.stringMatching(
            /^the queue "timely\w+" keeps the order of each key and takes no (priority|dedupe)/i,
          ),
        });
      }
    }
    await post.untilIdle();
    expect(done).toEqual([]);
  } finally {
    await post.stop();
  }
});
