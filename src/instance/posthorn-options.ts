/** What `posthorn()` takes; checked by the fields in options.ts. */
import type { Logger } from "../core/logger.js";
import type { MigrateMode } from "../store/migrate.js";

export interface PosthornOptions<D> {
  /** The name of this service: owner of the events that it publishes, shown beside its workers. */
  readonly service: string;
  /** A `postgres://` URL, `embedded:<folder>`, a `pg.Pool` or a PGlite instance. */
  readonly database: D;
  /**
   * What to do when the schema is missing or older than this code.
   *
   * Default "auto" on an embedded database, "check" on a server.
   */
  readonly migrate?: MigrateMode;
  /**
   * What stands between here and a PostgreSQL server. "none", also for a pooler in session mode: every connection has a session. "transaction", for
   * PgBouncer, Supavisor, Neon and others in transaction mode: workers poll, and are known to be dead by their heartbeats alone.
   *
   * Default "none". Errors: a pooler in transaction mode that was not said is refused (PH_DATABASE_POOLED).
   */
  readonly pooler?: "none" | "transaction";
  /**
   * The schema of this installation in its database. Installations in other schemas share nothing with it: not queues of the same name, nor locks,
   * wake-ups or roles.
   *
   * Default "posthorn". Errors: `ConfigurationError` (PH_NAME_INVALID) for what cannot be a name without quotes.
   */
  readonly schema?: string;
  /** Default: warnings and errors to the console. */
  readonly logger?: Logger;
  /**
   * How long a statement of the library may take. Too small and a busy server is given up; too large and a connection that no longer answers goes
   * unnoticed for so long. Your own statements in `tx` are not bounded by it.
   *
   * Default 30000. Range 100 to 3600000.
   */
  readonly statementTimeoutMs?: number;
  /**
   * Without a heartbeat for so long, a worker of this process counts as dead. Too small and a busy process is taken for a dead
   * one; too large and the messages of a stopped one wait.
   *
   * Default 15000. Range 1000 to 600000.
   */
  readonly workerTimeoutMs?: number;
  /**
   * How many handlers may lie between a message that a handler says and the message that began it. What lies further is refused with the names of
   * the chain. Too small and long chains fail; too large and handlers that cause each other's messages in a ring go on for long.
   *
   * Default 100. Range 1 to 100000.
   */
  readonly causationLimit?: number;
  /**
   * What is kept of the log. One for the fleet: the newest start that says it wins, and a process without it leaves what others said.
   *
   * Default: 7 days and 10 GiB, whichever ends first.
   */
  readonly retention?: RetentionOptions;
}

export interface RetentionOptions {
  /**
   * How long messages that have ended stay in the log, for status, `why` and history. `maxBytes` may end it sooner.
   *
   * Default 604800000. Range 60000 to 315360000000.
   */
  readonly keepMs?: number;
  /**
   * Above so many bytes the oldest ended messages go before `keepMs` is over; never what waits or runs, nor what a topic keeps.
   *
   * Default 10737418240. Range 67108864 to 70368744177664.
   */
  readonly maxBytes?: number;
}
