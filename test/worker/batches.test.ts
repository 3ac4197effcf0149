/**
 * Handlers of many, from end to end: on a real server, and on the embedded database, where one connection serves everybody. Messages are said before
 * the worker starts, so that what a batch holds does not depend on time; `maxWaitMs: 0` takes what is there.
 */
import { PGlite } from "@electric-sql/pglite";
import type { DatabaseInput } from "posthorn";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { silentLogger } from "../../src/core/logger.js";
import {
  type Batched,
  command,
  event,
  type Logger,
  type NoRetry,
  type Policy,
  posthorn,
  type Retry,
  retry,
  type Sql,
  type,
} from "../../src/index.js";
import { schemaOf } from "../producer/stage.js";
import { eventually } from "../support/eventually.js";
import { createDatabase } from "../support/server.js";

interface Item {
  readonly n: number;
}
type Items = readonly Batched<Item>[];

const common = {
  ordering: "none",
  visibilityTimeoutMs: 20_000,
  deadLetter: { keepMs: 3_600_000 },
  alerts: { oldestAgeMs: 3_600_000, backlog: 100_000, deadLetters: 100_000, noWorkerMs: 3_600_000 },
} as const;
const outside = { ...common, idempotency: "handler", retry: retry.fixed({ attempts: 3, delayMs: 1 }) } as const;
const inside = { ...outside, idempotency: "transaction" } as const;
const once = { ...common, idempotency: "at-most-once", retry: retry.none } as const;

const upTo = (count: number): Item[] => Array.from({ length: count }, (_, i) => ({ n: i + 1 }));
const numbers = (items: Items): number[] => items.map(({ payload }) => payload.n);
const sorted = (list: Iterable<number>): number[] => [...list].sort((a, b) => a - b);

/** Settles when it is opened. */
function gate(): { readonly passed: Promise<void>; open(): void } {
  let open: () => void = () => undefined;
  const passed = new Promise<void>((resolve) => {
    open = resolve;
  });
  return { passed, open: () => open() };
}

const homes = [
  {
    name: "a server",
    make: async () => {
      const { url, drop } = await createDatabase();
      return { input: url as DatabaseInput, close: drop };
    },
  },
  {
    name: "the embedded database",
    make: async () => {
      const pglite = await PGlite.create();
      return { input: pglite as DatabaseInput, close: () => pglite.close() };
    },
  },
];

describe.each(homes)("on $name", ({ make }) => {
  let home: Awaited<ReturnType<typeof make>>;
  beforeAll(async () => {
    home = await make();
  });
  afterAll(async () => {
    await home.close();
  });

  let opened = 0;
  function open(logger: Logger = silentLogger) {
    opened += 1;
    return posthorn({ service: `batches-${opened}`, database: home.input, migrate: "auto", logger });
  }

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
      expect(batches.map(({ length }) => length)).toEqual([10, 10, 5]);
      expect(sorted(batches.flat())).toEqual(upTo(25).map(({ n }) => n));
    } finally {
      await post.stop();
    }
  }, 60_000);
});
