/**
 * Goal: settings that an application has on its role, database or pool are for its own statements, and break nothing of ours.
 * Method: a database of its own for each, with the setting on the database, as every new connection gets it.
 */
import { afterEach, beforeEach, expect, test } from "vitest";
import type { Database } from "../../src/core/database.js";
import { openDatabase } from "../../src/databases/open.js";
import { ensureSchema } from "../../src/store/migrate.js";
import { createDatabase, type TestDatabase } from "../support/server.js";

let place: TestDatabase;
let db: Database;
beforeEach(async () => {
  place = await createDatabase({ empty: true });
});
afterEach(async () => {
  await db.close();
  await place.drop();
});

/** Runs the statements as the owner, then opens what new connections see. */
async function prepared(...statements: readonly string[]): Promise<void> {
  const owner = await openDatabase(place.url);
  for (const statement of statements) await owner.query(statement);
  await owner.close();
  db = await openDatabase(place.url);
}

const onDatabase = (setting: string) =>
  `do $do$ begin execute format('alter database %I set ${setting}', current_database()); end $do$`;

// A listener is idle by nature. The server ended it after each timeout, and the worker counted as crashed with all that it held.
test("sessions and listeners do not end by idle_session_timeout", async () => {
  await prepared(onDatabase("idle_session_timeout = ''1min''"));
  const [session, listener] = await Promise.all([db.session(), db.listen("some_channel", () => undefined)]);
  for (const one of [session, listener]) {
    expect((await one?.query("show idle_session_timeout"))?.rows).toEqual([{ idle_session_timeout: "0" }]);
    await one?.close();
  }
});

// Whoever may create functions in a schema of the path had them called by our statements, with our rights.
test("sessions call no function of a schema in the search path that has the name of a built-in one", async () => {
  const trap = (signature: string) =>
    `create function public.${signature} language plpgsql as $$ begin raise 'trapped'; end $$`;
  await prepared(
    trap("clock_timestamp() returns timestamptz"),
    trap("set_config(text, text, boolean) returns text"),
    // A better match than the built-in one, which wins also from behind pg_catalog.
    trap("concat(int, bigint) returns text"),
    onDatabase("search_path = public, pg_catalog"),
  );
  const session = await db.session();
  const { rows } = await session.query(
    "select clock_timestamp() is not null as told, concat(1::int, 2::bigint) as both",
  );
  expect(rows).toEqual([{ told: true, both: "12" }]);
  await session.close();
});

// Defaults of tables were bound to the namesakes, and called them with every insert.
test("a migration binds nothing to functions of a schema in the search path", async () => {
  await prepared(
    "create function public.clock_timestamp() returns timestamptz language plpgsql as $$ begin raise 'trapped'; end $$",
    onDatabase("search_path = public, pg_catalog"),
  );
  await ensureSchema(db, "auto");
  const { rows } = await db.query(
    "select count(*)::int as bound from pg_depend where refclassid = 'pg_proc'::regclass and refobjid = 'public.clock_timestamp()'::regprocedure",
  );
  expect(rows).toEqual([{ bound: 0 }]);
});

// The limit of the application's statements ended the migration.
test("a script may take longer than the statement_timeout of the database", async () => {
  await prepared(onDatabase("statement_timeout = ''1s''"));
  await db.script("select pg_sleep(1.1)");
  expect((await db.query("show statement_timeout")).rows).toEqual([{ statement_timeout: "1s" }]);
});
