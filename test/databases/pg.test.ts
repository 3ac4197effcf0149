import { connect, createServer, type Server, type Socket } from "node:net";
import pg from "pg";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import type { Database, OpenTransaction } from "../../src/core/database.js";
import { openDatabase } from "../../src/databases/open.js";
import { createDatabase, type TestDatabase } from "../support/server.js";

const { Pool, Query } = pg;
let place: TestDatabase;
let db: Database<pg.PoolClient>;
let pool: pg.Pool;

beforeAll(async () => {
  place = await createDatabase({ empty: true });
  pool = new Pool({ connectionString: place.url, max: 3 });
  db = await openDatabase(pool);
  await db.script("create table note (id int primary key, body text); create table other (id int)");
});
afterAll(async () => {
  await db.close();
  await pool.end();
  await place.drop();
});
afterEach(async () => {
  await pool.query("truncate note, other");
});

async function bodies(): Promise<unknown[]> {
  return (await pool.query("select body from note order by id")).rows.map((row) => row.body);
}

async function backend(query: { query(text: string): Promise<{ rows: { pid: number }[] }> }): Promise<number> {
  const [row] = (await query.query("select pg_backend_pid() as pid")).rows;
  if (row === undefined) throw new Error("no row");
  return row.pid;
}

const kill = (pid: number) => pool.query("select pg_terminate_backend($1, 5000)", [pid]);

describe("results", () => {
  test("64-bit numbers, times and arrays are text, whatever parsers are set globally", async () => {
    const { rows } = await db.query(
      "select 1::int8 as big, 2::int4 as small, true as yes, '{\"a\":1}'::jsonb as json, array[1] as list, timestamptz 'epoch' at time zone 'utc' as time",
    );
    expect(rows).toEqual([{ big: "1", small: 2, yes: true, json: { a: 1 }, list: "{1}", time: "1970-01-01 00:00:00" }]);
  });
});

describe("begin", () => {
  test("a transaction is READ COMMITTED although the default of the database is another", async () => {
    const own = new Pool({ connectionString: place.url, options: "-c default_transaction_isolation=serializable" });
    const strict = await openDatabase(own);
    const tx = await strict.begin();
    expect((await tx.query("show transaction_isolation")).rows).toEqual([{ transaction_isolation: "read committed" }]);
    expect((await tx.query("select current_setting('posthorn.mark') as mark")).rows).toEqual([{ mark: tx.mark }]);
    await tx.rollback();
    await own.end();
  });

  test("commit stores and rollback does not", async () => {
    const kept = await db.begin();
    await kept.native.query("insert into note values (1, 'kept')");
    await kept.commit();
    const dropped = await db.begin();
    await dropped.native.query("insert into note values (2, 'dropped')");
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

  test("an error that the server raises at COMMIT comes back unchanged", async () => {
    await pool.query("create table parent (id int primary key)");
    await pool.query("create table child (id int references parent deferrable initially deferred)");
    const tx = await db.begin();
    await tx.native.query("insert into child values (1)");
    await expect(tx.commit()).rejects.toMatchObject({ code: "23503" });
  });

  test("a connection that ends before COMMIT is reported as lost with nothing stored", async () => {
    const tx = await db.begin();
    await tx.native.query("insert into note values (1, 'a')");
    await kill(await backend(tx.native));
    await expect(tx.query("select 1")).rejects.toMatchObject({ code: "PH_DATABASE_LOST" });
    await expect(tx.commit()).rejects.toMatchObject({ code: "PH_DATABASE_LOST", facts: { inCommit: false } });
    expect(await bodies()).toEqual([]);
  });

  test("a connection that ends during COMMIT is reported as lost in COMMIT", async () => {
    await pool.query(
      "create function slow() returns trigger language plpgsql as $$ begin perform pg_sleep(30); return null; end $$",
    );
    await pool.query(
      "create constraint trigger slow after insert on other deferrable initially deferred for each row execute function slow()",
    );
    const tx = await db.begin();
    const pid = await backend(tx.native);
    await tx.native.query("insert into other values (1)");
    const committing = expect(tx.commit()).rejects.toMatchObject({
      code: "PH_DATABASE_LOST",
      facts: { inCommit: true },
    });
    await kill(pid);
    await committing;
    await pool.query("drop trigger slow on other");
  });
});

describe("the guarded client", () => {
  const tx = async <T>(work: (open: OpenTransaction<pg.PoolClient>) => Promise<T>): Promise<T> => {
    const open = await db.begin();
    try {
      return await work(open);
    } finally {
      await open.rollback();
    }
  };

  test.each([
    "commit",
    "COMMIT AND CHAIN",
    "end;",
    "abort",
    "rollback",
    "Rollback Work",
    "begin",
    "start transaction read only",
    "prepare transaction 'x'",
    "commit prepared 'x'",
    "rollback prepared 'x'",
    "/* a /* b */ ; */ -- c\n commit",
    "select ';'; commit",
    "select $$ $$; end",
  ])("refuses %s", async (sql) => {
    await tx(async ({ native }) => {
      await expect(native.query(sql)).rejects.toMatchObject({ code: "PH_TRANSACTION_ENDED" });
    });
  });

  test.each([
    "rollback to savepoint a",
    "rollback work to a",
    "release savepoint a",
    "select 'commit'",
    "select 1 -- ; commit",
    'select 1 as "; commit"',
    "select $x$ ; commit; $x$",
    "select E'\\'; commit'",
    "prepare p as select 1",
    "do $$ begin null; end $$",
    "create function pg_temp.f() returns int language sql begin atomic select 1; select 2; end",
    "select case when true then 1 end",
  ])("lets %s through", async (sql) => {
    await tx(async ({ native }) => {
      await native.query("savepoint a");
      await native.query(sql);
    });
  });

  test("is an instance of the client class and does what the client does", async () => {
    await tx(async ({ native }) => {
      expect(native).toBeInstanceOf(pg.Client);
      expect(native.escapeIdentifier('a"b')).toBe('"a""b"');
      expect((await native.query({ text: "select $1::int as n", values: [1], rowMode: "array" })).rows).toEqual([[1]]);
    });
  });

  test("refuses release and end", async () => {
    await tx(async ({ native }) => {
      expect(() => native.release()).toThrow(expect.objectContaining({ code: "PH_TRANSACTION_ENDED" }));
      expect(() => native.end()).toThrow(expect.objectContaining({ code: "PH_TRANSACTION_ENDED" }));
    });
  });

  test("refuses the callback and the submittable form as well", async () => {
    await tx(async ({ native }) => {
      const error = await new Promise((resolve) => native.query("commit", [], (failure) => resolve(failure)));
      expect(error).toMatchObject({ code: "PH_TRANSACTION_ENDED" });
      const submitted = new Query("commit");
      const failed = new Promise((resolve) => submitted.once("error", resolve));
      native.query(submitted);
      expect(await failed).toMatchObject({ code: "PH_TRANSACTION_ENDED" });
    });
  });

  test("counts running statements of every form until they end", async () => {
    const open = await db.begin();
    const promised = open.native.query("select 1");
    const called = new Promise((resolve) => open.native.query("select 2", [], resolve));
    const submitted = new Query("select 3");
    const ended = new Promise((resolve) => submitted.once("end", resolve));
    open.native.query(submitted);
    expect(open.seal()).toBe(3);
    await Promise.all([promised, called, ended]);
    expect(open.seal()).toBe(0);
    await open.rollback();
  });

  test("refuses every use after it was sealed, while the library goes on", async () => {
    const open = await db.begin();
    open.seal();
    await expect(open.native.query("select 1")).rejects.toMatchObject({ code: "PH_TRANSACTION_ENDED" });
    expect(() => open.native.release()).toThrow(expect.objectContaining({ code: "PH_TRANSACTION_ENDED" }));
    await open.query("insert into note values (1, 'library')");
    await open.commit();
    expect(await bodies()).toEqual(["library"]);
  });

  test("a statement that still runs is cancelled by the rollback, and the connection ends its locks", async () => {
    const open = await db.begin();
    await open.native.query("lock table note in access exclusive mode");
    void open.native.query("select pg_sleep(600)").catch(() => undefined);
    open.seal();
    await open.rollback();
    await pool.query("set lock_timeout = 60000; insert into note values (1, 'free'); reset lock_timeout");
    expect(await bodies()).toEqual(["free"]);
  });

  test("savepoints are followed: what was said since then goes with a rollback to them", async () => {
    await tx(followSavepoints);
  });

  async function followSavepoints(open: OpenTransaction<pg.PoolClient>): Promise<void> {
    let said = 0;
    open.onSavepoints({
      mark: () => said,
      backTo: (mark) => {
        said = mark;
      },
    });
    const run = (sql: string) => open.native.query(sql);
    said = 1;
    await run("savepoint First");
    said = 2;
    await run('savepoint "Inner one"');
    said = 3;
    await run('rollback to savepoint "Inner one"');
    expect(said).toBe(2);
    await run('release "Inner one"');
    said = 5;
    await run("/* quoted or not */ rollback work to first; select 1");
    expect(said).toBe(1);
    said = 4;
    await run("savepoint first");
    said = 6;
    await run("rollback to first");
    expect(said).toBe(4);
    await run("release savepoint first");
    await run("rollback to first");
    expect(said).toBe(1);
  }

  test("a statement that nobody awaited and that fails does not end the process", async () => {
    const open = await db.begin();
    void open.native.query("select 1/0");
    expect(open.seal()).toBe(1);
    await open.rollback();
    expect((await db.query("select 1 as one")).rows).toEqual([{ one: 1 }]);
  });
});

describe("inside a transaction", () => {
  test("library statements work although the transaction holds the only connection of the pool", async () => {
    const small = new Pool({ connectionString: place.url, max: 1 });
    const narrow = await openDatabase(small);
    const open = await narrow.begin();
    const pids = await open.run(async () => [await backend(narrow), await backend(open.native)]);
    expect(pids[0]).not.toBe(pids[1]);
    expect(narrow.insideTransaction()).toBe(false);
    expect(await open.run(async () => narrow.insideTransaction())).toBe(true);
    await open.rollback();
    await narrow.close();
    await small.end();
  });
});

describe("a user's pool", () => {
  test("is given back every client, and keeps no listener of the library", async () => {
    const own = new Pool({ connectionString: place.url, max: 2 });
    const opened = await openDatabase(own);
    await opened.query("select 1");
    await expect(opened.query("select 1/0")).rejects.toMatchObject({ code: "22012" });
    await (await opened.begin()).commit();
    const session = await opened.session();
    await session.query("select 1");
    expect([own.totalCount, own.idleCount]).toEqual([1, 1]);
    const client = await own.connect();
    expect(client.listenerCount("error")).toBe(0);
    client.release();
    expect(own.listenerCount("error")).toBe(0);
    await session.close();
    await opened.close();
    expect(own.ended).toBe(false);
    await own.end();
  });

  test("that does not show how it connects lends a client, which is destroyed at the end", async () => {
    const own = new Pool({ connectionString: place.url, max: 2 });
    // A pool-like object, as wrappers around pools are.
    const wrapped = new Proxy(own, {
      get: (target, name) => {
        const value: unknown = name === "Client" ? undefined : Reflect.get(target, name, target);
        return typeof value === "function" ? value.bind(target) : value;
      },
      has: (target, name) => name !== "Client" && Reflect.has(target, name),
    });
    const opened = await openDatabase(wrapped);
    const session = await opened.session();
    const pid = await backend(session);
    expect(own.totalCount).toBe(1);
    await session.close();
    expect(own.totalCount).toBe(0);
    expect(await backend(own)).not.toBe(pid);
    await own.end();
  });

  test("that has no free connection is reported as busy", async () => {
    const own = new Pool({ connectionString: place.url, max: 1 });
    const opened = await openDatabase(own);
    const client = await own.connect();
    // From here on: to connect may take longer.
    own.options.connectionTimeoutMillis = 100;
    await expect(opened.query("select 1")).rejects.toMatchObject({ code: "PH_DATABASE_BUSY" });
    client.release();
    await own.end();
  });
});

describe("a session", () => {
  test("runs one statement at a time on one connection, under the name of the application", async () => {
    const named = await openDatabase(place.url, { applicationName: "shop" });
    const session = await named.session();
    const both = await Promise.all([
      session.query("select pg_backend_pid() as pid, current_setting('application_name') as name"),
      session.query("select pg_backend_pid() as pid, current_setting('application_name') as name"),
    ]);
    expect(both[0].rows).toEqual(both[1].rows);
    expect(both[0].rows[0]).toMatchObject({ name: "shop" });
    await session.close();
    expect(await session.lost).toBeUndefined();
    await named.close();
  });

  test("says when its connection is lost, and fails from then on", async () => {
    const session = await db.session();
    await kill(await backend(session));
    expect(await session.lost).toMatchObject({ code: "PH_DATABASE_LOST" });
    await expect(session.query("select 1")).rejects.toMatchObject({ code: "PH_DATABASE_LOST" });
    await session.close();
  });

  test("has a deadline for every statement on the server", async () => {
    const quick = await openDatabase(place.url, { statementTimeoutMs: 1_500 });
    const session = await quick.session();
    await expect(session.query("select pg_sleep(60)")).rejects.toMatchObject({ code: "PH_DATABASE_TIMEOUT" });
    await session.query("select 1");
    await session.close();
    await quick.close();
  });
});

describe("the listener", () => {
  test("hears its own channel, and says when it is lost", async () => {
    const heard: string[] = [];
    let wake = () => {};
    const woken = new Promise<void>((resolve) => {
      wake = resolve;
    });
    const listener = await db.listen("Ring a", (payload) => {
      heard.push(payload);
      wake();
    });
    await pool.query(`select pg_notify('other', 'no'), pg_notify('Ring a', 'yes')`);
    await woken;
    expect(heard).toEqual(["yes"]);
    if (listener === undefined) throw new Error("no listener");
    const [row] = (await listener.query<{ pid: number }>("select pg_backend_pid() as pid")).rows;
    await kill(row?.pid ?? 0);
    expect(await listener.lost).toMatchObject({ code: "PH_DATABASE_LOST" });
    await listener.close();
  });
});

describe("a half-open connection", () => {
  /** Forwards to the server until it is told to swallow everything, as a network does that drops packets. */
  async function swallowingProxy(): Promise<{ url: string; swallow(): void; server: Server; sockets: Socket[] }> {
    const target = new URL(place.url);
    const sockets: Socket[] = [];
    let swallowing = false;
    const server = createServer((near) => {
      const far = connect(Number(target.port), target.hostname);
      sockets.push(near, far);
      near.on("data", (data) => swallowing || far.write(data));
      far.on("data", (data) => swallowing || near.write(data));
      for (const socket of [near, far]) socket.on("error", () => undefined);
      near.on("close", () => far.destroy());
      far.on("close", () => near.destroy());
    });
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    const address = server.address();
    if (address === null || typeof address === "string") throw new Error("no port");
    const url = new URL(place.url);
    url.hostname = "127.0.0.1";
    url.port = String(address.port);
    return {
      url: url.href,
      swallow: () => {
        swallowing = true;
      },
      server,
      sockets,
    };
  }

  test("does not hang a statement, a session or a commit, and is not used again", async () => {
    const proxy = await swallowingProxy();
    // Enough for what is done before the proxy swallows.
    const far = await openDatabase(proxy.url, { statementTimeoutMs: 2_000 });
    const session = await far.session();
    const tx = await far.begin();
    await tx.query("select 1");
    await far.query("select 1");
    proxy.swallow();
    await Promise.all([
      expect(far.query("select 1")).rejects.toMatchObject({ code: "PH_DATABASE_TIMEOUT" }),
      expect(session.query("select 1")).rejects.toMatchObject({ code: "PH_DATABASE_TIMEOUT" }),
      expect(tx.commit()).rejects.toMatchObject({ code: "PH_DATABASE_LOST", facts: { inCommit: true } }),
    ]);
    await session.lost;
    await session.close();
    await far.close();
    for (const socket of proxy.sockets) socket.destroy();
    await new Promise((resolve) => proxy.server.close(resolve));
  });
});

describe("opening", () => {
  test("a server that is away is reported without the password", async () => {
    const away = await openDatabase("postgres://someone:hunter2@127.0.0.1:1/nowhere");
    const error = await away.query("select 1").catch((failure: unknown) => failure);
    expect(error).toMatchObject({ code: "PH_DATABASE_AWAY", retryable: true });
    expect(JSON.stringify([String(error), error])).not.toContain("hunter2");
    expect(away.description).toBe("postgres://someone@127.0.0.1:1/nowhere");
    await expect(away.session()).rejects.toMatchObject({ code: "PH_DATABASE_AWAY" });
    await expect(away.begin()).rejects.toMatchObject({ code: "PH_DATABASE_AWAY" });
    await away.close();
  });

  test("a database that does not exist is refused", async () => {
    const url = new URL(place.url);
    url.pathname = "/nothing_here";
    const missing = await openDatabase(url.href);
    await expect(missing.query("select 1")).rejects.toMatchObject({ code: "PH_DATABASE_REFUSED" });
    await missing.close();
  });

  test("a read-only server is reported as such", async () => {
    const own = new Pool({ connectionString: place.url, options: "-c default_transaction_read_only=on" });
    const standby = await openDatabase(own);
    await expect(standby.query("insert into note values (1)")).rejects.toMatchObject({ code: "PH_DATABASE_READ_ONLY" });
    await own.end();
  });

  test.each([["mysql://localhost"], ["postgres://["], [7], [null], [{}]])(
    "%s is refused, saying what is accepted",
    async (input) => {
      // The compiler refuses most of these; JavaScript does not.
      await expect(Reflect.apply(openDatabase, undefined, [input])).rejects.toMatchObject({
        code: "PH_OPTION_INVALID",
        message: expect.stringContaining("embedded:<folder>"),
      });
    },
  );

  test.each([[{ statementTimeoutMs: 99 }], [{ statementTimeoutMs: Number.NaN }], [{ embedded: "maybe" }]])(
    "the options %j are refused",
    async (options) => {
      await expect(Reflect.apply(openDatabase, undefined, [place.url, options])).rejects.toMatchObject({
        code: "PH_OPTION_INVALID",
      });
    },
  );
});
