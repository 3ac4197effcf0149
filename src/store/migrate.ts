/**
 * Brings the schema of a database to that of this code, or says how they differ.
 *
 * Migrations run once, in order, and are never edited after a release; functions, views and grants are the current bodies and
 * are replaced as a whole when their digest differs. Everything happens in one transaction under one lock, whose first statement
 * compares what it finds with what it was made for: of many processes that start at once, one migrates and the others look again.
 */
import { createHash } from "node:crypto";
import type { Database } from "../core/database.js";
import { errorOf, PosthornError, SchemaVersionError } from "../core/errors.js";
import { compareVersions, libraryVersion, oldestOnThisSchema } from "../core/library.js";
import { clause } from "../core/words.js";
import { sqlFiles } from "./sql.gen.js";
import { isLockTimeout, mapped } from "./sqlstate.js";

export type MigrateMode = "auto" | "check";

interface Migration {
  readonly n: number;
  readonly name: string;
  readonly text: string;
}

const migrations: readonly Migration[] = sqlFiles
  .filter(({ name }) => name.startsWith("migrations/"))
  .map(({ name, text }) => ({ n: Number(name.slice(11, 15)), name: name.slice(11, -4), text }));
const bodies = sqlFiles.filter(({ name }) => !name.startsWith("migrations/")).map(({ text }) => text);

/** What this code needs. */
export const schemaVersion = Math.max(...migrations.map(({ n }) => n));
export const functionsDigest = createHash("sha256").update(bodies.join("\n")).digest("hex");

/** What a database has: version 0 when there is no schema. */
export interface Found {
  readonly version: number;
  readonly digest: string | null;
  /** The library that made it so, and the oldest that works on it; null where they did not tell. */
  readonly library: string | null;
  readonly oldest: string | null;
}

/** Looking at the schema may take another way than changing it. */
type Schemed = Pick<Database, "query" | "script">;

/** Who waits for a lock lets nobody pass behind it: so a migration waits for moments only, and tries again for a minute or two. */
const lockWaitMs = 2_000;
const lockPauseMs = 1_000;
const mostTries = 40;

/** The oldest server that has what the engine needs. */
const oldestServer = 140_000;

/**
 * Makes sure that the schema fits, and migrates where `mode` is "auto". A newer schema that still works with this code fits, and is left as it is.
 *
 * Errors: `SchemaVersionError` (PH_SCHEMA_MISSING, PH_SCHEMA_OLDER, PH_SCHEMA_NEWER); `DatabaseRefusedError` for a server that
 * cannot hold the schema; `DatabaseUnavailableError` (PH_DATABASE_LOCKED) where a transaction that has touched a table stays open.
 */
export async function ensureSchema(database: Schemed, mode: MigrateMode): Promise<void> {
  await checkServer(database);
  for (let attempt = 1; ; attempt += 1) {
    const found = await findSchema(database);
    if (isNewer(found)) return refuseUnfit(found);
    if (found.version === schemaVersion && found.digest === functionsDigest) return;
    if (mode === "check") throw older(found);
    try {
      return await mapped(database.script(scriptFrom(found)));
    } catch (error) {
      const raced = error instanceof SchemaVersionError && error.code === "PH_SCHEMA_CHANGED";
      const locked = isLockTimeout(error);
      if (!(raced && attempt < 5) && !(locked && attempt < mostTries))
        throw error instanceof PosthornError ? error : failed(found, error);
      if (locked) await new Promise((resolve) => setTimeout(resolve, lockPauseMs));
    }
  }
}

/** What `ensureSchema` with "auto" would do. */
export interface MigrationPlan {
  /** 0 when there is no schema. */
  readonly from: number;
  readonly to: number;
  readonly migrations: readonly string[];
  /** Whether functions, views and grants would be replaced. */
  readonly functions: boolean;
  /** Everything in one transaction; empty when there is nothing to do. */
  readonly script: string;
}

/** Errors: as `ensureSchema`. */
export async function planMigration(database: Schemed): Promise<MigrationPlan> {
  await checkServer(database);
  const found = await findSchema(database);
  if (isNewer(found)) throw newer(found);
  const missing = migrations.filter(({ n }) => n > found.version).map(({ name }) => name);
  const functions = found.digest !== functionsDigest;
  const script = missing.length > 0 || functions ? scriptFrom(found) : "";
  return { from: found.version, to: schemaVersion, migrations: missing, functions, script };
}

/** The script that leads from what was found to what is needed; it checks first that nothing has changed since. */
function scriptFrom(found: Found): string {
  const missing = migrations.filter(({ n }) => n > found.version);
  return [
    // What a default or a view calls is bound when it is made: never to a namesake in a schema of somebody's search path.
    "set local search_path = pg_catalog;",
    "select pg_advisory_xact_lock(hashtextextended('posthorn:migrate', 0));",
    `set local lock_timeout = ${lockWaitMs};`,
    guard(found),
    // SQL functions may name each other in any order.
    "set local client_min_messages = warning; set local check_function_bodies = off;",
    found.version === 0 ? "create schema posthorn;" : "",
    ...missing.map(({ text }) => text),
    found.version === 0 ? "" : dropFunctions,
    ...bodies,
    "do $grant$ begin perform posthorn.grant_roles(); end $grant$;",
    ...missing.map(({ n, name }) => `insert into posthorn.migration (n, name) values (${n}, '${name}');`),
    `insert into posthorn.installation (functions_digest, library, oldest_library)
       values ('${functionsDigest}', '${libraryVersion}', '${oldestOnThisSchema}')
       on conflict (singleton) do update set functions_digest = excluded.functions_digest, library = excluded.library,
         oldest_library = excluded.oldest_library;`,
    found.version === 0 ? firstEpoch : "",
  ].join("\n");
}

function guard(found: Found): string {
  const condition =
    found.version === 0
      ? "to_regclass('posthorn.migration') is not null"
      : `(select max(n) from posthorn.migration) <> ${found.version}
         or (select functions_digest from posthorn.installation) is distinct from '${found.digest}'`;
  return `do $guard$ begin if ${condition} then raise exception 'the schema was changed by another process' using errcode = 'PH008'; end if; end $guard$;`;
}

/**
 * Functions of other code go first, whatever their parameters and results: an old overload would be called by whoever passes fewer
 * arguments. The public ones stay and are replaced, because rights may be granted on them; so do those that a view needs.
 */
const dropFunctions = `do $drop$ declare v_old regprocedure; begin
  for v_old in select oid from pg_proc where pronamespace = 'posthorn'::regnamespace
      and not (proname in ('send', 'publish') and proargtypes in ('25 114 25 114'::oidvector, '25 114 25 114 23'::oidvector,
        '25 114 25 114 114'::oidvector, '25 114 25 114 114 23'::oidvector))
      and not (proname = 'cancel' and proargtypes = '25 25'::oidvector) loop
    begin
      execute format('drop routine %s', v_old);
    exception when dependent_objects_still_exist then null;
    end;
  end loop;
end $drop$;`;

/** Whose log it is, from here on: the last step of the migration of an empty database. */
export const firstEpoch = `
insert into posthorn.epoch (n, system_identifier, database, first_id)
  select 1, system_identifier, (select oid from pg_database where datname = current_database()), 1 from pg_control_system();
insert into posthorn.ring (slots, slot, system_identifier, database, first_id)
  select '{1}', 1, system_identifier, database, first_id from posthorn.epoch;`;

async function findSchema(database: Pick<Database, "query">): Promise<Found> {
  const exists = await database.query<{ there: boolean }>(
    "select to_regclass('posthorn.migration') is not null as there",
  );
  if (exists.rows[0]?.there !== true) return nothing;
  const { rows } = await database.query<Found>(`select ${schemaFacts}`);
  return rows[0] ?? nothing;
}

/** A `Found` as columns and their FROM. The installation as JSON, because an older schema has fewer columns. */
export const schemaFacts = `(select coalesce(max(n), 0)::int from posthorn.migration) as version, i.row ->> 'functions_digest' as digest,
    i.row ->> 'library' as library, i.row ->> 'oldest_library' as oldest
  from (select (select to_jsonb(one) from posthorn.installation one) as row) i`;

const nothing: Found = { version: 0, digest: null, library: null, oldest: null };

/** Made by newer code. Of functions alone the version of the library tells: an older process must not put its own in place of newer ones. */
function isNewer({ version, digest, library }: Found): boolean {
  if (version !== schemaVersion) return version > schemaVersion;
  return digest !== functionsDigest && library !== null && compareVersions(library, libraryVersion) > 0;
}

function refuseUnfit(found: Found): void {
  if (found.oldest === null || compareVersions(found.oldest, libraryVersion) > 0) throw newer(found);
}

/** For a worker that runs while somebody migrates. Errors: PH_SCHEMA_NEWER where the schema does not work with this code any more. */
export async function refuseUnfitSchema(database: Pick<Database, "query">): Promise<void> {
  refuseUnfitFacts(await findSchema(database));
}

/** The same for what `schemaFacts` told beside something else. */
export function refuseUnfitFacts(found: Found): void {
  if (isNewer(found)) refuseUnfit(found);
}

async function checkServer(database: Schemed): Promise<void> {
  const { rows } = await database.query<{ version: number; encoding: string }>(
    "select current_setting('server_version_num')::int as version, current_setting('server_encoding') as encoding",
  );
  const server = rows[0];
  if (server === undefined) throw errorOf("PH_INTERNAL", "The server did not say its version.");
  if (server.version < oldestServer) {
    throw errorOf(
      "PH_DATABASE_UNSUITABLE",
      `PostgreSQL ${oldestServer / 10_000} or newer is needed; this server is ${Math.floor(server.version / 10_000)}. Upgrade it.`,
      { version: server.version },
    );
  }
  if (server.encoding !== "UTF8") {
    throw errorOf(
      "PH_DATABASE_UNSUITABLE",
      `The database has the encoding ${server.encoding}; payloads need UTF8. Create one with: create database … encoding 'UTF8' template template0.`,
      { encoding: server.encoding },
    );
  }
}

function failed(found: Found, cause: unknown): Error {
  const why = cause instanceof Error ? cause.message : String(cause);
  return errorOf(
    "PH_MIGRATION_FAILED",
    `The migration from version ${found.version} to ${schemaVersion} failed, and nothing was changed: ${clause(why)}. Mend what it names, for instance a missing right, and run it again.`,
    { found: found.version, needed: schemaVersion },
    cause,
  );
}

function older(found: Found): Error {
  if (found.version === 0) {
    return errorOf(
      "PH_SCHEMA_MISSING",
      'The database has no Posthorn schema. Run `await post.migrate()` once, or `posthorn migrate`, for instance when you deploy, or pass migrate: "auto".',
      { needed: schemaVersion },
    );
  }
  const what =
    found.version === schemaVersion ? "Its functions are not those" : `Its version ${found.version} is older than that`;
  return errorOf(
    "PH_SCHEMA_OLDER",
    `The Posthorn schema does not fit: ${what} of this code (${schemaVersion}). Run \`await post.migrate()\` once, or \`posthorn migrate\`, for instance when you deploy, or pass migrate: "auto".`,
    { found: found.version, needed: schemaVersion },
  );
}

function newer(found: Found): Error {
  const needs = found.oldest === null ? "" : ` and works with library ${found.oldest} and newer`;
  return errorOf(
    "PH_SCHEMA_NEWER",
    `The Posthorn schema has version ${found.version}${needs}; this code has ${schemaVersion}, and is library ${libraryVersion}. Deploy the newer code; a schema is never downgraded.`,
    { found: found.version, needed: schemaVersion, library: libraryVersion, oldestLibrary: found.oldest },
  );
}
