import { Client } from "pg";
import { expect, test } from "vitest";
import { openDatabase } from "../../src/databases/open.js";
import { ensureSchema } from "../../src/store/migrate.js";
import { createDatabase } from "../support/server.js";
import { readCatalog } from "./catalog.js";
import { root } from "./sources.js";

async function withDatabase<T>(work: (client: Client, url: string) => Promise<T>): Promise<T> {
  const { url, drop } = await createDatabase({ empty: true });
  const client = new Client({ connectionString: url });
  await client.connect();
  try {
    return await work(client, url);
  } finally {
    await client.end();
    await drop();
  }
}

test("the schema of a migrated database is the committed snapshot", async () => {
  const catalog = await withDatabase(async (client, url) => {
    const database = await openDatabase(url);
    await ensureSchema(database, "auto");
    await database.close();
    return readCatalog(client);
  });
  await expect(catalog).toMatchFileSnapshot(`${root}sql/schema.snapshot.sql`);
});

test("the snapshot tells apart what differs in columns, constraints, functions, views and rights", async () => {
  const changes = [
    "alter table posthorn.thing add column more int not null default 3",
    "alter table posthorn.thing add constraint positive check (id > 0)",
    "create index thing_id on posthorn.thing (id) where id > 5",
    "create or replace function posthorn.double(n int) returns int language sql return n + n",
    "create or replace view posthorn.things as select id, 1 as one from posthorn.thing",
    "grant select on posthorn.thing to public",
    "revoke execute on function posthorn.double(int) from public",
    "alter table posthorn.thing set (fillfactor = 50)",
    "alter sequence posthorn.counter cache 9",
  ];
  await withDatabase(async (client) => {
    await client.query(`create schema posthorn;
      create table posthorn.thing (id int);
      create sequence posthorn.counter;
      create view posthorn.things as select id from posthorn.thing;
      create function posthorn.double(n int) returns int language sql return n * 2`);
    let before = await readCatalog(client);
    for (const change of changes) {
      await client.query(change);
      const after = await readCatalog(client);
      expect(after, change).not.toBe(before);
      before = after;
    }
  });
});
