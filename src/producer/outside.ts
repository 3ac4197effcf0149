/**
 * Tells of what the instance was asked for inside a transaction and is no part of it. It commits at once, and stays when the transaction
 * is rolled back. Once for each verb and contract, for it may be meant.
 */
import type { Database } from "../core/database.js";
import type { Logger } from "../core/logger.js";
import type { Checking } from "./checking.js";

export class Outside {
  readonly #logger: Pick<Logger, "warn">;
  readonly #told = new Set<string>();

  constructor(logger: Pick<Logger, "warn">) {
    this.#logger = logger;
  }

  /** Called when something will be written, and not before: what is refused says nothing. */
  tell(database: Database, { verb, contract: { name } }: Checking): void {
    const said = `${verb}(${name})`;
    if (!this.#isNew(database, said)) return;
    // The context has no verb for a list.
    const own = verb.replace(/Many$/, "");
    this.#logger.warn(
      `${said} of the instance was called inside a transaction and is no part of it: what it says commits at once, and stays when the transaction is rolled back. Call ${own} of the context that the function is given${own === verb ? "" : ", for each payload"}, or this one after the transaction`,
      { verb, contract: name },
    );
  }

  tellTransaction(database: Database): void {
    if (!this.#isNew(database, "transaction()")) return;
    this.#logger.warn(
      "transaction() was called inside a transaction and is one of its own: what it writes and says commits at once, and stays when the transaction around it is rolled back. Hand on tx, send and publish of that one, or call this one after it",
      { verb: "transaction" },
    );
  }

  #isNew(database: Database, said: string): boolean {
    if (this.#told.has(said) || !database.insideTransaction(true)) return false;
    this.#told.add(said);
    return true;
  }
}
