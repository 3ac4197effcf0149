/**
 * A transaction on PGlite, opened and ended by the library. PGlite offers a callback; here it becomes begin and end.
 *
 * PGlite does not say whether COMMIT was answered with ROLLBACK, so a probe runs before it: in a transaction that has failed
 * every statement fails with 25P02.
 */
import type { PGlite, Transaction } from "@electric-sql/pglite";
import type { BeginOptions, OpenTransaction, Savepoints, Statement } from "../core/database.js";
import { TransactionEndedError } from "../core/errors.js";
import { openScope, runInScope, type Scope } from "./context.js";
import { sqlStateOf } from "./errors.js";
import { Guard } from "./guard.js";
import { pgliteParsers } from "./parsers.js";
import { guardPgliteTransaction } from "./pglite-guard.js";
import { readOnlyForGood } from "./statements.js";

type Ending = "commit" | "rollback";

export class PgliteTransaction implements OpenTransaction<Transaction> {
  readonly native: Transaction;
  readonly mark: string;
  readonly #transaction: Transaction;
  readonly #guard = new Guard();
  readonly #scope: Scope;
  readonly #end: (how: Ending) => Promise<void>;
  readonly #typed: (error: unknown) => Error;
  #ended = false;

  private constructor(
    pglite: PGlite,
    transaction: Transaction,
    mark: string,
    end: (how: Ending) => Promise<void>,
    typed: (error: unknown) => Error,
  ) {
    this.#transaction = transaction;
    this.mark = mark;
    this.#end = end;
    this.#typed = typed;
    this.native = guardPgliteTransaction(transaction, this.#guard);
    this.#scope = openScope(pglite);
  }

  /** `take` is asked when the turn has come; when it says no, the transaction ends empty and nobody waits for the result. */
  static open(
    pglite: PGlite,
    { readOnly = false, marked = true }: BeginOptions,
    take: () => boolean,
    typed: (error: unknown) => Error,
  ): Promise<PgliteTransaction> {
    return new Promise((resolve, reject) => {
      let choose: (how: Ending) => void = () => {};
      const chosen = new Promise<Ending>((settle) => {
        choose = settle;
      });
      const done = pglite.transaction(async (transaction) => {
        if (!take()) return;
        if (readOnly) await transaction.exec(readOnlyForGood.join("; "));
        const mark = marked ? "select extract(epoch from now())::text as now" : undefined;
        const rows = mark === undefined ? [] : (await transaction.query<{ now: string }>(mark)).rows;
        const end = async (how: Ending) => {
          choose(how);
          await done;
        };
        resolve(new PgliteTransaction(pglite, transaction, rows[0]?.now ?? "", end, typed));
        if ((await chosen) === "rollback") await transaction.rollback();
      });
      // After `resolve` this changes nothing: `end` reports how the transaction ended.
      done.catch(reject);
    });
  }

  async query<Row = Record<string, unknown>>(sql: string, params?: readonly unknown[]): Promise<{ rows: Row[] }> {
    if (this.#ended) throw new TransactionEndedError("PH_TRANSACTION_ENDED", "The transaction has ended already.");
    try {
      const values = params === undefined ? [] : [...params];
      const { rows } = await this.#transaction.query<Row>(sql, values, { parsers: { ...pgliteParsers } });
      return { rows };
    } catch (error) {
      throw this.#typed(error);
    }
  }

  run<T>(work: () => Promise<T>): Promise<T> {
    return runInScope(this.#scope, work);
  }

  onSavepoints(followed: Savepoints): void {
    this.#guard.onSavepoints(followed);
  }

  /** There is no connection but the process itself. */
  readonly lost = false;
  readonly notBegun = undefined;

  seal(): number {
    return this.#guard.seal();
  }

  async commit<Row = Record<string, unknown>>(last?: Statement): Promise<readonly Row[]> {
    if (this.#ended) throw new TransactionEndedError("PH_TRANSACTION_ENDED", "The transaction has ended already.");
    this.#guard.seal();
    let rows: readonly Row[];
    try {
      const { text, params = [] } = last ?? { text: "select 1" };
      ({ rows } = await this.#transaction.query<Row>(text, [...params], { parsers: { ...pgliteParsers } }));
    } catch (error) {
      await this.rollback();
      if (sqlStateOf(error) !== "25P02") throw this.#typed(error);
      throw new TransactionEndedError(
        "PH_TRANSACTION_ABORTED",
        "Nothing of this transaction was stored: a statement had failed and its error was swallowed. Let the error out, or use a " +
          "savepoint around a statement that may fail.",
      );
    }
    this.#ended = true;
    this.#scope.ended = true;
    try {
      await this.#end("commit");
    } catch (error) {
      throw this.#typed(error);
    }
    return last === undefined ? [] : rows;
  }

  async rollback(): Promise<void> {
    if (this.#ended) return;
    this.#ended = true;
    this.#scope.ended = true;
    this.#guard.seal();
    try {
      await this.#end("rollback");
    } catch {
      // The instance is closed or broken; what was not committed is gone. The caller has its own error to report.
    }
  }
}
