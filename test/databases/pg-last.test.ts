import pg from "pg";
import { afterEach, beforeAll, describe, expect, test } from "vitest";
import type { Database } from "../../src/core/database.js";
import { openDatabase } from "../../src/databases/open.js";
import { createDatabase, type TestDatabase } from "../support/server.js";

const { Pool } = pg;
let place: TestDatabase;
let pool: pg.Pool;

beforeAll(async () => {
  place = await createDatabase({ empty: true });
  pool = new Pool({ connectionString: place.url });
  await pool.query("create table note (id int primary key, body text)");
  return async () => {
    await pool.end();
    await place.drop();
  };
});
afterEach(async () => {
  await pool.query("truncate note");
});

async function bodies(): Promise<unknown[]> {
  return (await pool.query("select body from note order by id")).rows.map((row) => row.body);
}

describe.each([
  { how: "as an ordinary pool", pipeline: false },
  { how: "with the option pipeline", pipeline: true },
])("a last statement before COMMIT, on a pool used $how", ({ pipeline }) => {
  const note = (id: number, body: string) => ({
    text: "insert into note values ($1::int, $2::text) returning id::text, null::text as nothing",
    params: [id, body],
  });
  let own: pg.Pool;
  let other: Database<pg.PoolClient>;
  beforeAll(async () => {
    const options = { connectionString: place.url, pipeline };
    own = new Pool(options);
    other = await openDatabase(own);
    return () => own.end();
  });

  test("is stored with what came before, and its rows are returned", async () => {
    const tx = await other.begin();
    await tx.native.query("insert into note values (1, 'a')");
    expect(await tx.commit(note(2, "it's \\ ; commit"))).toEqual([{ id: "2", nothing: null }]);
    expect(await bodies()).toEqual(["a", "it's \\ ; commit"]);
  });

  test("undoes all when it fails, and the connection can be used again", async () => {
    const tx = await other.begin();
    await tx.native.query("insert into note values (1, 'a')");
    await expect(tx.commit(note(1, "again"))).rejects.toMatchObject({ code: "23505" });
    expect(await bodies()).toEqual([]);
    expect(own.idleCount).toBe(own.totalCount);
  });

  test("does not hide that a statement had failed", async () => {
    const tx = await other.begin();
    await tx.native.query("select 1/0").catch(() => undefined);
    await expect(tx.commit(note(1, "a"))).rejects.toMatchObject({ code: "25P02" });
    expect(await bodies()).toEqual([]);
  });
});
