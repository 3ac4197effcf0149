/**
 * A connection of the library's own beside the caller's: for registering contracts, for wake-ups, for watching a caller's commit.
 * Opened when first needed and again after a loss. A database with one connection shares that one.
 */
import type { Database, Executor, Session } from "../core/database.js";
import { DatabaseUnavailableError, StoppedError } from "../core/errors.js";

export class Side implements Executor {
  readonly #database: Database;
  #session: Promise<Session> | undefined;
  #closed = false;

  constructor(database: Database) {
    this.#database = database;
  }

  async query<Row = Record<string, unknown>>(text: string, params?: readonly unknown[]): Promise<{ rows: Row[] }> {
    const opening = this.#open();
    const session = await opening;
    try {
      return await session.query<Row>(text, params);
    } catch (error) {
      // It stays with a server that is no primary any more; the next one is made to whoever has become one.
      if (error instanceof DatabaseUnavailableError && error.code === "PH_DATABASE_READ_ONLY") {
        if (this.#session === opening) this.#session = undefined;
        await session.close();
      }
      throw error;
    }
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
