/**
 * The rules for a transaction that the user may use and the library alone may end, the same on every driver.
 *
 * A guard refuses statements that begin or end a transaction, follows savepoints, counts statements that are still running, and
 * refuses every use once it is sealed. The clients in pg-guard.ts, pglite-guard.ts and embedded/shared.ts ask it.
 */
import type { Savepoints } from "../core/database.js";
import { TransactionEndedError } from "../core/errors.js";
import { type Control, controlsIn } from "./statements.js";

export class Guard {
  #running = 0;
  #sealed = false;
  #followed: Savepoints | undefined;
  #savepoints: { readonly name: string; readonly mark: number }[] = [];

  get running(): number {
    return this.#running;
  }

  get sealed(): boolean {
    return this.#sealed;
  }

  seal(): number {
    this.#sealed = true;
    return this.#running;
  }

  onSavepoints(followed: Savepoints): void {
    this.#followed = followed;
  }

  /** Asked once before each statement: the error to refuse it with, or undefined when it may be sent now. */
  admit(sql: string | undefined): TransactionEndedError | undefined {
    if (this.#sealed) return this.afterEnd();
    const controls = sql === undefined ? [] : controlsIn(sql);
    for (const control of controls) if (control.does === "end") return this.notYours(control.statement);
    // Statements run in the order in which they are sent, so what was said before this moment belongs before the savepoint.
    for (const control of controls) this.#follow(control);
    return undefined;
  }

  afterEnd(): TransactionEndedError {
    return new TransactionEndedError(
      "PH_TRANSACTION_ENDED",
      "The transaction was used after its handler or callback had ended. Await every statement before it returns, and do not keep tx.",
    );
  }

  notYours(what: string): TransactionEndedError {
    return new TransactionEndedError(
      "PH_TRANSACTION_ENDED",
      `${what} was refused: Posthorn opened this transaction and ends it, so that effects and messages commit together. ` +
        "Throw to roll back, return to commit, and use SAVEPOINT and ROLLBACK TO SAVEPOINT for a part.",
      { statement: what },
    );
  }

  /** Counts one statement as running; the function that it returns ends it, once. */
  started(): () => void {
    this.#running++;
    let ended = false;
    return () => {
      if (ended) return;
      ended = true;
      this.#running--;
    };
  }

  /** Counts a statement until its promise settles. A statement that nobody awaited is found by the count, not by a crash. */
  count<T>(promise: Promise<T>): Promise<T> {
    const ended = this.started();
    promise.then(ended, ended);
    return promise;
  }

  #follow(control: Control): void {
    if (this.#followed === undefined || control.does === "end") return;
    if (control.does === "savepoint") {
      this.#savepoints.push({ name: control.name, mark: this.#followed.mark() });
      return;
    }
    // Of several with one name the newest counts; an unknown one fails on the server, and the transaction with it.
    const at = this.#savepoints.findLastIndex(({ name }) => name === control.name);
    const found = this.#savepoints[at];
    if (found === undefined) return;
    this.#savepoints.length = control.does === "release" ? at : at + 1;
    if (control.does === "rollback to") this.#followed.backTo(found.mark);
  }
}
