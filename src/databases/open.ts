/**
 * Opens whatever a user calls their database: a URL, a pool, a PGlite instance or a folder.
 *
 * Drivers are loaded here and when they are needed; nothing is loaded at import time.
 */
import type { Database } from "../core/database.js";
import { ConfigurationError } from "../core/errors.js";
import { loadPeer } from "../core/peer.js";
import { type DatabaseOptions, databaseDefaults, type Settings } from "./defaults.js";
import { openEmbedded } from "./embedded/open.js";
import { PgDatabase } from "./pg.js";
import { PgliteDatabase } from "./pglite.js";
import { isPglite, isPgPool } from "./shapes.js";

/** What a handler's `tx` can do when the database is given as text: the common part of all drivers. */
export interface Sql {
  query<Row = Record<string, unknown>>(text: string, params?: readonly unknown[]): Promise<{ rows: Row[] }>;
}

/** The shape of a `pg.Pool`, without importing pg. */
export interface PoolShape {
  connect(): Promise<unknown>;
  end(): Promise<void>;
  readonly totalCount: number;
}

/** The shape of a PGlite instance, without importing it. */
export interface PgliteShape {
  transaction<T>(work: (tx: unknown) => Promise<T>): Promise<T>;
  exec(sql: string): Promise<unknown>;
  readonly closed: boolean;
}

/** A `postgres://` URL, `embedded:<folder>`, a `pg.Pool` or a PGlite instance. */
export type DatabaseInput = string | PoolShape | PgliteShape;

/**
 * The type of `tx` for a database.
 *
 * PGlite is asked first: `PGlite.create()` gives a type that matches a pool as well. `pg.Pool.connect` is overloaded: without the
 * two-signature pattern it infers `unknown`.
 */
export type TxOf<D> = D extends string
  ? Sql
  : D extends { transaction<T>(work: (tx: infer X) => Promise<T>): Promise<T> }
    ? X
    : D extends { connect(): Promise<infer C>; connect(callback: (...args: never[]) => void): void }
      ? C
      : D extends { connect(): Promise<infer C> }
        ? C
        : Sql;

export type { DatabaseOptions } from "./defaults.js";

const acceptedInputs =
  "Accepted are a postgres:// or postgresql:// URL, embedded:<folder>, a pg.Pool, and a PGlite instance.";

/**
 * Whoever bundles an application has only one of the drivers: a bundler leaves an import that is caught to the run, and fails over another.
 */
const atRun = (error: unknown): never => {
  throw error;
};

function settingsOf(options: DatabaseOptions): Settings {
  const statementTimeoutMs = options.statementTimeoutMs ?? databaseDefaults.statementTimeoutMs;
  if (!Number.isInteger(statementTimeoutMs) || statementTimeoutMs < 100 || statementTimeoutMs > 3_600_000) {
    throw new ConfigurationError(
      "PH_OPTION_INVALID",
      "statementTimeoutMs must be a whole number from 100 to 3600000. Leave it out for the default.",
      { option: "statementTimeoutMs" },
    );
  }
  const embedded = options.embedded ?? "own";
  if (embedded !== "own" && embedded !== "share") {
    throw new ConfigurationError("PH_OPTION_INVALID", 'embedded must be "own" or "share". Leave it out for "own".', {
      option: "embedded",
    });
  }
  return {
    statementTimeoutMs,
    applicationName: options.applicationName ?? "posthorn",
    embedded,
    pooler: options.pooler ?? "none",
  };
}

/** A database in this process has no pooler before it. */
function refusePooler({ pooler }: Settings): void {
  if (pooler === "none") return;
  throw new ConfigurationError(
    "PH_OPTION_INVALID",
    `pooler: "${pooler}" is for a PostgreSQL server; this database is in this process. Leave it out.`,
    { option: "pooler" },
  );
}

async function openUrl(url: string, settings: Settings): Promise<Database> {
  try {
    new URL(url);
  } catch {
    // The text itself may hold a password.
    throw new ConfigurationError("PH_OPTION_INVALID", `database is not a valid URL. ${acceptedInputs}`, {
      option: "database",
    });
  }
  if (url.includes("#")) {
    // Everything behind it would be ignored, and a part of the password could be taken for the host.
    throw new ConfigurationError(
      "PH_OPTION_INVALID",
      "database has a # in its URL. Percent-encode the password, with %23 for #, %40 for @ and %2F for /.",
      { option: "database" },
    );
  }
  const { Pool } = await loadPeer("pg", "this database", () => import("pg").catch(atRun));
  const pool = new Pool({
    connectionString: url,
    max: databaseDefaults.poolSize,
    connectionTimeoutMillis: databaseDefaults.connectTimeoutMs,
    keepAlive: true,
    keepAliveInitialDelayMillis: databaseDefaults.keepAliveMs,
    application_name: settings.applicationName,
  });
  try {
    return new PgDatabase(pool, true, settings);
  } catch (error) {
    throw new ConfigurationError(
      "PH_OPTION_INVALID",
      "The database URL has a parameter that the driver cannot use, for instance a certificate file that does not exist.",
      { option: "database" },
      error,
    );
  }
}

function openText(input: string, settings: Settings): Promise<Database> {
  if (/^postgres(ql)?:\/\//.test(input)) return openUrl(input, settings);
  if (input.startsWith("embedded:")) {
    refusePooler(settings);
    return openEmbedded(input.slice("embedded:".length), settings, () =>
      loadPeer("@electric-sql/pglite", "this database", () => import("@electric-sql/pglite").catch(atRun)),
    );
  }
  // The text is not repeated: it may hold a password.
  throw new ConfigurationError("PH_OPTION_INVALID", `database is a text of an unknown form. ${acceptedInputs}`, {
    option: "database",
  });
}

/**
 * Opens a database. It connects when it is first used; an embedded folder is opened and held at once.
 *
 * Errors: `ConfigurationError` for what is not accepted, and (PH_PEER_MISSING) for a driver that is not installed; `EmbeddedHeldError` when another process
 * holds the folder.
 */
export function openDatabase<const D extends DatabaseInput>(
  input: D,
  options?: DatabaseOptions,
): Promise<Database<TxOf<D>>>;
export async function openDatabase(input: unknown, options: DatabaseOptions = {}): Promise<Database> {
  const settings = settingsOf(options);
  if (typeof input === "string") return openText(input, settings);
  if (isPgPool(input)) return new PgDatabase(input, false, settings);
  if (isPglite(input)) {
    refusePooler(settings);
    const where = input.dataDir === undefined ? "in memory" : `at ${input.dataDir}`;
    return new PgliteDatabase(input, `PGlite ${where}`, settings);
  }
  throw new ConfigurationError("PH_OPTION_INVALID", `database is of an unknown kind. ${acceptedInputs}`, {
    option: "database",
  });
}
