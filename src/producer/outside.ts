/**
 * Tells of a verb of the instance that was called inside a transaction: its messages are no part of it. They commit at once, and stay
 * when the transaction is rolled back. Once for each verb and contract, for it may be meant.
 */
import type { Logger } from "../core/logger.js";
import type { Checking } from "./checking.js";

export class Outside {
  readonly #logger: Pick<Logger, "warn">;
  readonly #told = new Set<string>();

  constructor(logger: Pick<Logger, "warn">) {
    this.#logger = logger;
  }

  tell({ verb, contract: { name } }: Checking): void {
    const said = `${verb}(${name})`;
    if (this.#told.has(said)) return;
    this.#told.add(said);
    this.#logger.warn(
      `${said} of the instance was called inside a transaction and is no part of it: what it says commits at once, and stays when the transaction is rolled back. Call ${verb} of the context that the function is given, or this one after the transaction`,
      { verb, contract: name },
    );
  }
}
