import { mkdtemp, rm } from "node:fs/promises";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { PGlite, Transaction } from "@electric-sql/pglite";
import { afterAll, beforeAll, expect, test } from "vitest";
import type { Database } from "../../src/core/database.js";
import { SharedConnection } from "../../src/databases/embedded/connection.js";
import { EmbeddedServer } from "../../src/databases/embedded/server.js";
import { decode, encode } from "../../src/databases/embedded/wire.js";
import { openDatabase } from "../../src/databases/open.js";
import { createPglite } from "../support/pglite.js";

let folder: string;
let path: string;
let pglite: PGlite;
let db: Database<Transaction>;
let server: EmbeddedServer;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "server-"));
  path = join(folder, "s");
  pglite = await createPglite({ empty: true });
  db = await openDatabase(pglite);
  // Long enough for those who are not silent, however slow the machine is.
  server = await EmbeddedServer.listen(path, 2_000);
  server.serve(db);
});
afterAll(async () => {
  await server.close();
  await pglite.close();
  await rm(folder, { recursive: true, force: true });
});

const open = () => SharedConnection.open(path, "embedded:test", 5_000);

test("a transaction whose client falls silent is rolled back, and the holder goes on", async () => {
  await db.query("create table note (id int)");
  const silent = await open();
  await silent.request({ op: "begin" });
  await silent.rows({ op: "native", text: "insert into note values (1)", params: [] });
  expect((await db.query("select id from note")).rows).toEqual([]);
  expect(await silent.lost).toMatchObject({ code: "PH_DATABASE_LOST" });
});

test("a client that is silent outside a transaction keeps its connection", async () => {
  const quiet = await open();
  const other = await open();
  await other.request({ op: "begin" });
  await other.lost;
  expect((await quiet.rows({ op: "query", text: "select 1 as one", params: [] })).rows).toEqual([{ one: 1 }]);
  quiet.end();
});

test("something that does not speak the protocol is cut off and does no harm", async () => {
  const stranger = connect(path);
  const closed = new Promise((resolve) => stranger.once("close", resolve));
  stranger.on("error", () => undefined);
  stranger.write("GET / HTTP/1.1\r\n\r\n");
  await closed;
  expect((await db.query("select 1 as one")).rows).toEqual([{ one: 1 }]);
});

test("another version of the protocol is refused by name", async () => {
  const connection = await open();
  await expect(connection.request({ op: "hello", version: 999 })).rejects.toMatchObject({
    message: expect.stringContaining("version"),
  });
  connection.end();
});

test("closing rolls back what clients have open and waits for it", async () => {
  const own = await EmbeddedServer.listen(join(folder, "t"));
  own.serve(db);
  const connection = await SharedConnection.open(join(folder, "t"), "embedded:test", 5_000);
  await connection.request({ op: "begin" });
  await own.close();
  expect(pglite.isInTransaction()).toBe(false);
  expect(await connection.lost).toMatchObject({ code: "PH_DATABASE_LOST" });
});

test("every value arrives as it was sent", () => {
  const values = [
    null,
    1,
    "x\n\u2028",
    true,
    [1n, [new Date(5)]],
    { a: { "~": 1, v: 2 } },
    new Uint8Array([0, 255]),
    { "~": "date" },
  ];
  expect(decode(JSON.parse(JSON.stringify(encode(values))))).toEqual(values);
});
