/**
 * Statements on one pg client, with a deadline and typed errors.
 *
 * pg tells the end of a connection by an event before it fails the statements that were running, so a watch on the client is
 * how a lost connection is known; the texts of its errors are not read. While somebody holds a client it has an error listener
 * here: an 'error' event without one would end the process.
 */
import type { ClientBase, QueryResult } from "pg";
import type { Statement } from "../core/database.js";
import { PosthornError } from "../core/errors.js";
import { within } from "./deadline.js";
import { databaseDefaults } from "./defaults.js";
import { databaseError, sqlStateOf } from "./errors.js";
import { pgTypes } from "./parsers.js";
import { canJoin, Opening } from "./pg-opening.js";
import { type Answer, type Around, LibraryStatement, takesSubmitted, valuesOf } from "./pg-statement.js";

export class PgConnection {
  readonly client: ClientBase;
  readonly #description: string;
  readonly #cut: () => void;
  readonly #onGone = (error?: Error) => this.#goneBy(error);
  #gone = false;
  #wasCut = false;
  #opening: Opening | undefined;
  #reason: Error | undefined;
  #resolveLost: (error: Error | undefined) => void = () => {};
  /** Settles when the connection is gone: undefined after `detach` or an ordinary end. */
  readonly lost: Promise<Error | undefined>;

  /** `cut` ends the connection at once, whatever runs on it. */
  constructor(client: ClientBase, description: string, cut: () => void) {
    this.client = client;
    this.#description = description;
    this.#cut = cut;
    this.lost = new Promise((resolve) => {
      this.#resolveLost = resolve;
    });
    client.on("error", this.#onGone);
    client.on("end", this.#onGone);
  }

  get gone(): boolean {
    return this.#gone;
  }

  /** Ends the watch: from here on somebody else is responsible for the client. */
  detach(): void {
    this.client.removeListener("error", this.#onGone);
    this.client.removeListener("end", this.#onGone);
    this.#resolveLost(undefined);
  }

  /**
   * Begins a transaction: at once, or with the first statement where that is a round trip less. From there on everything must be sent by `send`
   * and the methods here.
   */
  async open(statements: readonly string[], timeoutMs: number): Promise<void> {
    if (this.#gone) throw this.typed(this.#reason ?? new Error("The connection has ended"));
    if (canJoin(this.client)) this.#opening = new Opening(this.client, statements);
    else await this.script(statements.join("; "), timeoutMs);
  }

  /** Whether the server may have a transaction that is to be ended. */
  get opened(): boolean {
    return this.#opening?.unsent !== true;
  }

  /** Why the transaction could not be begun. */
  get notBegun(): Error | undefined {
    return this.#opening?.failure === undefined ? undefined : this.typed(this.#opening.failure);
  }

  /** As `client.query`. */
  readonly send = (...args: readonly unknown[]): unknown => {
    const opening = this.#opening;
    if (opening !== undefined && !opening.open) return opening.query(...args);
    return Reflect.apply(this.client.query, this.client, args);
  };

  query<Row>(text: string, params: readonly unknown[] | undefined, timeoutMs: number): Promise<{ rows: Row[] }> {
    const values = takesSubmitted(this.client) ? valuesOf(params ?? []) : undefined;
    if (values !== undefined) return this.#submit<Row>(text, values, timeoutMs);
    return this.#send<QueryResult>(
      (resolve, reject) => this.send({ text, values: [...(params ?? [])], types: pgTypes }, told(resolve, reject)),
      timeoutMs,
    );
  }

  /** Several statements in one round trip, without parameters. */
  async script<Row>(text: string, timeoutMs: number): Promise<Answer<Row>> {
    if (takesSubmitted(this.client)) return this.#submit<Row>(text, [], timeoutMs);
    const result = await this.#send<QueryResult | QueryResult[]>(
      (resolve, reject) => this.send({ text, types: pgTypes }, told(resolve, reject)),
      timeoutMs,
    );
    const results = Array.isArray(result) ? result : [result];
    return { rows: results.flatMap(({ rows }) => rows), command: results.at(-1)?.command };
  }

  /** COMMIT, in one round trip with the statement before it. Of the two the first that fails is the last that runs. */
  async commit<Row>(last: Statement | undefined, timeoutMs: number): Promise<Answer<Row>> {
    if (last === undefined) return this.opened ? this.script("commit", timeoutMs) : { rows: [], command: "COMMIT" };
    const values = takesSubmitted(this.client) ? valuesOf(last.params ?? []) : undefined;
    if (values !== undefined) {
      const around = { opening: this.#opening?.take() ?? [], commits: true };
      return this.#submit<Row>(last.text, values, timeoutMs, around);
    }
    // A process that is stopped between the two is to let go of its locks soon, however long a handler may be silent.
    await this.script("set local idle_in_transaction_session_timeout = '5s'", timeoutMs);
    const { rows } = await this.query<Row>(last.text, last.params, timeoutMs);
    return { rows, command: (await this.script("commit", timeoutMs)).command };
  }

  /**
   * One statement in a transaction of its own, in one round trip: behind a pooler what it needs is set for this transaction, and the session is
   * somebody else's a moment later.
   */
  async alone<Row>(
    text: string,
    params: readonly unknown[] | undefined,
    opening: readonly string[],
    timeoutMs: number,
  ): Promise<{ rows: Row[] }> {
    try {
      const values = takesSubmitted(this.client) ? valuesOf(params ?? []) : undefined;
      if (values !== undefined) return await this.#submit<Row>(text, values, timeoutMs, { opening, commits: true });
      await this.script(opening.join("; "), timeoutMs);
      const { rows } = await this.query<Row>(text, params, timeoutMs);
      await this.script("commit", timeoutMs);
      return { rows };
    } catch (error) {
      // The pooler gives the session to others when its transaction has ended.
      if (!this.#gone) await this.script("rollback", databaseDefaults.rollbackTimeoutMs).catch(() => this.cut());
      throw error;
    }
  }

  #submit<Row>(text: string, values: readonly (string | null)[], timeoutMs: number, around?: Around) {
    return this.#send<Answer<Row>>((resolve, reject) => {
      const end = (error: unknown, answer?: Answer<Row>): void => (answer ? resolve(answer) : reject(error));
      this.send(new LibraryStatement<Row>(text, values, end, around));
    }, timeoutMs);
  }

  /** By callback: pg's own promises are several for each statement. */
  async #send<T>(
    submit: (resolve: (result: T) => void, reject: (error: unknown) => void) => void,
    timeoutMs: number,
  ): Promise<T> {
    try {
      if (this.#gone) throw this.#reason ?? new Error("The connection has ended");
      return await within(submit, timeoutMs + databaseDefaults.statementGraceMs, "A statement", () => this.cut());
    } catch (error) {
      // Neither the server's word nor ours: the client gave up by itself, by its own query_timeout for one, and the answer may come yet. Whatever is
      // sent on this connection would wait behind it, on a dead one for ever.
      const state = sqlStateOf(error);
      if (state === undefined && !(error instanceof PosthornError)) this.cut();
      // The server's last word came as the answer to this; the end of the stream may come later. Whoever asks meanwhile is told the same.
      if (lastWords.has(state)) this.cut();
      // As pg does where it makes the promise: the stack that is of use is that of the caller.
      if (error instanceof Error) Error.captureStackTrace(error);
      throw this.typed(error);
    }
  }

  typed(error: unknown): Error {
    const lost = this.#gone && sqlStateOf(error) === undefined;
    return databaseError(error, { description: this.#description, ...(lost ? { connection: "lost" } : {}) });
  }

  cut(): void {
    this.#gone = true;
    if (this.#wasCut) return;
    this.#wasCut = true;
    this.#cut();
  }

  #goneBy(error: Error | undefined): void {
    this.#gone = true;
    if (error instanceof Error) this.#reason ??= error;
    this.#resolveLost(
      this.#reason === undefined
        ? undefined
        : databaseError(this.#reason, { description: this.#description, connection: "lost" }),
    );
  }
}

/** A server that shuts down, or ends one session, says so to the statement that runs: admin_shutdown, crash_shutdown, idle_session_timeout. */
const lastWords: ReadonlySet<string | undefined> = new Set(["57P01", "57P02", "57P05"]);

function told<T>(resolve: (result: T) => void, reject: (error: unknown) => void) {
  return (error: Error | null, result: T): void => (error ? reject(error) : resolve(result));
}
