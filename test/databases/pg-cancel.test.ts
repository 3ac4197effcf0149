/** Goal: a statement of a transaction that is given up ends, with its locks, also where the request to cancel it came too early. */
import { connect, createServer } from "node:net";
import pg from "pg";
import { expect, test } from "vitest";
import { openDatabase } from "../../src/databases/open.js";
import { createDatabase } from "../support/server.js";

test("a request to cancel that came to nothing is repeated before the connection is given up", async () => {
  const place = await createDatabase({ empty: true });
  const beside = new pg.Pool({ connectionString: place.url, max: 1 });
  await beside.query("create table note (id int primary key)");
  const target = new URL(place.url);
  let opened = 0;
  const server = createServer((near) => {
    opened += 1;
    near.on("error", () => undefined);
    // The second connection is the first request: it came before the statement did.
    if (opened === 2) {
      near.end();
      return;
    }
    const far = connect(Number(target.port), target.hostname);
    far.on("error", () => undefined);
    near.pipe(far).pipe(near);
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const address = server.address();
  if (address === null || typeof address === "string") throw new Error("no port");
  const url = new URL(place.url);
  [url.hostname, url.port] = ["127.0.0.1", String(address.port)];
  const one = new pg.Pool({ connectionString: url.href, max: 1 });
  const through = await openDatabase(one);
  const open = await through.begin();
  await open.native.query("lock table note in access exclusive mode");
  void open.native.query("select pg_sleep(600)").catch(() => undefined);
  open.seal();
  await open.rollback();
  expect(opened).toBe(3);
  await beside.query("set lock_timeout = 60000; insert into note values (1)");
  await through.close();
  await one.end();
  await beside.end();
  server.close();
  await place.drop();
}, 90_000);
