/**
 * Databases made once per test run, of which tests get copies: a migrated database on the server of the run; a PGlite with and without
 * the schema, as dumps; the folder of an embedded database with the schema.
 *
 * To make and migrate a database costs more than most tests. A copy differs in nothing but its name: the first epoch, which names
 * its database, is written into each copy by the statement that every migration of an empty database ends with.
 */
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setFlagsFromString } from "node:v8";
import { PGlite } from "@electric-sql/pglite";
import { Client } from "pg";
import { openDatabase } from "../../src/databases/open.js";
import { ensureSchema } from "../../src/store/migrate.js";
import { shortLived } from "./node-options.js";

/** The name of the migrated database on the server of the test run. Nobody connects to it; it belongs to no log yet. */
export const migratedName = "posthorn_migrated";

/** Makes `migratedName` on the server that `url` leads to. */
export async function makeMigrated(url: string): Promise<void> {
  const own = new URL(url);
  own.pathname = `/${migratedName}`;
  await asAdmin(url, `create database ${migratedName} template template0 encoding 'UTF8'`);
  const database = await openDatabase(own.href);
  await ensureSchema(database, "auto");
  await database.close();
  // Truncated, not deleted: a copy has no dead rows either.
  await asAdmin(own.href, "truncate posthorn.ring, posthorn.epoch");
  await asAdmin(url, `alter database ${migratedName} allow_connections false`);
}

export interface PgliteTemplates {
  /** Dumps, for `loadDataDir`. */
  readonly empty: string;
  readonly migrated: string;
  /** What `embedded:` opens. */
  readonly folder: string;
}

export async function makePglites(): Promise<{ readonly made: PgliteTemplates; remove(): Promise<void> }> {
  const parent = await mkdtemp(join(tmpdir(), "posthorn-pglite-"));
  const made = {
    empty: join(parent, "empty.tar"),
    migrated: join(parent, "migrated.tar"),
    folder: join(parent, "folder"),
  };
  // This process was not started by us, and compiles nothing else of that kind.
  for (const option of shortLived) setFlagsFromString(option);
  const pglite = await PGlite.create();
  await save(await pglite.dumpDataDir("none"), made.empty);
  const database = await openDatabase(pglite);
  await ensureSchema(database, "auto");
  const migrated = await pglite.dumpDataDir("none");
  await database.close();
  await pglite.close();
  await save(migrated, made.migrated);
  await mkdir(join(made.folder, "data"), { recursive: true, mode: 0o700 });
  await (await PGlite.create(join(made.folder, "data"), { loadDataDir: migrated })).close();
  return { made, remove: () => rm(parent, { recursive: true, force: true }) };
}

async function save(dump: Blob, file: string): Promise<void> {
  await writeFile(file, new Uint8Array(await dump.arrayBuffer()));
}

async function asAdmin(connectionString: string, statement: string): Promise<void> {
  const client = new Client({ connectionString });
  await client.connect();
  try {
    await client.query(statement);
  } finally {
    await client.end();
  }
}
