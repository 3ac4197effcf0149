import type { PGlite } from "@electric-sql/pglite";
import pg from "pg";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { openDatabase } from "../../src/databases/open.js";
import { executorOf } from "../../src/databases/recognise.js";
import { createPglite } from "../support/pglite.js";
import { createDatabase, type TestDatabase } from "../support/server.js";

let place: TestDatabase;
let pool: pg.Pool;
let pglite: PGlite;

beforeAll(async () => {
  [place, pglite] = await Promise.all([createDatabase({ empty: true }), createPglite({ empty: true })]);
  pool = new pg.Pool({ connectionString: place.url });
});
afterAll(async () => {
  await pool.end();
  await pglite.close();
  await place.drop();
});

const asked = async (tx: unknown) => executorOf(tx);
const required = { code: "PH_TRANSACTION_REQUIRED" };
/** A client without the method, as older and other drivers are. */
const withoutStatus = (client: pg.PoolClient) =>
  new Proxy(client, {
    get: (target, name) => {
      const value: unknown = name === "getTransactionStatus" ? undefined : Reflect.get(target, name, target);
      return typeof value === "function" ? value.bind(target) : value;
    },
  });

async function withClient(work: (client: pg.PoolClient) => Promise<void>): Promise<void> {
  const client = await pool.connect();
  try {
    await work(client);
  } finally {
    client.release(true);
  }
}

describe("a pg client", () => {
  test("with an open transaction is accepted, and its statements are part of it", async () => {
    await withClient(async (client) => {
      await client.query("begin; create table made (id int)");
      const executor = await asked(client);
      expect((await executor.query("select $1::int8 as n", [1])).rows).toEqual([{ n: "1" }]);
      await executor.query("insert into made values (1)");
      await client.query("rollback");
      expect((await pool.query("select to_regclass('made') as made")).rows).toEqual([{ made: null }]);
    });
  });

  test("without an open transaction is refused, since the message would be committed apart from the rows", async () => {
    await withClient(async (client) => {
      await expect(asked(client)).rejects.toMatchObject(required);
      await client.query("begin");
      await client.query("commit");
      await expect(asked(client)).rejects.toMatchObject(required);
      await expect(asked(withoutStatus(client))).rejects.toMatchObject(required);
    });
  });

  test("whose transaction has failed is refused", async () => {
    await withClient(async (client) => {
      await client.query("begin");
      await client.query("select 1/0").catch(() => undefined);
      for (const tx of [client, withoutStatus(client)]) {
        await expect(asked(tx)).rejects.toMatchObject({
          ...required,
          message: expect.stringContaining("already failed"),
        });
      }
    });
  });

  test("is asked through the server when statements are still on their way", async () => {
    await withClient(async (client) => {
      const begun = client.query("begin");
      await expect(asked(client)).resolves.toBeDefined();
      await begun;
      const ended = client.query("commit");
      await expect(asked(client)).rejects.toMatchObject(required);
      await ended;
    });
  });

  test("that cannot tell its status is asked through the server", async () => {
    await withClient(async (client) => {
      await client.query("begin");
      const executor = await asked(withoutStatus(client));
      expect((await executor.query("select 1 as one")).rows).toEqual([{ one: 1 }]);
    });
  });

  test("that the library gave as tx is accepted until it is sealed", async () => {
    const db = await openDatabase(pool);
    const open = await db.begin();
    expect((await (await asked(open.native)).query("select current_setting('posthorn.mark') as mark")).rows).toEqual([
      { mark: open.mark },
    ]);
    open.seal();
    await expect(asked(open.native)).rejects.toMatchObject({ code: "PH_TRANSACTION_ENDED" });
    await open.rollback();
  });
});

describe("a PGlite transaction", () => {
  test("is accepted while it is open, and refused when it has ended", async () => {
    const tx = await pglite.transaction(async (open) => {
      expect((await (await asked(open)).query("select 1::int8 as n")).rows).toEqual([{ n: "1" }]);
      return open;
    });
    await expect(asked(tx)).rejects.toMatchObject(required);
  });

  test("that the library gave as tx is accepted until it is sealed", async () => {
    const db = await openDatabase(pglite);
    const open = await db.begin();
    expect((await (await asked(open.native)).query("select extract(epoch from now())::text as now")).rows).toEqual([
      { now: open.mark },
    ]);
    open.seal();
    await expect(asked(open.native)).rejects.toMatchObject({ code: "PH_TRANSACTION_ENDED" });
    await open.rollback();
  });
});

test("a pool and a PGlite instance are refused as having no transaction", async () => {
  await expect(asked(pool)).rejects.toMatchObject({ ...required, message: expect.stringContaining("pg pool") });
  await expect(asked(pglite)).rejects.toMatchObject({
    ...required,
    message: expect.stringContaining("PGlite instance"),
  });
});

test.each([[undefined], [null], ["begin"], [{}], [() => {}], [{ query: () => {} }]])(
  "%s is refused, listing what is accepted",
  async (tx) => {
    await expect(asked(tx)).rejects.toMatchObject({
      code: "PH_TRANSACTION_UNKNOWN",
      message: expect.stringContaining("Accepted are"),
    });
  },
);
