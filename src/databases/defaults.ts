/** Every default and limit of the connections: one name, one number, one place. Milliseconds unless the name says otherwise. */
export const databaseDefaults = {
  /** How long a statement of the library may take. */
  statementTimeoutMs: 30_000,
  /** How much longer than the server's own limit the client waits before it gives the connection up. */
  statementGraceMs: 2_000,
  /** How long a migration script may take. */
  scriptTimeoutMs: 600_000,
  /** How long connecting, or waiting for a free connection of a pool, may take. */
  connectTimeoutMs: 10_000,
  /** How long ending a connection may take before it is cut. */
  closeTimeoutMs: 2_000,
  /** How long ROLLBACK may wait for a statement that is still running. */
  rollbackTimeoutMs: 5_000,
  /** Connections of the pool that is made for a URL. */
  poolSize: 10,
  /** Silence on a connection before the first TCP keepalive probe. */
  keepAliveMs: 10_000,
  /** The same for the listening connection, whose end means that a worker is dead. */
  listenerKeepAliveMs: 3_000,
  /** How long to wait before a look at who holds an embedded database is repeated. */
  lookAgainMs: 20,
  /** Bytes of a path that a unix socket can have on every system. */
  socketPathBytes: 100,
  /** Bytes of one request or answer on the socket of an embedded database. */
  socketLineBytes: 268_435_456,
  /** Connections of other processes to an embedded database. */
  socketConnections: 64,
  /** How long another process may be silent in a transaction, during which the holder waits. */
  socketIdleTransactionMs: 10_000,
  /** How long to look for whether a pooler shares connections; a pooler that has none left answers later, and then nothing is known. */
  poolerLookMs: 2_000,
} as const;

export interface DatabaseOptions {
  /**
   * The name that the server shows for the library's own connections.
   *
   * Default "posthorn".
   */
  readonly applicationName?: string;
  /**
   * How long a statement of the library may take. Too small fails healthy statements on a busy server; too large leaves a
   * half-open connection undetected for that long.
   *
   * Default 30000. Range 100 to 3600000.
   */
  readonly statementTimeoutMs?: number;
  /**
   * What to do when another process holds the folder of an embedded database: "own" is refused, "share" runs its statements
   * through the socket of the holder.
   *
   * Default "own".
   */
  readonly embedded?: "own" | "share";
  /**
   * What stands between here and a PostgreSQL server: "none" gives every connection a session of its own, as the server itself and poolers in session
   * mode do; "transaction" gives one for each transaction.
   *
   * Default "none".
   */
  readonly pooler?: Pooler;
}

/** Whether connections have sessions of their own. */
export type Pooler = "none" | "transaction";

export interface Settings {
  readonly applicationName: string;
  readonly statementTimeoutMs: number;
  readonly embedded: "own" | "share";
  readonly pooler: Pooler;
}
