import type { PGlite, Transaction } from "@electric-sql/pglite";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import type { Database } from "../../src/core/database.js";
import { insideTransaction } from "../../src/databases/context.js";
import { openDatabase } from "../../src/databases/open.js";
import { createPglite } from "../support/pglite.js";

let pglite: PGlite;
let db: Database<Transaction>;
/** The same, for what must give up. */
let hasty: Database<Transaction>;

beforeAll(async () => {
  pglite = await createPglite({ empty: true });
  db = await openDatabase(pglite);
  hasty = await openDatabase(pglite, { statementTimeoutMs: 200 });
  await db.script("create table note (id int primary key, body text); create table parent (id int primary key)");
  await db.query("create table child (id int references parent deferrable initially deferred)");
});
afterEach(() => db.query("truncate note"));
afterAll(async () => {
  await hasty.close();
  await db.close();
  expect(pglite.closed).toBe(false);
  await pglite.close();
});

const bodies = async () => (await db.query("select body from note order by id")).rows.map((row) => row.body);

test("results are the same as on a server: 64-bit numbers, times and arrays are text", async () => {
  const { rows } = await db.query(
    "select 1::int8 as big, 2::int4 as small, true as yes, '{\"a\":1}'::jsonb as json, array[1] as list, timestamptz 'epoch' at time zone 'utc' as time, $1::text as said",
    ["hi"],
  );
  expect(rows).toEqual([
    { big: "1", small: 2, yes: true, json: { a: 1 }, list: "{1}", time: "1970-01-01 00:00:00", said: "hi" },
  ]);
});

test("a script whose second statement fails leaves nothing of the first", async () => {
  await expect(db.script("insert into note values (1, 'a'); select 1/0")).rejects.toMatchObject({ code: "22012" });
  expect(await bodies()).toEqual([]);
});

test("an error shows no parameters, which may be payloads", async () => {
  const error = await db.query("select $1::text::int", ["secret-letter"]).catch((failure: unknown) => failure);
  expect(Object.keys(error as object)).not.toContain("params");
});

describe("begin", () => {
  test("commit stores and rollback does not; both let the next one in", async () => {
    const kept = await db.begin();
    await kept.native.query("insert into note values ($1, $2)", [1, "kept"]);
    const waiting = db.begin();
    await kept.commit();
    const dropped = await waiting;
    await dropped.native.sql`insert into note values (${2}, 'dropped')`;
    await dropped.rollback();
    await dropped.rollback();
    expect(await bodies()).toEqual(["kept"]);
  });

  test("a swallowed error of a statement makes commit fail as aborted", async () => {
    const tx = await db.begin();
    await tx.native.query("insert into note values (1, 'a')");
    await tx.native.query("select 1/0").catch(() => undefined);
    await expect(tx.commit()).rejects.toMatchObject({ code: "PH_TRANSACTION_ABORTED" });
    expect(await bodies()).toEqual([]);
  });

  test("an error at COMMIT comes back unchanged, and the connection goes on", async () => {
    const tx = await db.begin();
    await tx.native.query("insert into child values (1)");
    await expect(tx.commit()).rejects.toMatchObject({ code: "23503" });
    expect(await bodies()).toEqual([]);
  });

  test("now() is the same in the whole transaction and another after somebody ended it", async () => {
    const tx = await db.begin();
    expect((await tx.query("select extract(epoch from now())::text as now")).rows).toEqual([{ now: tx.mark }]);
    await tx.commit();
    await expect(tx.query("select 1")).rejects.toMatchObject({ code: "PH_TRANSACTION_ENDED" });
    await expect(tx.commit()).rejects.toMatchObject({ code: "PH_TRANSACTION_ENDED" });
  });
});

describe("the guarded transaction", () => {
  test("refuses to end or begin one, in every form, and lets savepoints through", async () => {
    const { native, rollback } = await opened();
    const ended = { code: "PH_TRANSACTION_ENDED" };
    await expect(native.query("commit")).rejects.toMatchObject(ended);
    await expect(native.exec("select 1; rollback; begin")).rejects.toMatchObject(ended);
    await expect(native.sql`end`).rejects.toMatchObject(ended);
    await expect(native.rollback()).rejects.toMatchObject(ended);
    await native.exec("savepoint a; insert into note values (1, 'a'); rollback to a");
    await rollback();
  });

  test("counts running statements and refuses every use after it was sealed", async () => {
    const tx = await db.begin();
    const running = tx.native.query("select 1");
    expect(tx.seal()).toBe(1);
    await running;
    expect(tx.seal()).toBe(0);
    expect(tx.native.closed).toBe(true);
    await expect(tx.native.query("select 1")).rejects.toMatchObject({ code: "PH_TRANSACTION_ENDED" });
    await tx.query("insert into note values (1, 'library')");
    await tx.commit();
    expect(await bodies()).toEqual(["library"]);
  });

  async function opened() {
    const tx = await db.begin();
    return { native: tx.native, rollback: () => tx.rollback() };
  }
});

describe("a call from inside a transaction that would wait for it", () => {
  test("is refused, in whatever asynchronous step, and works again after the end", async () => {
    const tx = await db.begin();
    const refused = { code: "PH_WOULD_DEADLOCK" };
    let after = () => {};
    const ended = new Promise<void>((resolve) => {
      after = resolve;
    });
    const late = await tx.run(async () => {
      await tx.native.query("select 1");
      expect(insideTransaction(db)).toBe(true);
      await expect(db.query("select 1")).rejects.toMatchObject(refused);
      await expect(db.begin()).rejects.toMatchObject(refused);
      await expect(db.script("select 1")).rejects.toMatchObject(refused);
      await expect(db.session().then((session) => session.query("select 1"))).rejects.toMatchObject(refused);
      const another = await openDatabase(pglite);
      await expect(another.query("select 1")).rejects.toMatchObject(refused);
      return { promise: ended.then(() => db.query("select 1 as one")) };
    });
    expect(insideTransaction(db)).toBe(false);
    const outside = db.query("select 2 as two");
    await tx.commit();
    after();
    expect((await late.promise).rows).toEqual([{ one: 1 }]);
    expect((await outside).rows).toEqual([{ two: 2 }]);
  });

  test("made in a transaction that the library did not open gives up in time, and is then not run", async () => {
    await pglite.transaction(async () => {
      const busy = { code: "PH_DATABASE_BUSY" };
      await expect(hasty.query("insert into note values (1, 'late')")).rejects.toMatchObject(busy);
      await expect(hasty.begin()).rejects.toMatchObject(busy);
      await expect(hasty.script("insert into note values (2, 'late')")).rejects.toMatchObject(busy);
    });
    expect(await bodies()).toEqual([]);
  });
});

test("a statement does not become part of a transaction that was begun by hand", async () => {
  await pglite.exec("begin");
  const busy = { code: "PH_DATABASE_BUSY" };
  await expect(hasty.query("insert into note values (1, 'mine')")).rejects.toMatchObject(busy);
  await expect(hasty.begin()).rejects.toMatchObject(busy);
  await expect(hasty.script("insert into note values (1, 'mine')")).rejects.toMatchObject(busy);
  await pglite.exec("rollback");
  await db.query("insert into note values (1, 'mine')");
  expect(await bodies()).toEqual(["mine"]);
});

test("a statement that waits for a transaction of the user's own runs when it has ended", async () => {
  const { promise, statement } = await pglite.transaction(async (tx) => {
    const statement = db.query("insert into note values (2, 'waited')");
    await tx.query("insert into note values (1, 'first')");
    return { promise: undefined, statement };
  });
  expect(promise).toBeUndefined();
  await statement;
  expect(await bodies()).toEqual(["first", "waited"]);
});

test("the listener hears its channel until it is closed", async () => {
  let hear: (payload: string) => void = () => {};
  const heard = new Promise<string>((resolve) => {
    hear = resolve;
  });
  const listener = await db.listen("Ring a", hear);
  await db.query("select pg_notify('Ring a', 'yes')");
  expect(await heard).toBe("yes");
  await listener?.close();
  expect(await listener?.lost).toBeUndefined();
});

test("a closed instance is reported as lost", async () => {
  const own = await createPglite();
  const closed = await openDatabase(own);
  await own.close();
  await expect(closed.query("select 1")).rejects.toMatchObject({ code: "PH_DATABASE_LOST" });
  await expect(closed.begin()).rejects.toMatchObject({ code: "PH_DATABASE_LOST" });
});
