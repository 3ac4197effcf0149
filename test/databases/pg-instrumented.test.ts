import type { QueryConfig } from "pg";
import pg from "pg";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { Database } from "../../src/core/database.js";
import { openDatabase } from "../../src/databases/open.js";
import { createDatabase } from "../support/server.js";

const place = await createDatabase({ empty: true });
const admin = new pg.Pool({ connectionString: place.url });
beforeAll(async () => {
  await admin.query("create table seen (n int)");
});
afterAll(async () => {
  await admin.end();
  await place.drop();
});

type AnyQuery = (...args: readonly unknown[]) => unknown;
type Wrap = (client: object, query: AnyQuery, args: readonly unknown[]) => unknown;

/** How many statements a tracer saw the end of. */
let ended = 0;

function isConfig(value: unknown): value is QueryConfig {
  return typeof value === "object" && value !== null && "text" in value && typeof value.text === "string";
}

/** What tracers do to a client: each method is taken from one of them. */
const tracers: Record<string, Wrap> = {
  "sends a copy of what has a text and no name, with a comment": (client, query, [config, ...rest]) => {
    const copied =
      isConfig(config) && config.name === undefined ? { ...config, text: `${config.text} /* traced */` } : config;
    return Reflect.apply(query, client, [copied, ...rest]);
  },
  "waits for the callback, the event or the promise of what was sent last": (client, query, args) => {
    const result = Reflect.apply(query, client, args);
    const sent = Reflect.get(client, "_queryQueue").at(-1) ?? Reflect.get(client, "_activeQuery");
    const end = () => {
      ended += 1;
    };
    if (sent.callback) {
      const { callback } = sent;
      sent.callback = function (this: unknown, ...given: readonly unknown[]) {
        end();
        return Reflect.apply(callback, this, given);
      };
    } else if (sent.once) sent.once("end", end);
    else sent.then(end, end);
    return result;
  },
};

function poolTracedBy(wrap: Wrap): pg.Pool {
  class Traced extends pg.Client {}
  const original: AnyQuery = Reflect.get(pg.Client.prototype, "query");
  Reflect.set(Traced.prototype, "query", function (this: object, ...args: readonly unknown[]) {
    return wrap(this, original, args);
  });
  return new pg.Pool({ connectionString: place.url, max: 1, Client: Traced });
}

describe.each(Object.keys(tracers))("a client whose tracer %s", (name) => {
  let pool: pg.Pool;
  let db: Database<pg.PoolClient>;
  beforeAll(async () => {
    pool = poolTracedBy(tracers[name] ?? (() => undefined));
    db = (await openDatabase(pool)) as typeof db;
  });
  afterAll(() => pool.end());

  test("answers the library's statements", async () => {
    ended = 0;
    expect(await db.query("select $1::int as n", [1])).toMatchObject({ rows: [{ n: 1 }] });
    expect(await db.query("select 2 as n")).toMatchObject({ rows: [{ n: 2 }] });
    await expect(db.query("select 1 / $1::int", [0])).rejects.toMatchObject({ code: "22012" });
    if (name.startsWith("waits")) expect(ended).toBeGreaterThanOrEqual(3);
    const session = await db.session();
    expect(await session.query("select $1::int as n", [3])).toMatchObject({ rows: [{ n: 3 }] });
    await session.close();
  });

  test("begins a transaction with its first statement and commits with its last", async () => {
    const open = await db.begin();
    const { rows } = await open.native.query("insert into seen values ($1) returning n", [1]);
    expect(rows).toEqual([{ n: 1 }]);
    expect(await open.commit({ text: "insert into seen values ($1) returning n::text", params: [2] })).toEqual([
      { n: "2" },
    ]);
    const dropped = await db.begin();
    await dropped.native.query("insert into seen values (3)");
    await dropped.rollback();
    const only = await db.begin();
    await only.commit({ text: "insert into seen values (4)" });
    expect((await admin.query("select n from seen order by n")).rows).toEqual([{ n: 1 }, { n: 2 }, { n: 4 }]);
    await admin.query("truncate seen");
  });
});

test("a pool's query_timeout keeps nothing of a statement of the library that has ended", async () => {
  const pool = new pg.Pool({ connectionString: place.url, max: 1, query_timeout: 60_000 });
  const db = await openDatabase(pool);
  const timers = () => process.getActiveResourcesInfo().filter((name) => name === "Timeout").length;
  const before = timers();
  for (let i = 0; i < 50; i += 1) await db.query("select $1::int", [i]);
  expect(timers()).toBeLessThan(before + 10);
  await pool.end();
});
