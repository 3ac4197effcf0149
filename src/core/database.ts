/**
 * What Posthorn needs of a database, and nothing of who provides it.
 *
 * `Executor` is the shape that a `pg` client, a PGlite instance and a PGlite transaction have already. `Database` is made by one
 * file per driver in src/databases; only src/store sends SQL through it. All library SQL is one statement per call, `$n` cast
 * once, lists as one JSON text, 64-bit numbers and times read back as text or numbers: every driver returns the same.
 */

export interface Executor {
  query<Row = Record<string, unknown>>(text: string, params?: readonly unknown[]): Promise<{ rows: Row[] }>;
}

export interface Statement {
  readonly text: string;
  readonly params?: readonly (string | number | null)[];
}

/** One connection that the library keeps for itself. On a database with a single connection it shares that one. */
export interface Session extends Executor {
  /** Settles when the connection is gone, expectedly (undefined) or not (the error). Never rejects. */
  readonly lost: Promise<Error | undefined>;
  close(): Promise<void>;
}

/** Something that goes back with the transaction to a savepoint. */
export interface Savepoints {
  mark(): number;
  backTo(mark: number): void;
}

/**
 * A transaction that the library opened and alone may end.
 *
 * `native` is what the user gets as `tx`: their own client, guarded. It refuses statements that end the transaction, counts
 * statements that are still running, and refuses everything once `seal` was called.
 */
export interface OpenTransaction<Tx = unknown> extends Executor {
  readonly native: Tx;
  /**
   * A number as text that the server forgets with this transaction, so that one that was ended and begun again is told apart. Empty where it
   * was not asked for.
   */
  readonly mark: string;
  /**
   * Runs the user's part. Calls from inside that would wait for this transaction (one connection) are refused instead of hanging.
   * Code that runs on after the transaction has ended is no longer inside.
   */
  run<T>(work: () => Promise<T>): Promise<T>;
  /**
   * Has the user's savepoints followed: `mark` is called at each SAVEPOINT, `backTo` with its mark at ROLLBACK TO it, so that what
   * was buffered since then goes as well.
   */
  onSavepoints(followed: Savepoints): void;
  /** From here on `native` refuses every use. Returns the number of the user's statements that are still running. */
  seal(): number;
  /**
   * Commits, and believes it only when the server's command tag says COMMIT; otherwise PH_TRANSACTION_ABORTED. `last` is a statement that goes
   * before it, in the same round trip where the driver can; its error is thrown, and nothing is committed. Returns its rows, whose columns
   * must be text.
   */
  commit<Row = Record<string, unknown>>(last?: Statement): Promise<readonly Row[]>;
  /** Never throws; safe to call twice and after a lost connection. */
  rollback(): Promise<void>;
  /** Whether the connection was lost, which is certain after `rollback`. Then every statement has failed, whatever its error says. */
  readonly lost: boolean;
  /** Why it could not even be begun, which shows with its first statement: then none has run. */
  readonly notBegun: Error | undefined;
}

export interface Listener {
  /** Settles when the listening connection is gone. Never rejects. */
  readonly lost: Promise<Error | undefined>;
  /** Statements on the listening connection, for the session lock that says "this worker lives". */
  query: Executor["query"];
  close(): Promise<void>;
}

export interface BeginOptions {
  /** For handlers: the server ends the transaction when its client is silent for so long; one of a stopped process must not hold its locks for ever. */
  readonly idleMs?: number;
  /** Whether `mark` is needed; it is one more statement. Default true. */
  readonly marked?: boolean;
  /** Refuses statements that write. Default false. */
  readonly readOnly?: boolean;
}

export interface Database<Tx = unknown> extends Executor {
  /** For messages and telemetry; holds no password. */
  readonly description: string;
  /** One connection for everybody (PGlite): a transaction that is left open blocks all, and there are no session locks. */
  readonly single: boolean;
  /** How many handler transactions may be open at once. */
  readonly transactions: number;
  /**
   * True when the caller runs inside `OpenTransaction.run` of a transaction on this database that has not ended. With `writing`, only of one that
   * was not begun `readOnly`; where one connection is for everybody, the two are the same.
   */
  insideTransaction(writing?: boolean): boolean;
  /** Several statements, no parameters, one transaction: migrations. */
  script(sql: string): Promise<void>;
  /** The server may begin it only with the first statement. */
  begin(options?: BeginOptions): Promise<OpenTransaction<Tx>>;
  session(): Promise<Session>;
  /** Undefined where a session cannot listen. `onNotify` must not throw. */
  listen(channel: string, onNotify: (payload: string) => void): Promise<Listener | undefined>;
  /** Ends what this library opened; a pool or instance that the user passed in stays open. */
  close(): Promise<void>;
}
