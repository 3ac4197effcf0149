import { afterAll, beforeAll, expect, test } from "vitest";
import type { Database } from "../../src/core/database.js";
import { openDatabase } from "../../src/databases/open.js";
import { ensureSchema, functionsDigest, planMigration, schemaVersion } from "../../src/store/migrate.js";
import { sqlFiles } from "../../src/store/sql.gen.js";
import { settle } from "../../src/store/work.js";
import { eventually } from "../support/eventually.js";
import { createDatabase, type DatabaseOptions } from "../support/server.js";
import {
  claim,
  die,
  failure,
  makeQueue,
  makeWorker,
  openSession,
  part,
  rescueAll,
  type Session,
  say,
  upTo,
} from "./engine.js";

let template: Awaited<ReturnType<typeof createDatabase>>;
beforeAll(async () => {
  template = await createDatabase({ empty: true });
  const database = await openDatabase(template.url);
  await ensureSchema(database, "auto");
  await database.close();
});
afterAll(() => template.drop());

interface Place {
  readonly url: string;
  readonly database: Database;
  readonly admin: Session;
}

/** A database for one test; a copy of the migrated one unless told otherwise. */
async function within(options: DatabaseOptions, work: (place: Place) => Promise<void>): Promise<void> {
  const { url, drop } = await createDatabase({ empty: true, ...options });
  const database = await openDatabase(url);
  const admin = await openSession(url);
  try {
    await work({ url, database, admin });
  } finally {
    await Promise.all([database.close(), admin.close()]);
    await drop();
  }
}

/** What tells two schemas apart without their contents. */
async function shapeOf(admin: Session): Promise<unknown> {
  return admin.rows(
    `select (select array_agg(relname || ' ' || relkind::text order by relname) from pg_class where relnamespace = 'posthorn'::regnamespace) as relations,
       (select md5(string_agg(pg_get_functiondef(oid), '' order by oid::regprocedure::text)) from pg_proc where pronamespace = 'posthorn'::regnamespace) as functions,
       (select array_agg(n || ' ' || name order by n) from posthorn.migration) as migrations, (select functions_digest from posthorn.installation) as digest,
       (select count(*)::int from posthorn.ring) as rings, (select count(*)::int from posthorn.epoch) as epochs`,
  );
}

test.each(["read committed", "serializable"])(
  "twenty processes that start at once on an empty database, with %s as its default, migrate it once",
  async (level) => {
    await within({}, async ({ url, admin, database }) => {
      await admin.rows(
        `do $do$ begin execute format('alter database %I set default_transaction_isolation = %L', current_database(), '${level}'); end $do$`,
      );
      const databases = await Promise.all(upTo(20).map(() => openDatabase(url)));
      await Promise.all(databases.map((one) => ensureSchema(one, "auto")));
      await Promise.all(databases.map((one) => one.close()));
      expect(await admin.rows("select n::int, name from posthorn.migration order by n")).toEqual(
        sqlFiles.flatMap(({ name }) =>
          name.startsWith("migrations/") ? [{ n: Number(name.slice(11, 15)), name: name.slice(11, -4) }] : [],
        ),
      );
      await ensureSchema(database, "check");
      const fresh = await shapeOf(admin);
      await within({ template: template.name }, async (other) => expect(await shapeOf(other.admin)).toEqual(fresh));
    });
  },
);

test("twenty processes that start at once with other functions replace them, and keep the data", async () => {
  await within({ template: template.name }, async ({ url, admin }) => {
    await admin.rows("update posthorn.installation set functions_digest = 'of other code'");
    await admin.rows(
      "create or replace function posthorn.lock_key(p_purpose text, p_a bigint default 0, p_b bigint default 0) returns bigint language sql as 'select 1::bigint'",
    );
    await admin.rows("insert into posthorn.channel (kind, name) values ('event', 'kept')");
    const databases = await Promise.all(upTo(20).map(() => openDatabase(url)));
    await Promise.all(databases.map((one) => ensureSchema(one, "auto")));
    await Promise.all(databases.map((one) => one.close()));
    expect(await admin.value("select functions_digest from posthorn.installation")).toBe(functionsDigest);
    expect(await admin.value("select posthorn.lock_key('x') <> 1")).toBe(true);
    expect(await admin.value("select count(*)::int from posthorn.channel where name = 'kept'")).toBe(1);
  });
});

/**
 * Goal: the next version may change the result or the parameters of a function.
 * Method: planted leftovers of other code: the same parameters with another result, and an overload that makes calls ambiguous.
 */
test("functions of other code with the same name and another signature are gone after a migration", async () => {
  await within({ template: template.name }, async ({ database, admin }) => {
    const before = await shapeOf(admin);
    await admin.rows("update posthorn.installation set functions_digest = 'of other code'");
    await admin.rows("drop function posthorn.raise_lost(json)");
    await admin.rows("create function posthorn.raise_lost(p_what json) returns int language sql as 'select 1'");
    await admin.rows(
      "create function posthorn.send(name text, payload json) returns text language sql as 'select 1::text'",
    );
    await ensureSchema(database, "auto");
    expect(await shapeOf(admin)).toEqual(before);
  });
});

test("a role that had been granted posthorn.send or publish of an older library has those of this one after the migration", async () => {
  await within({}, async ({ admin, database }) => {
    await ensureSchema(database, "auto");
    await makeQueue({ url: "", db: database, admin, session: async () => admin, close: async () => undefined }, "old");
    const role = `producer_${process.pid}`;
    await admin.rows(`drop function posthorn.send(text, json, text, json, json, int), posthorn.publish(text, json, text, json, int);
      create function posthorn.send(name text, payload json, key text default null, headers json default null) returns text language sql as $$ select '' $$;
      create function posthorn.publish(name text, payload json, key text default null, headers json default null) returns text language sql as $$ select '' $$;
      create role ${role}; grant usage on schema posthorn to ${role};
      grant execute on function posthorn.send(text, json, text, json), posthorn.publish(text, json, text, json) to ${role};
      update posthorn.installation set functions_digest = 'other'`);
    try {
      await ensureSchema(database, "auto");
      const may = await admin.rows(
        "select pronargs::int as args, has_function_privilege($1::name, oid, 'execute') as may from pg_proc where proname in ('send', 'publish') and pronamespace = 'posthorn'::regnamespace order by 1",
        [role],
      );
      expect(may).toEqual([
        { args: 5, may: true },
        { args: 6, may: true },
      ]);
      for (const rest of ["", ", 'k'", ", null, '{}'", ", options => '{\"delayMs\":5}'", ", version => 1"]) {
        expect(await admin.value(`select posthorn.send('Doold', '{}'${rest})`)).toMatch(/^\d+-/);
      }
    } finally {
      await admin.rows(`drop owned by ${role}; drop role ${role}`);
    }
  });
});

test("check refuses an empty database with PH_SCHEMA_MISSING and writes nothing", async () => {
  await within({}, async ({ database, admin }) => {
    expect(await failure(ensureSchema(database, "check"))).toMatchObject({ code: "PH_SCHEMA_MISSING" });
    expect(await admin.value("select to_regnamespace('posthorn') is null")).toBe(true);
  });
});

test("check accepts what auto made, and auto a second time changes nothing", async () => {
  await within({ template: template.name }, async ({ database, admin }) => {
    const before = await shapeOf(admin);
    await ensureSchema(database, "check");
    await ensureSchema(database, "auto");
    expect(await shapeOf(admin)).toEqual(before);
  });
});

test("an older schema is refused by check with PH_SCHEMA_OLDER", async () => {
  await within({ template: template.name }, async ({ database, admin }) => {
    await admin.rows("delete from posthorn.migration where n = $1", [schemaVersion]);
    expect(await failure(ensureSchema(database, "check"))).toMatchObject({
      code: "PH_SCHEMA_OLDER",
      facts: { found: await admin.value("select max(n) from posthorn.migration"), needed: schemaVersion },
    });
  });
});

test("a database that an older version made becomes the same as a new one, and keeps what it holds", async () => {
  // The first five migrations were released together.
  const released = sqlFiles.filter(({ name }) => name.startsWith("migrations/") && Number(name.slice(11, 15)) <= 5);
  await within({}, async ({ database, admin }) => {
    await database.script(
      [
        "create schema posthorn;",
        ...released.map(({ text }) => text),
        ...released.map(
          ({ name }) =>
            `insert into posthorn.migration (n, name) values (${Number(name.slice(11, 15))}, '${name.slice(11, -4)}');`,
        ),
        "insert into posthorn.installation (functions_digest) values ('of older code');",
        "insert into posthorn.channel (kind, name) values ('command', 'old');",
        `insert into posthorn.subscription (name, channel, policy) select 'old', id, '{"circuitBreaker":null}' from posthorn.channel;`,
        "insert into posthorn.epoch select 1, system_identifier, (select oid from pg_database where datname = current_database()), 1 from pg_control_system();",
        "insert into posthorn.ring select true, '{1}', 1, system_identifier, database, first_id from posthorn.epoch;",
      ].join("\n"),
    );
    await ensureSchema(database, "auto");
    const upgraded = await shapeOf(admin);
    expect(await admin.rows("select name, has_breaker from posthorn.subscription")).toEqual([
      { name: "old", has_breaker: false },
    ]);
    await within({ template: template.name }, async (fresh) => expect(upgraded).toEqual(await shapeOf(fresh.admin)));
  });
});

// Before, a migration waited for such a transaction for as long as it took, and whoever came after stood in line behind the migration.
test("a migration that meets an open transaction waits for moments, lets others pass meanwhile, and is done when it has ended", async () => {
  await within({ template: template.name }, async ({ url, database, admin }) => {
    await admin.rows("delete from posthorn.migration where n >= 23");
    await admin.rows("alter table posthorn.intake drop column pushed cascade, drop column refused cascade");
    await admin.rows("alter table posthorn.intake drop column refused_bound, drop column invalid_bound");
    await admin.rows("alter table posthorn.intake drop column skipped_type, drop column skipped_at");
    await admin.rows("drop table posthorn.intake_holder cascade");
    await admin.rows("drop table posthorn.inbox_name");
    await admin.rows("alter table posthorn.intake_invalid drop column identity");
    await admin.rows("alter table posthorn.result drop column key, drop column contract");
    await admin.rows("alter table posthorn.retention drop column forgotten_until");
    for (let slot = 1; slot <= 8; slot += 1)
      await admin.rows(`alter table posthorn.message_${slot} drop constraint message_${slot}_key_length`);
    const [holder, passer] = [await openSession(url), await openSession(url)];
    await holder.rows("begin");
    await holder.rows("select from posthorn.result");
    let migrated = false;
    const migrates = ensureSchema(database, "auto").then(() => {
      migrated = true;
    });
    await eventually(
      async () =>
        (await admin.rows("select from pg_locks where not granted and relation = 'posthorn.result'::regclass")).length >
        0,
    );
    await passer.rows("set statement_timeout = '60s'");
    await passer.rows("select from posthorn.result");
    expect(migrated).toBe(false);
    await holder.rows("commit");
    await migrates;
    await ensureSchema(database, "check");
    await Promise.all([holder.close(), passer.close()]);
  });
});

test("a schema of the right version with other functions is refused by check with PH_SCHEMA_OLDER, and mended by auto", async () => {
  await within({ template: template.name }, async ({ database, admin }) => {
    const before = await shapeOf(admin);
    await admin.rows("update posthorn.installation set functions_digest = 'of other code'");
    expect(await failure(ensureSchema(database, "check"))).toMatchObject({ code: "PH_SCHEMA_OLDER" });
    await ensureSchema(database, "auto");
    expect(await shapeOf(admin)).toEqual(before);
  });
});

test("a newer schema that works with this code is used by check and by auto and left as it is, and no migration is planned", async () => {
  await within({ template: template.name }, async ({ database, admin }) => {
    await admin.rows("insert into posthorn.migration (n, name) values ($1, 'of the future')", [schemaVersion + 1]);
    await admin.rows("update posthorn.installation set functions_digest = 'of the future', library = '99.1.0'");
    const before = await shapeOf(admin);
    for (const mode of ["check", "auto"] as const) await ensureSchema(database, mode);
    expect(await failure(planMigration(database))).toMatchObject({ code: "PH_SCHEMA_NEWER" });
    expect(await shapeOf(admin)).toEqual(before);
  });
});

/** Goal: two deployments that start in turn do not replace each other's functions. */
test("functions of a newer library on the same tables are not replaced by older code", async () => {
  await within({ template: template.name }, async ({ database, admin }) => {
    await admin.rows("update posthorn.installation set functions_digest = 'of the future', library = '99.1.0'");
    await ensureSchema(database, "auto");
    expect(await admin.value("select functions_digest from posthorn.installation")).toBe("of the future");
  });
});

test("a newer schema that does not work with this code is refused by check and by auto with PH_SCHEMA_NEWER, and left as it is", async () => {
  await within({ template: template.name }, async ({ database, admin }) => {
    await admin.rows("insert into posthorn.migration (n, name) values ($1, 'of the future')", [schemaVersion + 1]);
    await admin.rows("update posthorn.installation set library = '99.1.0', oldest_library = '99.0.0'");
    const before = await shapeOf(admin);
    for (const mode of ["check", "auto"] as const) {
      expect(await failure(ensureSchema(database, mode)), mode).toMatchObject({ code: "PH_SCHEMA_NEWER" });
    }
    expect(await shapeOf(admin)).toEqual(before);
  });
});

test.each(["LATIN1", "SQL_ASCII"] as const)(
  "a database with the encoding %s is refused, and nothing is made in it",
  async (encoding) => {
    await within({ encoding }, async ({ database, admin }) => {
      for (const mode of ["check", "auto"] as const) {
        expect(await failure(ensureSchema(database, mode)), mode).toMatchObject({
          code: "PH_DATABASE_UNSUITABLE",
          facts: { encoding },
        });
      }
      expect(await admin.value("select to_regnamespace('posthorn') is null")).toBe(true);
    });
  },
);

test("a migration that fails in the middle leaves nothing behind, and can be tried again", async () => {
  await within({}, async ({ database, admin }) => {
    await admin.rows(
      "create function refuse() returns event_trigger language plpgsql as $$ begin if tg_tag = 'CREATE VIEW' then raise exception 'not now'; end if; end $$",
    );
    await admin.rows("create event trigger refuse on ddl_command_end execute function refuse()");
    await failure(ensureSchema(database, "auto"));
    expect(await admin.value("select to_regnamespace('posthorn') is null")).toBe(true);
    await admin.rows("drop event trigger refuse");
    await ensureSchema(database, "auto");
    await ensureSchema(database, "check");
  });
});

/** The engine needs no more than a database of one's own. */
test("a role that only owns its database can migrate, say, claim, settle and rescue", async () => {
  await within({}, async ({ url, admin }) => {
    const role = `owner_${process.pid}`;
    await admin.rows(`create role ${role} login nosuperuser nocreatedb nocreaterole`);
    await admin.rows(
      `do $do$ begin execute format('alter database %I owner to ${role}', current_database()); end $do$`,
    );
    const own = new URL(url);
    own.username = role;
    const db = await openDatabase(own.href);
    const session = await openSession(own.href);
    try {
      await ensureSchema(db, "auto");
      await ensureSchema(db, "check");
      const engine = {
        url: own.href,
        db,
        admin: session,
        session: () => openSession(own.href),
        close: async () => undefined,
      };
      const reader = await makeQueue(engine, "owned");
      const worker = await makeWorker(engine, [reader]);
      await say(db, reader, [1, 2]);
      await session.rows("select posthorn.send('Doowned', '{}'::json)");
      await settle(db, [part(await claim(db, reader, worker, 1), 1, "succeeded", true)], [], null);
      await claim(db, reader, worker);
      await die(engine, worker);
      expect(await rescueAll(db)).toBe(2);
    } finally {
      await Promise.all([db.close(), session.close()]);
      await admin.rows(
        `do $do$ begin execute format('alter database %I owner to postgres', current_database()); end $do$`,
      );
      await admin.rows(`drop owned by ${role} cascade`);
      await admin.rows(`drop role ${role}`);
    }
  });
});
