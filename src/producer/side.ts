/**
 * A connection of the library's own beside the caller's: for registering contracts, for wake-ups, for watching a caller's commit.
 * Opened when first needed and again after a loss. A database with one connection shares that one.
 */
import type { Database, Executor, Session } from "../core/database.js";
import { StoppedError } from "../core/errors.js";

export class Side implements Executor {
  readonly #database: Database;
  #session: Promise<Session> | undefined;
  #closed = false;

  constructor(database: Database) {
    this.#database = database;
  }

  async query<Row = Record<string, unknown>>(text: string, params?: readonly unknown[]): Promise<{ rows: Row[] }> {
    const session = await this.#open();
    return session.query<Row>(text, params);
  }

  #open(): Promise<Session> {
    if (this.#closed) throw new StoppedError("PH_STOPPED", "The instance was stopped; make a new one to go on.");
    if (this.#session !== undefined) return this.#session;
    const opening = this.#database.session();
    this.#session = opening;
    const forget = (): void => {
      if (this.#session === opening) this.#session = undefined;
    };
    opening.then((session) => session.lost.then(forget), forget);
    return opening;
  }

  async close(): Promise<void> {
    this.#closed = true;
    const session = await this.#session?.catch(() => undefined);
    await session?.close();
  }
}
