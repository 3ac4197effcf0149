/** Opens the database that a command works on: that of --database, else that of the configuration. */
import { stat } from "node:fs/promises";
import { join, resolve } from "node:path";
import type { Database } from "../core/database.js";
import { ConfigurationError, PosthornError } from "../core/errors.js";
import { type DatabaseInput, type DatabaseOptions, openDatabase } from "../databases/open.js";
import { ensureSchema } from "../store/migrate.js";
import { checkSchema, databaseIn, defaultSchema } from "../store/schema.js";
import { loadConfig } from "./config.js";
import { type Line, text } from "./parse.js";

const prefix = "embedded:";

/** Runs `work` on the database and closes it. Beside a running application on the embedded database it goes through its socket. */
export async function withDatabase<T>(line: Line, work: (database: Database) => Promise<T>): Promise<T> {
  return withOpened(await placeOf(line), async (database) => {
    await ensureSchema(database, "check");
    return work(database);
  });
}

/**
 * As `withDatabase`, for what only reads: a connection that is lost meanwhile leaves nothing in doubt, so it is asked once more. Where the process that held
 * the embedded folder has ended, that is done without it.
 */
export async function reading<T>(line: Line, work: (database: Database) => Promise<T>): Promise<T> {
  try {
    return await withDatabase(line, work);
  } catch (error) {
    if (!isGone(error)) throw error;
    return await withDatabase(line, work);
  }
}

/** A server that is away is not asked again; a folder that nobody holds any more is opened. */
function isGone(error: unknown): boolean {
  if (!(error instanceof PosthornError)) return false;
  return (
    error.code === "PH_DATABASE_LOST" ||
    (error.code === "PH_DATABASE_AWAY" && String(error.facts.database).startsWith(prefix))
  );
}

/** Nothing is made but by `migrate`: a mistyped folder must not become an empty database. */
export async function withOpened<T>(
  { input, schema }: Place,
  work: (database: Database) => Promise<T>,
  make = false,
  options: DatabaseOptions = {},
): Promise<T> {
  if (!make) await refuseMissing(input);
  const opened = await openDatabase(input, { applicationName: "posthorn cli", embedded: "share", ...options });
  const database = databaseIn(schema, opened);
  try {
    return await work(database);
  } finally {
    await database.close();
  }
}

/** A database, and the schema of the installation in it. */
export interface Place {
  readonly input: DatabaseInput;
  readonly schema: string;
}

export function schemaOf(line: Line): string | undefined {
  const named = text(line, "schema");
  return named === undefined ? undefined : checkSchema(named, "--schema");
}

export async function placeOf(line: Line): Promise<Place> {
  const wanted = schemaOf(line);
  const given = text(line, "database");
  if (given !== undefined) return { input: checkedUrl(given, "database"), schema: wanted ?? defaultSchema };
  const { file, post } = await loadConfig(text(line, "config"));
  const { database, schema = defaultSchema } = post["~posthorn"];
  if (wanted !== undefined) refuseOtherSchema(wanted, schema, file);
  if (database !== undefined) return { input: database, schema };
  throw new ConfigurationError("PH_CONFIG_MISSING", `${file} names no database. Pass --database <url>.`, { file });
}

/** The schema of a configuration is its own. */
export function refuseOtherSchema(wanted: string, schema: string, file: string): void {
  if (wanted === schema) return;
  throw new ConfigurationError(
    "PH_ARGUMENT_INVALID",
    `--schema ${wanted} and ${file}, which works in the schema ${schema}, disagree. Leave --schema out, or pass --database.`,
    { file },
  );
}

/** The text is not repeated: it may hold a password. */
export function checkedUrl(given: string, option: string): string {
  if (/^postgres(ql)?:\/\//.test(given)) return given;
  if (given.startsWith(prefix) && given.length > prefix.length)
    return `${prefix}${resolve(given.slice(prefix.length))}`;
  throw new ConfigurationError("PH_ARGUMENT_INVALID", `--${option} must be a postgres:// URL or embedded:<folder>.`);
}

async function refuseMissing(input: DatabaseInput): Promise<void> {
  if (typeof input !== "string" || !input.startsWith(prefix)) return;
  const folder = resolve(input.slice(prefix.length));
  const there = await stat(join(folder, "data")).catch(() => undefined);
  if (there?.isDirectory()) return;
  throw new ConfigurationError(
    "PH_CONFIG_MISSING",
    `There is no embedded database in ${folder}. Start the application once, run posthorn migrate, or correct the folder.`,
    { folder },
  );
}
