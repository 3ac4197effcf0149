import type { Submittable } from "pg";
import { Pool } from "pg";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import type { Database } from "../../src/core/database.js";
import { openDatabase } from "../../src/databases/open.js";
import { PgConnection } from "../../src/databases/pg-connection.js";
import { createDatabase } from "../support/server.js";

const place = await createDatabase({ empty: true });
const pool = new Pool({ connectionString: place.url, max: 2 });
let db: Database<import("pg").PoolClient>;

beforeAll(async () => {
  await pool.query("create table opening (n int)");
  db = (await openDatabase(pool)) as typeof db;
});
afterEach(async () => {
  await pool.query("truncate opening");
});
afterAll(async () => {
  await pool.end();
  await place.drop();
});

async function stored(): Promise<readonly number[]> {
  return (await pool.query<{ n: number }>("select n from opening order by n")).rows.map(({ n }) => n);
}

/** A connection whose transaction cannot begin. */
async function broken() {
  const client = await pool.connect();
  const connection = new PgConnection(client, "test", () => client.release(true));
  await connection.open(["begin", "select 1/0"], 1_000);
  const end = () => {
    connection.detach();
    client.release(true);
  };
  return { connection, end };
}

/** What a cursor or a stream is to pg: something that it submits. */
class Own implements Submittable {
  readonly done: Promise<unknown>;
  #settle: (value: unknown) => void = () => {};
  readonly #text: string;

  constructor(text: string) {
    this.#text = text;
    this.done = new Promise((resolve) => {
      this.#settle = resolve;
    });
  }

  submit(connection: import("pg").Connection): void {
    connection.query(this.#text);
  }

  handleRowDescription(): void {}
  handleDataRow(): void {}
  handleCommandComplete(): void {}

  handleReadyForQuery(): void {
    this.#settle("ready");
  }

  handleError(error: unknown): void {
    this.#settle(error);
  }
}

describe("a transaction that begins with its first statement", () => {
  const ways: Record<string, (tx: import("pg").PoolClient) => unknown> = {
    "with parameters": (tx) => tx.query("insert into opening values ($1)", [1]),
    "without parameters": (tx) => tx.query("insert into opening values (1)"),
    "as a config": (tx) => tx.query({ text: "insert into opening values ($1)", values: [1] }),
    "with a name": (tx) => tx.query({ name: "one", text: "insert into opening values ($1)", values: [1] }),
    "with a callback": (tx) =>
      new Promise((resolve, reject) => {
        tx.query("insert into opening values ($1)", [1], (error) => (error ? reject(error) : resolve(undefined)));
      }),
    "as something of the user's that pg submits": (tx) => tx.query(new Own("insert into opening values (1)")).done,
  };

  test.each(Object.keys(ways))("commits what was sent %s, and rolls it back", async (way) => {
    const dropped = await db.begin();
    await ways[way]?.(dropped.native);
    await dropped.rollback();
    expect(await stored()).toEqual([]);
    const kept = await db.begin();
    await ways[way]?.(kept.native);
    await kept.commit();
    expect(await stored()).toEqual([1]);
  });

  test("answers as pg does", async () => {
    const open = await db.begin();
    const result = await open.native.query("insert into opening values ($1), (2) returning n", [1]);
    expect(result).toMatchObject({ command: "INSERT", rowCount: 2, rows: [{ n: 1 }, { n: 2 }] });
    await open.rollback();
    const several = await db.begin();
    expect(await several.native.query("select 1 as a; select 2 as b")).toMatchObject([
      { rows: [{ a: 1 }] },
      { rows: [{ b: 2 }] },
    ]);
    await several.rollback();
  });

  test("keeps the order of statements that nobody waited for", async () => {
    const open = await db.begin();
    const all = await Promise.all([
      open.native.query("insert into opening values ($1)", [1]),
      open.native.query("insert into opening values (2)"),
      open.native.query("select count(*)::int as n from opening where n > $1", [0]),
    ]);
    expect(all[2]?.rows).toEqual([{ n: 2 }]);
    await open.commit();
    expect(await stored()).toEqual([1, 2]);
  });

  test("is aborted by an error in its first statement, whose stack leads to the caller", async () => {
    const open = await db.begin();
    const error = await open.native.query("select $1::int / 0", [1]).catch((caught) => caught);
    expect(error).toMatchObject({ code: "22012" });
    expect(error.stack).toContain("pg-opening");
    await expect(open.commit()).rejects.toMatchObject({ code: "PH_TRANSACTION_ABORTED" });
    expect(open.notBegun).toBeUndefined();
  });

  test("is rolled back by the server's own limit while it is idle", async () => {
    const open = await db.begin({ idleMs: 1_234 });
    const setting = "select current_setting('idle_in_transaction_session_timeout') as s where $1";
    expect((await open.native.query(setting, [true])).rows).toEqual([{ s: "1234ms" }]);
    await open.rollback();
  });

  test("refuses to write where it is for reading", async () => {
    const open = await db.begin({ readOnly: true });
    await expect(open.native.query("insert into opening values ($1)", [1])).rejects.toMatchObject({ code: "25006" });
    await open.rollback();
  });

  test("counts as begun for who asks the client", async () => {
    const open = await db.begin();
    const status = () => (open.native as { getTransactionStatus?(): unknown }).getTransactionStatus?.();
    expect(status()).toBe("T");
    await open.native.query("select $1::int", [1]);
    expect(status()).toBe("T");
    await open.rollback();
  });

  test("needs nothing of the server when nothing was sent", async () => {
    const committed = await db.begin();
    await committed.commit();
    const dropped = await db.begin();
    await dropped.rollback();
    await expect(dropped.query("select 1")).rejects.toMatchObject({ code: "PH_TRANSACTION_ENDED" });
  });

  test("commits with its only statement, with parameters or without", async () => {
    const one = await db.begin();
    expect(await one.commit({ text: "insert into opening values ($1) returning n::text", params: [1] })).toEqual([
      { n: "1" },
    ]);
    const two = await db.begin();
    expect(await two.commit({ text: "insert into opening values (2) returning n::text" })).toEqual([{ n: "2" }]);
    expect(await stored()).toEqual([1, 2]);
  });
});

describe("a first statement that fails where only the client says so", () => {
  test("does not count as one whose transaction could not begin when its values cannot be written", async () => {
    const open = await db.begin();
    const values = [{ toJSON: () => 1n }];
    await expect(open.native.query("select $1::json", values)).rejects.toThrow("BigInt");
    expect(open.notBegun).toBeUndefined();
    await open.native.query("insert into opening values ($1)", [1]);
    await open.commit();
    expect(open.notBegun).toBeUndefined();
    expect(await stored()).toEqual([1]);
  });

  test("does not count as one when its time is over", async () => {
    const holder = await pool.connect();
    await holder.query("select pg_advisory_lock(4711)");
    const open = await db.begin();
    const slow = { text: "select pg_advisory_xact_lock($1)", values: [4711], query_timeout: 20 };
    await expect(open.native.query(slow)).rejects.toThrow("timeout");
    await holder.query("select pg_advisory_unlock(4711)");
    holder.release();
    await open.native.query("insert into opening values ($1)", [1]);
    await open.commit();
    expect(open.notBegun).toBeUndefined();
    expect(await stored()).toEqual([1]);
  });

  test("does not count as one when it loses the connection: it may be what ends it", async () => {
    const open = await db.begin();
    const slow = open.native.query("select pg_sleep($1), 'it is me'", [60]);
    const running = "select from pg_stat_activity where query like '%it is me%' and pid <> pg_backend_pid()";
    await expect.poll(async () => (await pool.query(running)).rowCount).toBe(1);
    const { connection } = open.native as import("pg").PoolClient & { connection: import("pg").Connection };
    connection.stream.destroy();
    await expect(slow).rejects.toThrow();
    await open.rollback();
    expect([open.notBegun, open.lost]).toEqual([undefined, true]);
  });
});

describe("a transaction that cannot begin", () => {
  const sends: Record<string, (connection: PgConnection) => Promise<unknown>> = {
    "with parameters": async (connection) => connection.send("insert into opening values ($1)", [1]),
    "without parameters": async (connection) => connection.send("insert into opening values (1)"),
    "with a name": async (connection) =>
      connection.send({ name: "x", text: "insert into opening values ($1)", values: [1] }),
    "of the library": (connection) => connection.query("insert into opening values ($1)", [1], 1_000),
    "with COMMIT": (connection) => connection.commit({ text: "insert into opening values ($1)", params: [1] }, 1_000),
    "with COMMIT, without parameters": (connection) =>
      connection.commit({ text: "insert into opening values (1)" }, 1_000),
  };

  test.each(Object.keys(sends))("runs no statement %s, nor any after it", async (way) => {
    const { connection, end } = await broken();
    await expect(sends[way]?.(connection)).rejects.toThrow();
    // After COMMIT there is nothing to send any more.
    if (!way.includes("COMMIT")) {
      await expect(connection.query("insert into opening values ($1)", [2], 1_000)).rejects.toThrow();
    }
    end();
    expect(await stored()).toEqual([]);
  });

  test("says why", async () => {
    const { connection, end } = await broken();
    await Promise.allSettled([
      connection.send("insert into opening values (1)"),
      connection.send("insert into opening values (2)"),
    ]);
    expect(connection.notBegun?.message).toContain("division by zero");
    end();
    expect(await stored()).toEqual([]);
  });
});
