import { event, type Post, posthorn, type Sql, type } from "posthorn";
import { beforeAll, describe, expect, onTestFinished, test } from "vitest";
import { silentLogger } from "../../src/core/logger.js";
import { decisions } from "../producer/stage.js";
import { createDatabase, type TestDatabase } from "../support/server.js";

interface Step {
  readonly key: string;
  readonly n: number;
}
const Stepped = event("Stepped", { topic: "steps", schema: type<Step>(), key: ({ key }) => key });

let database: TestDatabase;
beforeAll(async () => {
  database = await createDatabase();
  return () => database.drop();
});

function open(service: string): Post<Sql> {
  const post = posthorn({ service, database: database.url, migrate: "auto", logger: silentLogger });
  onTestFinished(() => post.stop());
  return post;
}

async function rows(post: Post<Sql>, sql: string): Promise<Record<string, unknown>[]> {
  return post.transaction(async ({ tx }) => (await tx.query(sql)).rows as Record<string, unknown>[]);
}

describe("a topic that is declared with lanes", () => {
  test("keeps the order of each key, spreads its keys over the lanes, and finds the lane of a key however it is published", async () => {
    const post = open("steps");
    post.topic("steps", { lanes: 4, keepMs: 3_600_000 });
    const seen = new Map<string, number[]>();
    post
      .subscription("walker", {
        topic: "steps",
        ...decisions,
        idempotency: "handler",
        ordering: { per: "key", whenDead: "park" },
        concurrency: 20,
      })
      .on(Stepped, async ({ key, n }, { attempt }) => {
        if (n === 3 && attempt === 1) throw new Error("it stumbles once");
        seen.set(key, [...(seen.get(key) ?? []), n]);
      });
    await post.start();
    const keys = Array.from({ length: 24 }, (_, i) => `k${i}`);
    const all = (n: number) => keys.map((key) => ({ key, n }));
    await post.publishMany(Stepped, all(1));
    for (const step of all(2)) await post.publish(Stepped, step);
    await post.transaction(async ({ publish }) => {
      for (const step of all(3)) publish(Stepped, step);
    });
    await rows(
      post,
      `select posthorn.publish('Stepped', json_build_object('key', k, 'n', 4), key => k) from unnest('{${keys.join(",")}}'::text[]) k`,
    );
    await post.untilIdle();
    for (const key of keys) expect(seen.get(key), key).toEqual([1, 2, 3, 4]);
    const lanes = await rows(
      post,
      "select count(distinct lane)::int as lanes, max(per_key)::int as most, max(lane)::int as highest from (select lane, key, count(lane) over (partition by key) as said, (select count(distinct o.lane) from posthorn.message_1 o where o.key = m.key) as per_key from posthorn.message_1 m) m",
    );
    expect(lanes).toEqual([{ lanes: 4, most: 1, highest: 3 }]);
    expect(await rows(post, "select lanes, keep_ms from posthorn.channel where name = 'steps'")).toEqual([
      { lanes: 4, keep_ms: 3_600_000 },
    ]);
  });

  test("has them for good: another number is refused with both parties named, also by who only publishes", async () => {
    const other = open("other");
    other.topic("steps", { lanes: 5 });
    other.subscription("runner", { topic: "steps", ...decisions, idempotency: "handler" }).on(Stepped, () => undefined);
    const refusal = {
      code: "PH_CONTRACT_CONFLICT",
      message: expect.stringMatching(
        /^The topic "steps" has 4 lanes since it was made, and service "other" declares 5\./,
      ),
    };
    await expect(other.start()).rejects.toMatchObject(refusal);
    const Walked = event("Walked", { topic: "steps", schema: type<Step>() });
    await expect(other.publish(Walked, { key: "k", n: 1 })).rejects.toMatchObject(refusal);
  });

  test("one that is published to before it is declared lies in one lane", async () => {
    const early = open("early");
    const Early = event("EarlyHappened", { topic: "early", schema: type<Step>(), key: ({ key }) => key });
    await early.publish(Early, { key: "k", n: 1 });
    const late = open("late");
    late.topic("early", { lanes: 2 });
    late.subscription("late", { topic: "early", ...decisions, idempotency: "handler" }).on(Early, () => undefined);
    await expect(late.start()).rejects.toMatchObject({
      message: expect.stringMatching(/has one lane since it was made/),
    });
  });

  test("of two times the newest start wins, and who says none leaves what others said", async () => {
    for (const [service, options, kept] of [
      ["first", { keepMs: 60_000 }, 60_000],
      ["second", { keepMs: 120_000 }, 120_000],
      ["third", { lanes: 1 }, 120_000],
    ] as const) {
      const post = open(service);
      post.topic("kept", options);
      await post.publish(event(`Kept${service}Happened`, { topic: "kept", schema: type<Step>() }), { key: "k", n: 1 });
      expect(await rows(post, "select keep_ms from posthorn.channel where name = 'kept'")).toEqual([{ keep_ms: kept }]);
    }
  });
});

test("topic() refuses what it cannot keep by name", () => {
  const post = open("refused");
  post.topic("one", {});
  for (const [call, code, message] of [
    [() => post.topic("one", {}), "PH_DECLARED_TWICE", /topic is called "one" already/],
    [
      () => post.topic("two", { lanes: 0 }),
      "PH_OPTION_INVALID",
      /lanes must be an integer from 1 to 1024, got the number 0/,
    ],
    [() => post.topic("two", { keepMs: 1 }), "PH_OPTION_INVALID", /keepMs must be an integer from 60000/],
  ] as const) {
    expect(call).toThrowError(message);
    try {
      call();
    } catch (error) {
      expect(error).toMatchObject({ code });
    }
  }
});

test("retention is refused out of its range, and told to the fleet by who says it", async () => {
  const options = { database: database.url, migrate: "auto", logger: silentLogger } as const;
  expect(() => posthorn({ ...options, service: "a", retention: { keepMs: 59_999 } })).toThrowError(
    /keepMs must be an integer from 60000/,
  );
  expect(() => posthorn({ ...options, service: "a", retention: { maxBytes: 1 } })).toThrowError(
    /maxBytes must be an integer from 67108864/,
  );
  const said = async (service: string, retention?: { readonly keepMs: number }) => {
    const post = posthorn({ ...options, service, ...(retention === undefined ? {} : { retention }) });
    onTestFinished(() => post.stop());
    await post.start();
    return rows(post, "select keep_ms, max_bytes::text, declared_by from posthorn.retention");
  };
  const other = await said("loud", { keepMs: 86_400_000 });
  expect(other).toEqual([{ keep_ms: 86_400_000, max_bytes: "10737418240", declared_by: "loud" }]);
  expect(await said("silent")).toEqual(other);
});
