/**
 * The embedded database seen from a process that does not hold it: every call goes through the holder's socket.
 *
 * A transaction and a listener have a connection of their own, whose end ends them. When the holder goes away, calls fail as
 * lost; the next call looks up the holder anew.
 */
import type {
  BeginOptions,
  Database,
  Listener,
  OpenTransaction,
  Savepoints,
  Session,
  Statement,
} from "../../core/database.js";
import { DatabaseUnavailableError, TransactionEndedError } from "../../core/errors.js";
import { isInside, openScope, refuseInside, runInScope, type Scope } from "../context.js";
import { Guard } from "../guard.js";
import { readOnlyForGood } from "../statements.js";
import type { SharedConnection } from "./connection.js";

/** What a transaction of another process can do. */
export interface SharedTx {
  query<Row = Record<string, unknown>>(text: string, params?: readonly unknown[]): Promise<{ rows: Row[] }>;
}

export class SharedDatabase implements Database<SharedTx> {
  readonly description: string;
  readonly single = true;
  readonly transactions = 1;
  readonly #connect: () => Promise<SharedConnection>;
  readonly #open = new Set<SharedConnection>();
  #main: Promise<SharedConnection> | undefined;
  #closed = false;

  constructor(description: string, connect: () => Promise<SharedConnection>) {
    this.description = description;
    this.#connect = connect;
  }

  insideTransaction(): boolean {
    return isInside(this);
  }

  async query<Row = Record<string, unknown>>(text: string, params?: readonly unknown[]): Promise<{ rows: Row[] }> {
    refuseInside(this, "query");
    return (await this.#mainConnection()).rows<Row>({ op: "query", text, params: params ?? [] });
  }

  async script(text: string): Promise<void> {
    refuseInside(this, "script");
    await (await this.#mainConnection()).request({ op: "script", text });
  }

  async begin({ readOnly = false }: BeginOptions = {}): Promise<OpenTransaction<SharedTx>> {
    refuseInside(this, "begin");
    const connection = await this.#ownConnection();
    try {
      const mark = String(await connection.request({ op: "begin" }));
      for (const text of readOnly ? readOnlyForGood : []) await connection.rows({ op: "tx", text, params: [] });
      return new SharedTransaction(this, connection, mark);
    } catch (error) {
      connection.end();
      throw error;
    }
  }

  async session(): Promise<Session> {
    const connection = await this.#ownConnection();
    return {
      query: async (text, params) => {
        refuseInside(this, "query");
        return connection.rows({ op: "query", text, params: params ?? [] });
      },
      lost: connection.lost,
      close: async () => connection.end(),
    };
  }

  async listen(channel: string, onNotify: (payload: string) => void): Promise<Listener | undefined> {
    refuseInside(this, "listen");
    const connection = await this.#ownConnection();
    connection.onNotify = onNotify;
    await connection.request({ op: "listen", channel });
    return {
      query: async (text, params) => connection.rows({ op: "query", text, params: params ?? [] }),
      lost: connection.lost,
      close: async () => connection.end(),
    };
  }

  async close(): Promise<void> {
    this.#closed = true;
    for (const connection of this.#open) connection.end();
    (await this.#main?.catch(() => undefined))?.end();
  }

  async #ownConnection(): Promise<SharedConnection> {
    if (this.#closed) throw new DatabaseUnavailableError("PH_DATABASE_AWAY", `${this.description} was closed.`);
    const connection = await this.#connect();
    this.#open.add(connection);
    connection.lost.then(() => this.#open.delete(connection));
    return connection;
  }

  async #mainConnection(): Promise<SharedConnection> {
    this.#main ??= this.#ownConnection();
    const opening = this.#main;
    const forget = () => {
      if (this.#main === opening) this.#main = undefined;
    };
    try {
      const connection = await opening;
      connection.lost.then(forget);
      return connection;
    } catch (error) {
      forget();
      throw error;
    }
  }
}

class SharedTransaction implements OpenTransaction<SharedTx> {
  readonly native: SharedTx;
  readonly mark: string;
  readonly #connection: SharedConnection;
  readonly #guard = new Guard();
  readonly #scope: Scope;
  #ended = false;

  constructor(database: SharedDatabase, connection: SharedConnection, mark: string) {
    this.mark = mark;
    this.#connection = connection;
    this.#scope = openScope(database);
    this.native = {
      query: <Row>(text: string, params?: readonly unknown[]) => {
        const refusal = this.#guard.admit(text);
        if (refusal !== undefined) return Promise.reject(refusal);
        return this.#guard.count(connection.rows<Row>({ op: "native", text, params: params ?? [] }));
      },
    };
  }

  query<Row = Record<string, unknown>>(text: string, params?: readonly unknown[]): Promise<{ rows: Row[] }> {
    return this.#connection.rows<Row>({ op: "tx", text, params: params ?? [] });
  }

  run<T>(work: () => Promise<T>): Promise<T> {
    return runInScope(this.#scope, work);
  }

  onSavepoints(followed: Savepoints): void {
    this.#guard.onSavepoints(followed);
  }

  get lost(): boolean {
    return this.#connection.gone;
  }

  readonly notBegun = undefined;

  seal(): number {
    return this.#guard.seal();
  }

  async commit<Row = Record<string, unknown>>(last?: Statement): Promise<readonly Row[]> {
    if (this.#ended) throw new TransactionEndedError("PH_TRANSACTION_ENDED", "The transaction has ended already.");
    this.#guard.seal();
    const { rows } = last === undefined ? { rows: [] } : await this.query<Row>(last.text, last.params);
    this.#end();
    const { gone } = this.#connection;
    try {
      await this.#connection.request({ op: "commit" });
    } catch (error) {
      if (!this.#connection.gone) throw error;
      throw new DatabaseUnavailableError(
        "PH_DATABASE_LOST",
        gone
          ? "The holder of the embedded database went away before COMMIT: nothing of this transaction was stored."
          : "The holder of the embedded database went away during COMMIT: the transaction may or may not be stored.",
        { inCommit: !gone },
        error,
      );
    } finally {
      this.#connection.end();
    }
    return rows;
  }

  async rollback(): Promise<void> {
    if (this.#ended) return;
    this.#end();
    try {
      await this.#connection.request({ op: "rollback" });
    } catch {
      // The end of the connection rolls back. The caller has its own error to report.
    }
    this.#connection.end();
  }

  #end(): void {
    this.#ended = true;
    this.#scope.ended = true;
    this.#guard.seal();
  }
}
