/**
 * Goal: a database that is away, going away, read-only, full, out of connections or unsuitable is a typed error that says what to do;
 * nothing is half written, and the same instance goes on when the database is back.
 * Method: a small server of our own that is killed, restarted and made a standby; the rows are counted each time it is back.
 */

import { rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { PGlite } from "@electric-sql/pglite";
import pg from "pg";
import { command, event, type Post, type PosthornError, posthorn, query, type Sql, type } from "posthorn";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { libraryVersion, oldestOnThisSchema } from "../../src/core/library.js";
import { schemaVersion } from "../../src/store/migrate.js";
import { rejected } from "../core/thrown.js";
import { collect, decisions, serviceName } from "../producer/stage.js";
import { eventually } from "../support/eventually.js";
import { createPglite } from "../support/pglite.js";
import { createDatabase, type OwnServer, startServer, type TestDatabase } from "../support/server.js";

const DoWork = command("DoWork", { queue: "work", schema: type<{ n: number }>() });
const WorkDone = event("WorkDone", { topic: "facts", schema: type<{ n: number }>() });
const WorkOf = query("WorkOf", { request: type<unknown>(), response: type<unknown>(), deadlineMs: 60_000 });

const open: Post<unknown>[] = [];
const warnings: string[] = [];
function make(database: string, migrate: "auto" | "check" = "check"): Post<Sql> {
  const post = posthorn({ service: serviceName(), database, migrate, logger: collect(warnings) });
  open.push(post);
  return post;
}
afterEach(async () => {
  await Promise.all(open.splice(0).map((post) => post.stop({ graceMs: 0 })));
});

/** Every call that needs the database. */
function calls(post: Post<Sql>): Readonly<Record<string, () => Promise<unknown>>> {
  post.answer(WorkOf, () => 1);
  return {
    send: () => post.send(DoWork, { n: 1 }),
    sendMany: () => post.sendMany(DoWork, [{ n: 1 }, { n: 2 }]),
    publish: () => post.publish(WorkDone, { n: 1 }),
    publishMany: () => post.publishMany(WorkDone, [{ n: 1 }]),
    transaction: () => post.transaction(async ({ send }) => send(DoWork, { n: 1 })),
    ask: () => post.ask(WorkOf, {}),
    backlog: () => post.backlog(),
    start: () => post.start(),
  };
}
/** What is the same of every error about a database. */
function expectTyped(call: string, error: PosthornError, code: string, message: RegExp) {
  expect([call, error.code, error.message]).toEqual([call, code, expect.stringMatching(message)]);
  expect(`${error.message}${JSON.stringify(error.facts)}`).not.toContain("secret");
}

describe("a server of our own", () => {
  let server: OwnServer;
  let url: string;
  const rows = async (sql: string) => {
    const client = new pg.Client({ connectionString: url });
    await client.connect();
    try {
      return (await client.query(sql)).rows;
    } finally {
      await client.end();
    }
  };
  const stored = async () => (await rows("select count(*)::int as n from posthorn.message_1"))[0]?.n;
  const connected = "select count(*)::int as n from pg_stat_activity where backend_type = 'client backend'";

  beforeAll(async () => {
    server = await startServer({
      settings: { max_connections: 14, max_prepared_transactions: 0, shared_buffers: "16MB", max_wal_senders: 0 },
    });
    await server.stop();
    url = (await server.start().then(() => createDatabase({ on: server }))).url;
    await make(url).migrate();
  });
  afterAll(() => server?.remove());

  test("is away: every call says so, and the instance works as soon as it is there", async () => {
    await server.stop();
    const post = make(url.replace("postgres@", "postgres:secret@"));
    for (const [name, call] of Object.entries(calls(post))) {
      expectTyped(
        name,
        await rejected(call()),
        "PH_DATABASE_AWAY",
        /^The database cannot be reached\. Check that it runs.*Database: postgres:\/\/postgres@127\.0\.0\.1:\d+/,
      );
    }
    await server.start();
    const before = await stored();
    await post.send(DoWork, { n: 1 });
    expect(await stored()).toBe(before + 1);
  });

  test("does not exist, refuses the name of the database, or the user: no repetition helps, and the message says what to correct", async () => {
    const nowhere = await rejected(make("postgres://postgres@no-such-host.invalid/x").send(DoWork, { n: 1 }));
    expectTyped("host", nowhere, "PH_DATABASE_AWAY", /host and port are right/);
    for (const wrong of [server.url("no_such_database"), url.replace("postgres@", "no_such_user@")]) {
      const error = await rejected(make(wrong).send(DoWork, { n: 1 }));
      expectTyped(
        wrong,
        error,
        "PH_DATABASE_REFUSED",
        /refuses the user, password, certificate or database name\. Correct them/,
      );
      expect(error.retryable).toBe(false);
    }
  });

  test("is killed while a transaction is open: it is lost, nothing of it is stored, and the instance and its worker go on afterwards", async () => {
    const post = make(url);
    const got: number[] = [];
    post.queue("work", decisions).handle(DoWork, ({ n }) => {
      got.push(n);
    });
    await post.start();
    await post.send(DoWork, { n: 10 });
    await eventually(() => got.includes(10));
    const before = await stored();
    let receipt: { readonly id: string } | undefined;
    const broken = await rejected(
      post.transaction(async ({ tx, send }) => {
        await tx.query("create table if not exists half (n int)");
        receipt = send(DoWork, { n: 11 });
        await server.kill();
      }),
    );
    expectTyped("transaction", broken, "PH_DATABASE_LOST", /connection.*was lost/);
    expect(broken.retryable).toBe(true);
    // What was said goes out with COMMIT: a client that has not noticed the loss before cannot know.
    expect(() => receipt?.id).toThrow(/never sent|is not known/);
    for (const call of [() => post.send(DoWork, { n: 12 }), () => post.publish(WorkDone, { n: 12 })]) {
      expect((await rejected(call())).code).toMatch(/^PH_DATABASE_(AWAY|LOST)$/);
    }
    await server.start();
    expect(await stored()).toBe(before);
    expect(await rows("select to_regclass('half') as half")).toEqual([{ half: null }]);
    await post.send(DoWork, { n: 13 });
    await eventually(() => got.includes(13), { withinMs: 60_000 });
    expect(got.filter((n) => n === 11 || n === 12)).toEqual([]);
  });

  test("ends a connection in the middle of COMMIT: the receipt does not claim to know how it ended", async () => {
    const post = make(url);
    await rows(
      "create or replace function end_me() returns trigger language plpgsql as $$ begin perform pg_terminate_backend(pg_backend_pid()); return null; end $$",
    );
    await rows("create table fatal (n int)");
    await rows(
      "create constraint trigger fatal after insert on fatal deferrable initially deferred for each row execute function end_me()",
    );
    let receipt: { readonly id: string } | undefined;
    const error = await rejected(
      post.transaction(async ({ tx, send }) => {
        receipt = send(DoWork, { n: 20 });
        await tx.query("insert into fatal values (1)");
      }),
    );
    expect([error.code, error.facts]).toEqual(["PH_DATABASE_LOST", { inCommit: true }]);
    expect(error.message).toMatch(
      /lost during COMMIT: the transaction may or may not be stored\. Look before repeating it/,
    );
    expect(() => receipt?.id).toThrow(/lost during COMMIT, and whether the message was sent is not known/);
    expect(await rows("select n from fatal")).toEqual([]);
  });

  test("has no free connection: the call says so, nothing is written, and it works once there is one", async () => {
    const before = await stored();
    const clients: pg.Client[] = [];
    const taken = async () => {
      const client = new pg.Client({ connectionString: url });
      client.on("error", () => undefined);
      await client.connect();
      clients.push(client);
    };
    // A session that has said goodbye keeps its connection for a moment: the server is full when all are ours.
    await eventually(
      async () => {
        const full = await taken().then(
          () => false,
          () => true,
        );
        return full && (await clients[0]?.query(connected))?.rows[0]?.n === clients.length;
      },
      { everyMs: 0 },
    );
    const post = make(url);
    for (const [name, call] of Object.entries(calls(post))) {
      const error = await rejected(call());
      expectTyped(
        name,
        error,
        "PH_DATABASE_BUSY",
        /^The server has no free connection\. Use fewer connections or raise max_connections\./,
      );
      expect(error.retryable).toBe(true);
    }
    await Promise.all(clients.map((client) => client.end()));
    await eventually(async () => Number((await rows(connected))[0]?.n) < 5);
    await post.send(DoWork, { n: 1 });
    expect(await stored()).toBe(before + 1);
  });

  test("is a standby: whatever writes says that it is read-only, and nothing changes", async () => {
    const before = await stored();
    const signal = join(server.dataFolder, "standby.signal");
    await server.stop();
    await writeFile(signal, "");
    await server.start();
    const post = make(url);
    for (const [name, call] of Object.entries(calls(post))) {
      if (name === "ask" || name === "backlog") continue;
      expectTyped(
        name,
        await rejected(call()),
        "PH_DATABASE_READ_ONLY",
        /read-only, for instance a standby\. Connect to the primary/,
      );
    }
    await server.stop();
    await rm(signal);
    await server.start();
    expect(await stored()).toBe(before);
    await post.send(DoWork, { n: 1 });
    expect(await stored()).toBe(before + 1);
  });
});

describe("a database", () => {
  let place: TestDatabase;
  let admin: pg.Client;
  beforeAll(async () => {
    place = await createDatabase();
    admin = new pg.Client({ connectionString: place.url });
    await admin.connect();
    await make(place.url).migrate();
  });
  afterAll(async () => {
    await admin?.end();
    await place?.drop();
  });
  const stored = async () => (await admin.query("select count(*)::int as n from posthorn.message_1")).rows[0]?.n;

  test("whose sessions are read-only by default refuses every write as read-only", async () => {
    await admin.query(`alter database ${place.name} set default_transaction_read_only = on`);
    try {
      const post = make(place.url);
      for (const [name, call] of Object.entries(calls(post))) {
        if (name === "ask" || name === "backlog") continue;
        expectTyped(name, await rejected(call()), "PH_DATABASE_READ_ONLY", /read-only/);
      }
    } finally {
      await admin.query("set default_transaction_read_only = off");
      await admin.query(`alter database ${place.name} reset default_transaction_read_only`);
    }
    expect(await stored()).toBe(0);
  });

  test.each([
    ["no space left", "53100", "PH_DATABASE_FULL", /no space or memory left\. Free some; nothing was written/],
    ["no memory left", "53200", "PH_DATABASE_FULL", /no space or memory left/],
    ["an operator who cancels", "57014", "PH_DATABASE_TIMEOUT", /cancelled before it ended/],
    ["a missing right", "42501", "PH_DATABASE_REFUSED", /A right is missing.*Grant it/],
  ])(
    "with %s refuses the message, typed, and stores nothing of the call or the transaction around it",
    async (_what, state, code, message) => {
      const post = make(place.url);
      await post.send(DoWork, { n: 1 });
      const before = await stored();
      await admin.query(
        `create or replace function refuse() returns trigger language plpgsql as $$ begin raise exception 'simulated' using errcode = '${state}'; end $$`,
      );
      await admin.query("create table if not exists business (n int)");
      await admin.query(
        "create trigger refuse before insert on posthorn.message_1 for each row when (new.payload ->> 'n' = '2') execute function refuse()",
      );
      try {
        const many = Array.from({ length: 6_000 }, (_, i) => ({ n: i === 5_999 ? 2 : 3 }));
        for (const call of [
          () => post.send(DoWork, { n: 2 }),
          () => post.sendMany(DoWork, [{ n: 1 }, { n: 2 }]),
          () => post.sendMany(DoWork, many),
          () =>
            post.transaction(async ({ tx, send }) => {
              await tx.query("insert into business values (1)");
              send(DoWork, { n: 1 });
              send(DoWork, { n: 2 });
            }),
        ]) {
          expectTyped(code, await rejected(call()), code, message);
        }
      } finally {
        await admin.query("drop trigger refuse on posthorn.message_1");
      }
      expect([await stored(), (await admin.query("select * from business")).rows]).toEqual([before, []]);
    },
  );

  test.each(["LATIN1", "SQL_ASCII"] as const)(
    "with the encoding %s is refused as unsuitable, and the message shows how to make one",
    async (encoding) => {
      const other = await createDatabase({ encoding });
      try {
        for (const migrate of ["auto", "check"] as const) {
          const error = await rejected(make(other.url, migrate).send(DoWork, { n: 1 }));
          expect([error.name, error.code, error.retryable, error.facts]).toEqual([
            "DatabaseRefusedError",
            "PH_DATABASE_UNSUITABLE",
            false,
            { encoding },
          ]);
          expect(error.message).toMatch(
            new RegExp(`has the encoding ${encoding}; payloads need UTF8\\. Create one with: create database`),
          );
        }
        await Promise.all(open.splice(0).map((post) => post.stop()));
      } finally {
        await other.drop();
      }
    },
  );
});

describe("a schema", () => {
  let place: TestDatabase;
  let admin: pg.Client;
  let pglite: PGlite;
  beforeAll(async () => {
    [place, pglite] = await Promise.all([createDatabase({ empty: true }), createPglite({ empty: true })]);
    admin = new pg.Client({ connectionString: place.url });
    await admin.connect();
  });
  afterAll(async () => {
    await admin?.end();
    await place?.drop();
    await pglite?.close();
  });

  test("that is missing on a server is refused, and migrate() makes it, also when both are asked at once", async () => {
    const post = make(place.url);
    for (const [name, call] of Object.entries(calls(post))) {
      const error = await rejected(call());
      expect([name, error.name, error.code]).toEqual([name, "SchemaVersionError", "PH_SCHEMA_MISSING"]);
      expect(error.message).toMatch(/has no Posthorn schema\. Run `await post\.migrate\(\)` once.*migrate: "auto"/);
    }
    expect((await admin.query("select to_regnamespace('posthorn') as there")).rows).toEqual([{ there: null }]);
    // The migrations wait for this lock, so the question comes before the first of them is done.
    const lock = "(hashtextextended('posthorn:migrate', 0))";
    await admin.query(`select pg_advisory_lock${lock}`);
    const asked = rejected(post.backlog()).finally(() => admin.query(`select pg_advisory_unlock${lock}`));
    const [refused] = await Promise.all([asked, post.migrate(), post.migrate(), make(place.url).migrate()]);
    expect(refused.code).toBe("PH_SCHEMA_MISSING");
    await post.send(DoWork, { n: 1 });
  });

  test("that is newer than the code and does not work with it is refused on every database, with any choice of migrate, and left as it is", async () => {
    const newer = schemaVersion + 1;
    await make(place.url).migrate();
    const first = posthorn({ service: serviceName(), database: pglite });
    await first.migrate();
    await first.stop();
    for (const [database, run] of [
      [place.url, (sql: string) => admin.query(sql)],
      [pglite, (sql: string) => pglite.query(sql)],
    ] as const) {
      await run(`insert into posthorn.migration (n, name) values (${newer}, 'from the future')`);
      await run("update posthorn.installation set oldest_library = '99.0.0'");
      for (const migrate of ["auto", "check"] as const) {
        const post = posthorn({ service: serviceName(), database, migrate });
        for (const call of [() => post.send(DoWork, { n: 1 }), () => post.migrate(), () => post.start()]) {
          const error = await rejected(call());
          expect([error.name, error.code, error.facts]).toEqual([
            "SchemaVersionError",
            "PH_SCHEMA_NEWER",
            { found: newer, needed: schemaVersion, library: libraryVersion, oldestLibrary: "99.0.0" },
          ]);
          expect(error.message).toMatch(
            new RegExp(
              `has version ${newer} and works with library 99.0.0 and newer; this code has ${schemaVersion}, .*Deploy the newer code; a schema is never downgraded`,
            ),
          );
        }
        await post.stop();
      }
      await run(`delete from posthorn.migration where n = ${newer}`);
      await run(`update posthorn.installation set oldest_library = '${oldestOnThisSchema}'`);
    }
  });

  test("that is older, or whose functions are not those of the code, is refused by check and brought forward by migrate()", async () => {
    await make(place.url).migrate();
    await admin.query("update posthorn.installation set functions_digest = 'older'");
    const post = make(place.url);
    const error = await rejected(post.send(DoWork, { n: 1 }));
    expect([error.name, error.code]).toEqual(["SchemaVersionError", "PH_SCHEMA_OLDER"]);
    expect(error.message).toMatch(/does not fit.*of this code.*Run `await post\.migrate\(\)` once/);
    await post.migrate();
    await post.send(DoWork, { n: 1 });
  });

  test("of a restored copy is refused as moved, and nothing is written", async () => {
    await make(place.url).migrate();
    const post = make(place.url);
    await post.send(DoWork, { n: 1 });
    const count = async () => (await admin.query("select count(*)::int as n from posthorn.message_1")).rows[0]?.n;
    const before = await count();
    await admin.query("update posthorn.ring set system_identifier = system_identifier + 1");
    try {
      for (const call of [
        () => post.send(DoWork, { n: 2 }),
        () => post.publish(WorkDone, { n: 2 }),
        () => post.transaction(async ({ send }) => send(DoWork, { n: 2 })),
      ]) {
        const error = await rejected(call());
        expect([error.name, error.code]).toEqual(["DatabaseRefusedError", "PH_DATABASE_MOVED"]);
        expect(error.message).toMatch(/is a copy.*Nothing was written.*posthorn migrate --rebase/);
      }
    } finally {
      await admin.query("update posthorn.ring set system_identifier = system_identifier - 1");
    }
    expect(await count()).toBe(before);
  });
});
