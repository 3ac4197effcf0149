import { stat } from "node:fs/promises";
import { Client } from "pg";
import { expect, test } from "vitest";
import { adminUrl, createDatabase, startServer } from "./server.js";

async function query(url: string, text: string): Promise<Record<string, unknown> | undefined> {
  const client = new Client({ connectionString: url });
  await client.connect();
  try {
    return (await client.query(text)).rows[0];
  } finally {
    await client.end();
  }
}

test("the server of the run is of the version that the run asks for, else of the installed one", async () => {
  const wanted = process.env.POSTHORN_TEST_POSTGRES ?? "17";
  const row = await query(await adminUrl(), "select current_setting('server_version_num') as version");
  expect(String(row?.version).slice(0, 2)).toBe(wanted);
});

test("a fresh database is durable, UTF-8, allows prepared transactions, and is gone after drop", async () => {
  const database = await createDatabase();
  const row = await query(
    database.url,
    `select current_setting('fsync') as fsync, current_setting('max_prepared_transactions') as prepared,
            current_setting('server_encoding') as encoding, current_database() as name`,
  );
  expect(row).toEqual({ fsync: "on", prepared: "64", encoding: "UTF8", name: database.name });
  await database.drop();
  await expect(query(database.url, "select 1")).rejects.toMatchObject({ code: "3D000" });
});

test("a database can have another encoding and can be a copy of another database", async () => {
  const latin = await createDatabase({ encoding: "LATIN1" });
  expect(await query(latin.url, "select current_setting('server_encoding') as encoding")).toEqual({
    encoding: "LATIN1",
  });
  await query(latin.url, "create table thing as select 7 as n");
  const copy = await createDatabase({ template: latin.name });
  expect(await query(copy.url, "select n from thing")).toEqual({ n: 7 });
  await Promise.all([latin.drop(), copy.drop()]);
});

test("a server of one's own keeps what was committed when all its processes are killed, and its folder goes with it", async () => {
  const server = await startServer();
  await query(server.url(), "create table kept as select 1 as n");
  const busy = new Client({ connectionString: server.url() });
  busy.on("error", () => undefined);
  await busy.connect();
  const lost = busy.query("select pg_sleep(60)").catch((error: unknown) => error);
  await server.kill();
  expect(server.pid).toBeUndefined();
  expect(await lost).toBeInstanceOf(Error);
  await expect(query(server.url(), "select 1")).rejects.toMatchObject({ code: "ECONNREFUSED" });
  await server.start();
  expect(await query(server.url(), "select n from kept")).toEqual({ n: 1 });
  await server.stop("immediate");
  await server.start();
  await server.remove();
  await expect(stat(server.dataFolder)).rejects.toMatchObject({ code: "ENOENT" });
});
