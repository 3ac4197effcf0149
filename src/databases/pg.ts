/**
 * PostgreSQL through `pg`: a pool of our own for a URL, or the user's pool.
 *
 * The user's pool serves statements and transactions; sessions and the listener are clients of their own, made from the pool's
 * options. Statements that are sent from inside one of our transactions use a spare session, since the pool may be exhausted by
 * the very transactions that wait for them. Nothing global of pg is changed, and no listener stays on the user's pool.
 */
import type { ClientBase, ClientConfig, Pool, PoolClient } from "pg";
import type { BeginOptions, Database, Listener, OpenTransaction, Session } from "../core/database.js";
import { DatabaseUnavailableError, PosthornError } from "../core/errors.js";
import { Secrets } from "../core/secrets.js";
import { isInside } from "./context.js";
import { withDeadline, within } from "./deadline.js";
import { databaseDefaults, type Settings } from "./defaults.js";
import { codeOf, sqlStateOf } from "./errors.js";
import type { OwnClient } from "./own-client.js";
import { cancelRunning } from "./pg-cancel.js";
import { PgConnection } from "./pg-connection.js";
import { connectError, endClient, openPgListener, openPgSession, type PgSession } from "./pg-session.js";
import { PgTransaction } from "./pg-transaction.js";
import { readOnlyForGood } from "./statements.js";

/**
 * The server says that it ends a connection before it does: the pool would give it to the next one. One to a server that was a primary stays with it
 * when another has become the primary; the next is made to whoever has the name by then.
 */
function isOfNoUse(error: unknown): boolean {
  if (!(error instanceof DatabaseUnavailableError)) return false;
  return error.code === "PH_DATABASE_LOST" || error.code === "PH_DATABASE_READ_ONLY";
}

/** A client of the pool in our hands. */
interface Acquired {
  readonly client: PoolClient;
  readonly connection: PgConnection;
}

type OwnedClient = ClientBase & { end(): Promise<void> };
type ClientClass = new (config: ClientConfig) => OwnedClient;

function clientClassOf(pool: Pool): ClientClass | undefined {
  const found: unknown = "Client" in pool ? pool.Client : undefined;
  const isClass = (value: unknown): value is ClientClass => typeof value === "function";
  // A stream that is given as an object belongs to one connection.
  const stream: unknown = pool.options.stream;
  return isClass(found) && (stream === undefined || typeof stream === "function") ? found : undefined;
}

/** Options of a pool; `password` is hidden from enumeration there, so it is copied by name. */
function clientOptions(pool: Pool): ClientConfig {
  const { password } = pool.options;
  return { ...pool.options, ...(password === undefined ? {} : { password }) };
}

function text(value: unknown): string | undefined {
  return typeof value === "string" || typeof value === "number" ? String(value) : undefined;
}

/** Where a pool connects to, without the password. pg works it out in the constructor of a client. */
export function describePool(pool: Pool): string {
  const Client = clientClassOf(pool);
  if (Client === undefined) return "the given pg pool";
  const client: object = new Client(clientOptions(pool));
  const part = (name: "user" | "host" | "port" | "database") =>
    text((client as Partial<Record<typeof name, unknown>>)[name]) ?? "?";
  return `postgres://${part("user")}@${part("host")}:${part("port")}/${part("database")}`;
}

/** As the driver reads it, from a URL or from the environment. One that a function tells is known to nobody here. */
function passwordOf(pool: Pool): string | undefined {
  const Client = clientClassOf(pool);
  const client: object = Client === undefined ? pool.options : new Client(clientOptions(pool));
  return text("password" in client ? client.password : undefined);
}

const readCommitted = "begin isolation level read committed";

/** The SQLSTATE of ours for a transaction of another isolation. */
const otherIsolation = "PH002";

/** Transactions that were marked in this process. */
let marks = 0;

/** SET LOCAL costs half of what a function would. */
function openingOf({ idleMs, readOnly = false }: BeginOptions, mark: string): readonly string[] {
  const statements = [readCommitted, ...(readOnly ? readOnlyForGood : [])];
  if (idleMs !== undefined) {
    statements.push(`set local idle_in_transaction_session_timeout = ${Math.ceil(idleMs)}`);
  }
  if (mark !== "") statements.push(`set local posthorn.mark = ${mark}`);
  return statements;
}

export class PgDatabase implements Database<PoolClient> {
  readonly description: string;
  readonly single = false;
  readonly transactions: number;
  readonly #pool: Pool;
  readonly #ownsPool: boolean;
  readonly #settings: Settings;
  readonly #secrets: Secrets;
  #isolates = false;
  #spare: Promise<PgSession> | undefined;
  #closing: Promise<void> | undefined;

  constructor(pool: Pool, ownsPool: boolean, settings: Settings) {
    this.#pool = pool;
    this.#ownsPool = ownsPool;
    this.#settings = settings;
    this.description = describePool(pool);
    this.#secrets = new Secrets([passwordOf(pool)]);
    this.transactions = Math.max(1, pool.options.max ?? databaseDefaults.poolSize);
    // The pool has already removed the idle client that failed; the next statement connects anew and reports what is wrong.
    if (ownsPool) pool.on("error", () => {});
  }

  insideTransaction(writing?: boolean): boolean {
    return isInside(this.#pool, writing);
  }

  async query<Row = Record<string, unknown>>(sql: string, params?: readonly unknown[]): Promise<{ rows: Row[] }> {
    if (this.insideTransaction()) return (await this.#spareSession()).query<Row>(sql, params);
    const { client, connection } = await this.#acquire();
    try {
      const result = await this.#queryOn<Row>(connection, sql, params);
      this.#release(client, connection, false);
      return result;
    } catch (error) {
      this.#release(client, connection, connection.gone || isOfNoUse(error));
      throw error;
    }
  }

  /**
   * A pool's clients have the isolation that their role or database says, and it stays theirs. What needs READ COMMITTED says so before it has done
   * anything, and is sent again in a transaction that is; from then on all is sent so.
   */
  async #queryOn<Row>(
    connection: PgConnection,
    sql: string,
    params: readonly unknown[] | undefined,
  ): Promise<{ rows: Row[] }> {
    const { statementTimeoutMs } = this.#settings;
    if (!this.#isolates) {
      try {
        return await connection.query<Row>(sql, params, statementTimeoutMs);
      } catch (error) {
        if (sqlStateOf(error) !== otherIsolation) throw error;
        this.#isolates = true;
      }
    }
    return connection.alone<Row>(sql, params, [readCommitted], statementTimeoutMs);
  }

  async script(sql: string): Promise<void> {
    const { client, connection } = await this.#acquire();
    let done = false;
    try {
      // A limit for statements of the application, set on its role or pool, is not one for a migration.
      const begin = `begin; set local statement_timeout = ${databaseDefaults.scriptTimeoutMs}`;
      await connection.script(begin, this.#settings.statementTimeoutMs);
      await connection.script(sql, databaseDefaults.scriptTimeoutMs);
      await connection.script("commit", this.#settings.statementTimeoutMs);
      done = true;
    } finally {
      // Ending the connection rolls back.
      this.#release(client, connection, !done);
    }
  }

  async begin(options: BeginOptions = {}): Promise<OpenTransaction<PoolClient>> {
    const { client, connection } = await this.#acquire();
    try {
      const mark = options.marked === false ? "" : String(++marks);
      await connection.open(openingOf(options, mark), this.#settings.statementTimeoutMs);
      return new PgTransaction({
        client,
        connection,
        holder: this.#pool,
        mark,
        readOnly: options.readOnly === true,
        statementTimeoutMs: this.#settings.statementTimeoutMs,
        release: (destroy) => this.#release(client, connection, destroy),
        cancel: () => this.#cancel(client),
      });
    } catch (error) {
      this.#release(client, connection, true);
      throw error;
    }
  }

  session(): Promise<Session> {
    return openPgSession((overrides) => this.#makeClient(overrides), this.description, this.#settings);
  }

  async listen(channel: string, onNotify: (payload: string) => void): Promise<Listener | undefined> {
    // What a pooler's client listens to is heard by nobody, and a lock of its session outlives it.
    if (this.#settings.pooler === "transaction") return undefined;
    const make = (overrides: ClientConfig) => this.#makeClient(overrides);
    return openPgListener(make, this.description, this.#settings, channel, onNotify);
  }

  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async #close(): Promise<void> {
    const spare = await this.#spare?.catch(() => undefined);
    await spare?.close();
    if (!this.#ownsPool || this.#pool.ended) return;
    try {
      await withDeadline(this.#pool.end(), databaseDefaults.closeTimeoutMs, "Closing the pool", () => {});
    } catch {
      // Clients that are still in use end when their holder gives them back.
    }
  }

  /**
   * A client of the pool, watched while we hold it. By callback: the pool takes its error listener away before it gives a client, and a
   * server that shuts down can say so in the packet that completes the connection. A promise would tell us after that, and an 'error'
   * event without a listener ends the process.
   */
  async #acquire(): Promise<Acquired> {
    let late = false;
    const connect = (resolve: (acquired: Acquired) => void, reject: (error: unknown) => void): void => {
      this.#pool.connect((error, client) => {
        if (client === undefined) return reject(error);
        const connection = new PgConnection(client, this.description, () => client.release(true));
        // Not within this call: the pool hands it to the next one within the call that gives it back, and thousands may have given up waiting.
        if (late) queueMicrotask(() => this.#release(client, connection, false));
        else resolve({ client, connection });
      });
    };
    try {
      return await within(connect, databaseDefaults.connectTimeoutMs, "The pool", () => {
        late = true;
      });
    } catch (error) {
      throw this.#acquireError(error);
    }
  }

  #acquireError(error: unknown): Error {
    // The pool says that it is exhausted by text only, but its figures show it. Errors of a connection have a code.
    const ours = error instanceof PosthornError;
    if (
      (ours || codeOf(error) === undefined) &&
      this.#pool.totalCount >= this.transactions &&
      this.#pool.idleCount === 0
    ) {
      return new DatabaseUnavailableError(
        "PH_DATABASE_BUSY",
        `All ${this.transactions} connections of the pool to ${this.description} are in use. Make the pool larger, run less at ` +
          "once, or end transactions sooner.",
        { database: this.description, connections: this.transactions },
        error,
      );
    }
    return connectError(error, this.description, this.#secrets);
  }

  #release(client: PoolClient, connection: PgConnection, destroy: boolean): void {
    if (destroy || connection.gone) connection.cut();
    else client.release();
    connection.detach();
  }

  #cancel(client: PoolClient): Promise<void> {
    const Client = clientClassOf(this.#pool);
    return cancelRunning(client, Client === undefined ? undefined : new Client(clientOptions(this.#pool)));
  }

  async #spareSession(): Promise<PgSession> {
    this.#spare ??= openPgSession((overrides) => this.#makeClient(overrides), this.description, this.#settings);
    const opening = this.#spare;
    try {
      const session = await opening;
      session.lost.then(() => {
        if (this.#spare === opening) this.#spare = undefined;
      });
      return session;
    } catch (error) {
      if (this.#spare === opening) this.#spare = undefined;
      throw error;
    }
  }

  async #makeClient(overrides: ClientConfig): Promise<OwnClient> {
    const Client = clientClassOf(this.#pool);
    if (Client === undefined) return this.#borrowClient();
    const client = new Client({
      ...clientOptions(this.#pool),
      keepAlive: true,
      keepAliveInitialDelayMillis: databaseDefaults.keepAliveMs,
      connectionTimeoutMillis: databaseDefaults.connectTimeoutMs,
      application_name: this.#settings.applicationName,
      ...overrides,
    });
    const ignore = () => {};
    client.on("error", ignore);
    try {
      await client.connect();
      return { client, end: (hard) => endClient(client, hard) };
    } catch (error) {
      await endClient(client, true);
      throw connectError(error, this.description, this.#secrets);
    }
  }

  /** For pools that do not show how they connect: a client of the pool, destroyed at the end. */
  async #borrowClient(): Promise<OwnClient> {
    const { client, connection } = await this.#acquire();
    connection.detach();
    let released = false;
    const end = async () => {
      if (released) return;
      released = true;
      client.release(true);
    };
    return { client, end };
  }
}
