/**
 * Lets other processes of the same user run statements on the embedded database that this process holds.
 *
 * The protocol is our own, one JSON line per statement, and not PostgreSQL's: PGlite has one session, so clients of the wire
 * protocol would share prepared statements, settings and half-sent messages, and holding the instance for one of them needs
 * PGlite's private parts. Here every request is one call of the ordinary `Database`, with its mutex, its limits and its errors.
 *
 * A connection has at most one transaction. It is rolled back when the connection ends, and when the client has been silent for
 * too long, because meanwhile the holder itself waits.
 */
import { chmod } from "node:fs/promises";
import { createServer, type Server, type Socket } from "node:net";
import type { Database, Listener, OpenTransaction } from "../../core/database.js";
import { DatabaseUnavailableError, InternalError, TransactionEndedError } from "../../core/errors.js";
import { withDeadline } from "../deadline.js";
import { databaseDefaults } from "../defaults.js";
import { decode, encode, encodeError, protocolVersion, type Request, readLines, send } from "./wire.js";

interface Queryable {
  query(text: string, params?: unknown[]): Promise<{ rows: unknown[] }>;
}

export class EmbeddedServer {
  readonly #server: Server;
  readonly #connections = new Set<ServedConnection>();
  readonly #database: Promise<Database<Queryable>>;
  #provide: (database: Database<Queryable>) => void = () => {};
  #refuse: (error: Error) => void = () => {};

  private constructor(idleTransactionMs: number) {
    this.#database = new Promise((resolve, reject) => {
      this.#provide = resolve;
      this.#refuse = reject;
    });
    // Requests report it; without requests nobody needs to know.
    this.#database.catch(() => undefined);
    this.#server = createServer((socket) => {
      const connection = new ServedConnection(socket, this.#database, idleTransactionMs);
      this.#connections.add(connection);
      socket.once("close", () => this.#connections.delete(connection));
    });
    this.#server.maxConnections = databaseDefaults.socketConnections;
    // A client must not keep the holder running.
    this.#server.unref();
  }

  /** Listens; requests wait until `serve`. A transaction whose client is silent for `idleTransactionMs` is rolled back. */
  static async listen(
    path: string,
    idleTransactionMs: number = databaseDefaults.socketIdleTransactionMs,
  ): Promise<EmbeddedServer> {
    const server = new EmbeddedServer(idleTransactionMs);
    await new Promise<void>((resolve, reject) => {
      server.#server.once("error", reject);
      server.#server.listen(path, () => {
        server.#server.removeListener("error", reject);
        resolve();
      });
    });
    // Errors of accepting (too many open files) concern the client that is refused; it reports them.
    server.#server.on("error", () => {});
    await chmod(path, 0o600);
    return server;
  }

  serve(database: Database<Queryable>): void {
    this.#provide(database);
  }

  /** Ends every connection and waits until its transaction is rolled back. */
  async close(): Promise<void> {
    this.#refuse(
      new DatabaseUnavailableError("PH_DATABASE_AWAY", "The holder of the embedded database is closing it."),
    );
    const closed = new Promise<void>((resolve) => this.#server.close(() => resolve()));
    await Promise.all([...this.#connections].map((connection) => connection.end()));
    await closed;
  }
}

class ServedConnection {
  readonly #socket: Socket;
  readonly #database: Promise<Database<Queryable>>;
  readonly #idleTransactionMs: number;
  #transaction: OpenTransaction<Queryable> | undefined;
  #listener: Listener | undefined;
  #idle: NodeJS.Timeout | undefined;
  #last: Promise<void> = Promise.resolve();
  #gone = false;

  constructor(socket: Socket, database: Promise<Database<Queryable>>, idleTransactionMs: number) {
    this.#socket = socket;
    this.#idleTransactionMs = idleTransactionMs;
    this.#database = database;
    socket.unref();
    socket.on("error", () => socket.destroy());
    socket.once("close", () => void this.end());
    readLines(socket, databaseDefaults.socketLineBytes, (message) => {
      this.#last = this.#last.then(() => this.#answer(message as Request));
    });
  }

  async end(): Promise<void> {
    this.#gone = true;
    clearTimeout(this.#idle);
    this.#socket.destroy();
    await this.#rollback();
    // A request that is under way ends by itself, and rolls back what it has begun.
    await withDeadline(this.#last, databaseDefaults.closeTimeoutMs, "A request", () => {}).catch(() => undefined);
    const listener = this.#listener;
    this.#listener = undefined;
    await listener?.close().catch(() => undefined);
  }

  async #answer(request: Request): Promise<void> {
    if (this.#gone) return;
    clearTimeout(this.#idle);
    try {
      const value = await this.#perform(request);
      send(this.#socket, { id: request.id, value: encode(value) });
    } catch (error) {
      send(this.#socket, { id: request.id, error: encodeError(error) });
    }
    if (this.#gone) await this.#rollback();
    else if (this.#transaction !== undefined) {
      this.#idle = setTimeout(() => void this.end(), this.#idleTransactionMs);
    }
  }

  async #perform(request: Request): Promise<unknown> {
    const database = await this.#database;
    switch (request.op) {
      case "hello":
        if (request.version === protocolVersion) return { version: protocolVersion, pid: process.pid };
        throw new InternalError(
          "PH_INTERNAL",
          `The holder of the embedded database speaks version ${protocolVersion} of the socket, this process ${request.version}. ` +
            "Use the same version of posthorn in both.",
        );
      case "query":
        return (await database.query(request.text, paramsOf(request))).rows;
      case "script":
        return database.script(request.text);
      case "begin":
        if (this.#transaction !== undefined)
          throw new InternalError("PH_INTERNAL", "A connection has one transaction.");
        this.#transaction = await database.begin();
        return this.#transaction.mark;
      case "tx":
        return (await this.#open().query(request.text, paramsOf(request))).rows;
      case "native":
        return (await this.#open().native.query(request.text, paramsOf(request))).rows;
      case "commit":
        await this.#take().commit();
        return undefined;
      case "rollback":
        return this.#transaction === undefined ? undefined : this.#take().rollback();
      case "listen":
        this.#listener = await database.listen(request.channel, (payload) => send(this.#socket, { notify: payload }));
        return undefined;
    }
  }

  #open(): OpenTransaction<Queryable> {
    if (this.#transaction !== undefined) return this.#transaction;
    throw new TransactionEndedError("PH_TRANSACTION_ENDED", "The transaction has ended already.");
  }

  #take(): OpenTransaction<Queryable> {
    const transaction = this.#open();
    this.#transaction = undefined;
    return transaction;
  }

  async #rollback(): Promise<void> {
    const transaction = this.#transaction;
    this.#transaction = undefined;
    await transaction?.rollback();
  }
}

function paramsOf(request: { readonly params: unknown }): unknown[] {
  const params = decode(request.params);
  return Array.isArray(params) ? params : [];
}
