/**
 * PGlite: PostgreSQL inside the process, with one connection for everybody.
 *
 * PGlite's own mutex orders statements and transactions. What that mutex cannot do is done here: a statement does not wait for
 * ever and is certainly not run after its caller was told so; a call from inside a transaction that would wait for that
 * transaction is refused; a statement does not land in a transaction that the user began by hand.
 */
import type { PGlite, QueryOptions, Transaction } from "@electric-sql/pglite";
import type { BeginOptions, Database, Listener, OpenTransaction, Session } from "../core/database.js";
import { DatabaseUnavailableError } from "../core/errors.js";
import { isInside, refuseInside } from "./context.js";
import type { Settings } from "./defaults.js";
import { databaseError } from "./errors.js";
import { pgliteParsers } from "./parsers.js";
import { PgliteTransaction } from "./pglite-transaction.js";

/** A place in PGlite's queue. It can be given up until its turn comes, never afterwards. */
class Turn {
  #state: "waiting" | "taken" | "expired" = "waiting";
  readonly #timer: NodeJS.Timeout | undefined;

  /** `timeoutMs` may be Infinity: then it waits as long as it takes. */
  constructor(timeoutMs: number, expire: (error: Error) => void) {
    if (timeoutMs === Number.POSITIVE_INFINITY) return;
    this.#timer = setTimeout(() => {
      if (this.#state !== "waiting") return;
      this.#state = "expired";
      expire(
        new DatabaseUnavailableError(
          "PH_DATABASE_BUSY",
          `The only connection of the embedded database was in use for ${timeoutMs} ms, so the statement was not run. ` +
            "Keep transactions short, and do not call the library from inside a transaction that it did not open.",
          { timeoutMs },
        ),
      );
    }, timeoutMs);
  }

  /** False when the caller has been told already that it will not run. */
  take(): boolean {
    clearTimeout(this.#timer);
    if (this.#state === "waiting") this.#state = "taken";
    return this.#state === "taken";
  }
}

class Expired extends Error {}

export class PgliteDatabase implements Database<Transaction> {
  readonly description: string;
  readonly single = true;
  readonly transactions = 1;
  readonly #pglite: PGlite;
  readonly #settings: Settings;
  readonly #onClose: () => Promise<void>;
  #closing: Promise<void> | undefined;

  /** `onClose` ends what belongs to the library: nothing for an instance of the user. */
  constructor(pglite: PGlite, description: string, settings: Settings, onClose: () => Promise<void> = async () => {}) {
    this.#pglite = pglite;
    this.description = description;
    this.#settings = settings;
    this.#onClose = onClose;
  }

  insideTransaction(): boolean {
    return isInside(this.#pglite);
  }

  query<Row = Record<string, unknown>>(sql: string, params?: readonly unknown[]): Promise<{ rows: Row[] }> {
    return this.#query(sql, params, this.#settings.statementTimeoutMs);
  }

  #query<Row>(sql: string, params: readonly unknown[] | undefined, waitMs: number): Promise<{ rows: Row[] }> {
    return this.#inTurn(
      "query",
      async (turn) => {
        const options = this.#optionsOf(turn);
        const { rows } = await this.#pglite.query<Row>(sql, params === undefined ? [] : [...params], options);
        return { rows };
      },
      waitMs,
    );
  }

  script(sql: string): Promise<void> {
    return this.#inTurn("script", async (turn) => {
      await this.#refuseHandmade();
      await this.#pglite.transaction(async (tx) => {
        if (!turn.take()) throw new Expired();
        await tx.exec(sql);
      });
    });
  }

  begin(options: BeginOptions = {}): Promise<OpenTransaction<Transaction>> {
    return this.#inTurn("begin", async (turn) => {
      await this.#refuseHandmade();
      return PgliteTransaction.open(
        this.#pglite,
        options,
        () => turn.take(),
        (error) => this.#typed(error),
      );
    });
  }

  /** A worker's own statements wait for a long handler transaction to end: giving up would drop what the worker holds. */
  async session(): Promise<Session> {
    const { lost, end } = ending();
    return {
      query: (sql, params) => this.#query(sql, params, Number.POSITIVE_INFINITY),
      lost,
      close: async () => end(),
    };
  }

  async listen(channel: string, onNotify: (payload: string) => void): Promise<Listener | undefined> {
    const quoted = `"${channel.replaceAll('"', '""')}"`;
    refuseInside(this.#pglite, "listen");
    await this.#pglite.listen(quoted, onNotify);
    const { lost, end } = ending();
    const close = async () => {
      end();
      if (!this.#pglite.closed) await this.#pglite.unlisten(quoted, onNotify);
    };
    return { query: (sql, params) => this.query(sql, params), lost, close };
  }

  close(): Promise<void> {
    this.#closing ??= this.#onClose();
    return this.#closing;
  }

  #typed(error: unknown): Error {
    hideParams(error);
    const lost = this.#pglite.closed || (error instanceof Error && error.name === "RuntimeError");
    return databaseError(error, { description: this.description, ...(lost ? { connection: "lost" } : {}) });
  }

  #inTurn<T>(
    call: string,
    work: (turn: Turn) => Promise<T>,
    waitMs: number = this.#settings.statementTimeoutMs,
  ): Promise<T> {
    return new Promise((resolve, reject) => {
      refuseInside(this.#pglite, call);
      const turn = new Turn(waitMs, reject);
      work(turn)
        .then(resolve, (error: unknown) => reject(this.#typed(error)))
        .finally(() => turn.take());
    });
  }

  /** PGlite reads `blob` when the statement's turn has come and before it is sent: the moment to look around. */
  #optionsOf(turn: Turn): QueryOptions {
    const options: QueryOptions = { parsers: { ...pgliteParsers } };
    const look = () => {
      if (!turn.take()) throw new Expired();
      if (this.#pglite.isInTransaction()) throw handmade();
      return undefined;
    };
    return Object.defineProperty(options, "blob", { get: look, enumerable: false });
  }

  /** A transaction of the mutex ends by itself; after its end an open one is the user's own BEGIN. */
  async #refuseHandmade(): Promise<void> {
    if (!this.#pglite.isInTransaction()) return;
    const options = Object.defineProperty({} as QueryOptions, "blob", {
      get: () => {
        if (this.#pglite.isInTransaction()) throw handmade();
        return undefined;
      },
    });
    await this.#pglite.query("select 1", [], options);
  }
}

function handmade(): DatabaseUnavailableError {
  return new DatabaseUnavailableError(
    "PH_DATABASE_BUSY",
    "A transaction that was begun by hand is open on PGlite's only connection, and the statement would have become part of it. " +
      "Use `transaction()` of PGlite, or end the transaction first.",
  );
}

/** PGlite puts a statement and its parameters, and so payloads, into its errors, where a logger would print them. */
function hideParams(error: unknown): void {
  if (typeof error !== "object" || error === null) return;
  for (const name of ["params", "query", "queryOptions"]) {
    if (name in error) Reflect.deleteProperty(error, name);
  }
}

function ending(): { readonly lost: Promise<Error | undefined>; readonly end: () => void } {
  let end = () => {};
  const lost = new Promise<Error | undefined>((resolve) => {
    end = () => resolve(undefined);
  });
  return { lost, end };
}
