/**
 * A transaction on one pg client, opened and ended by the library.
 *
 * COMMIT is believed only when the server's command tag says so: a failed statement whose error was swallowed turns it into
 * ROLLBACK without an error. What is not certain is reported as lost, and the client is destroyed, never returned to the pool.
 */
import type { PoolClient } from "pg";
import type { OpenTransaction, Savepoints, Statement } from "../core/database.js";
import { DatabaseUnavailableError, TransactionEndedError } from "../core/errors.js";
import { openScope, runInScope, type Scope } from "./context.js";
import { databaseDefaults } from "./defaults.js";
import { Guard } from "./guard.js";
import type { PgConnection } from "./pg-connection.js";
import { guardPgClient } from "./pg-guard.js";

interface Parts {
  readonly client: PoolClient;
  readonly connection: PgConnection;
  readonly holder: object;
  readonly mark: string;
  readonly readOnly: boolean;
  readonly statementTimeoutMs: number;
  /** Gives the client back, or destroys it. */
  readonly release: (destroy: boolean) => void;
  /** Ends what runs on the client now. Never rejects. */
  readonly cancel: () => Promise<void>;
}

export class PgTransaction implements OpenTransaction<PoolClient> {
  readonly native: PoolClient;
  readonly mark: string;
  readonly #parts: Parts;
  readonly #guard = new Guard();
  readonly #scope: Scope;
  #ended = false;
  #lost = false;

  constructor(parts: Parts) {
    this.#parts = parts;
    this.mark = parts.mark;
    this.native = guardPgClient(parts, this.#guard);
    this.#scope = openScope(parts.holder, !parts.readOnly);
  }

  async query<Row = Record<string, unknown>>(text: string, params?: readonly unknown[]): Promise<{ rows: Row[] }> {
    if (this.#ended) throw new TransactionEndedError("PH_TRANSACTION_ENDED", "The transaction has ended already.");
    return this.#parts.connection.query<Row>(text, params, this.#parts.statementTimeoutMs);
  }

  run<T>(work: () => Promise<T>): Promise<T> {
    return runInScope(this.#scope, work);
  }

  onSavepoints(followed: Savepoints): void {
    this.#guard.onSavepoints(followed);
  }

  seal(): number {
    return this.#guard.seal();
  }

  get lost(): boolean {
    return this.#lost;
  }

  get notBegun(): Error | undefined {
    return this.#parts.connection.notBegun;
  }

  async commit<Row = Record<string, unknown>>(last?: Statement): Promise<readonly Row[]> {
    if (this.#ended) throw new TransactionEndedError("PH_TRANSACTION_ENDED", "The transaction has ended already.");
    this.#guard.seal();
    const { connection, statementTimeoutMs } = this.#parts;
    const goneBefore = connection.gone;
    try {
      const { rows, command } = await connection.commit<Row>(last, statementTimeoutMs);
      this.#end(false);
      if (command === "COMMIT") return rows;
    } catch (error) {
      const definite = !goneBefore && (await this.#answers());
      this.#end(!definite);
      if (definite) throw error;
      throw lostAround(error, !goneBefore);
    }
    throw new TransactionEndedError(
      "PH_TRANSACTION_ABORTED",
      "COMMIT was answered with ROLLBACK, so nothing of this transaction was stored: a statement had failed and its error was " +
        "swallowed. Let the error out, or use a savepoint around a statement that may fail.",
    );
  }

  async rollback(): Promise<void> {
    if (this.#ended) return;
    this.#guard.seal();
    this.#lost = this.#parts.connection.gone;
    if (!this.#parts.connection.opened) return this.#end(false);
    try {
      if (this.#guard.running > 0) await this.#parts.cancel();
      const { command } = await this.#parts.connection.script("rollback", databaseDefaults.rollbackTimeoutMs);
      this.#end(command !== "ROLLBACK");
    } catch {
      // A request that came to the server before the statement did has cancelled nothing. By now that runs, and would keep its locks to its end.
      if (this.#guard.running > 0) await this.#parts.cancel();
      // Whatever is wrong with the connection, ending it rolls back. The caller has its own error to report.
      this.#lost = true;
      this.#end(true);
    }
  }

  /**
   * After a failed COMMIT: a server that goes on answering has rolled the transaction back and said why. A connection that died
   * says nothing. The severity would tell, but pg has it only in the language of the server.
   */
  async #answers(): Promise<boolean> {
    try {
      await this.#parts.connection.script("rollback", databaseDefaults.rollbackTimeoutMs);
      return true;
    } catch {
      return false;
    }
  }

  #end(destroy: boolean): void {
    if (this.#ended) return;
    this.#ended = true;
    this.#scope.ended = true;
    this.#parts.release(destroy || this.#guard.running > 0);
  }
}

function lostAround(error: unknown, inCommit: boolean): DatabaseUnavailableError {
  return new DatabaseUnavailableError(
    "PH_DATABASE_LOST",
    inCommit
      ? "The connection was lost during COMMIT: the transaction may or may not be stored. Look before repeating it."
      : "The connection was lost before COMMIT: nothing of this transaction was stored. It may be repeated.",
    { inCommit },
    error,
  );
}
