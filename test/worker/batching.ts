/** What the tests of handlers of many share: policies, gates, and the databases that they run on. */
import type { DatabaseInput } from "posthorn";
import { silentLogger } from "../../src/core/logger.js";
import { type Batched, type Logger, posthorn, retry, type Sql } from "../../src/index.js";
import { createPglite } from "../support/pglite.js";
import { createDatabase } from "../support/server.js";

export interface Item {
  readonly n: number;
}
export type Items = readonly Batched<Item>[];

const common = {
  ordering: "none",
  visibilityTimeoutMs: 60_000,
  deadLetter: { keepMs: 3_600_000 },
  alerts: { oldestAgeMs: 3_600_000, backlog: 100_000, deadLetters: 100_000, noWorkerMs: 3_600_000 },
} as const;
export const outside = { ...common, idempotency: "handler", retry: retry.fixed({ attempts: 3, delayMs: 1 }) } as const;
export const inside = { ...outside, idempotency: "transaction" } as const;
export const once = { ...common, idempotency: "at-most-once", retry: retry.none } as const;

export const upTo = (count: number): Item[] => Array.from({ length: count }, (_, i) => ({ n: i + 1 }));
export const numbers = (items: Items): number[] => items.map(({ payload }) => payload.n);
export const sorted = (list: Iterable<number>): number[] => [...list].sort((a, b) => a - b);

/** Settles when it is opened. */
export function gate(): { readonly passed: Promise<void>; open(): void } {
  let open: () => void = () => undefined;
  const passed = new Promise<void>((resolve) => {
    open = resolve;
  });
  return { passed, open: () => open() };
}

export const homes = [
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
      const pglite = await createPglite();
      return { input: pglite as DatabaseInput, close: () => pglite.close() };
    },
  },
];

let opened = 0;

/** An instance of a service of its own. */
export function openOn(input: DatabaseInput, logger: Logger = silentLogger) {
  opened += 1;
  return posthorn({ service: `batches-${opened}`, database: input, migrate: "auto", logger });
}

/** An instance, and a table of effects of the handlers of its only queue. */
export async function openEffects(input: DatabaseInput, name: string) {
  const table = `effect_${name}`;
  const post = openOn(input);
  await post.transaction(async ({ tx }) => {
    await (tx as Sql).query(`create table ${table} (n int not null)`);
  });
  const write = async (tx: unknown, items: Items) => {
    for (const { payload } of items) await (tx as Sql).query(`insert into ${table} (n) values ($1)`, [payload.n]);
  };
  const written = () =>
    post.transaction(async ({ tx }) => {
      const { rows } = await (tx as Sql).query(`select n from ${table} order by n`);
      return (rows as { n: number }[]).map(({ n }) => n);
    });
  return { post, write, written };
}
