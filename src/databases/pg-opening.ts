/**
 * BEGIN leaves in one packet with the first statement of its transaction: one round trip less for every transaction.
 *
 * No Sync stands between the two: should BEGIN fail, the server skips the statement, which must never run on its own. A statement that cannot
 * be joined so (without parameters, with a name, or not made by pg) goes out behind BEGIN, and not at all where that failed.
 */
import type { ClientBase, Connection, QueryResult, Submittable } from "pg";
import { DatabaseUnavailableError } from "../core/errors.js";
import { sqlStateOf } from "./errors.js";
import { inOnePiece } from "./pg-packet.js";
import { takesSubmitted, unnamed, writeAll } from "./pg-statement.js";
import { hasMethod, isObject } from "./shapes.js";

/** A query of pg's own, before it is sent. */
type Query = Submittable & {
  handleCommandComplete(message: unknown, connection: Connection): void;
  handleError(error: unknown, connection: Connection): void;
  text?: unknown;
  values?: unknown;
  name?: unknown;
  rows?: unknown;
  callback?: unknown;
  query_timeout?: unknown;
  requiresPreparation(): boolean;
};
type QueryClass = new (...args: readonly unknown[]) => Query;

/** pg's class of queries; undefined where the client is not pg's own or has one of a user's. */
function queryClassOf(client: ClientBase): QueryClass | undefined {
  const found: unknown = "Query" in client.constructor ? client.constructor.Query : undefined;
  const isClass = (value: unknown): value is QueryClass => typeof value === "function";
  return isClass(found) && found.prototype?.constructor === found ? found : undefined;
}

/** Whether what is submitted to the client may open a transaction on its way. */
export function canJoin(client: ClientBase): boolean {
  return takesSubmitted(client) && queryClassOf(client) !== undefined;
}

export class Opening {
  readonly #client: ClientBase;
  readonly #statements: readonly string[];
  #state: "unsent" | "sent" | "open" | "failed" = "unsent";
  #failure: unknown;

  constructor(client: ClientBase, statements: readonly string[]) {
    this.#client = client;
    this.#statements = statements;
  }

  /** Nothing was sent, so there is no transaction on the server. */
  get unsent(): boolean {
    return this.#state === "unsent";
  }

  /** The server has said that it has begun. */
  get open(): boolean {
    return this.#state === "open";
  }

  /** What the server said where it could not be begun. */
  get failure(): unknown {
    return this.#failure;
  }

  /** The statements, for who sends them in front of its own and fails as a whole. Once. */
  take(): readonly string[] {
    if (this.#state !== "unsent") return [];
    this.#state = "open";
    return this.#statements;
  }

  /** As `client.query`, with the opening before it or on its way. */
  query(...args: readonly unknown[]): unknown {
    const [config] = args;
    const Query = queryClassOf(this.#client);
    if (Query === undefined) throw new TypeError("the client has no class of queries");
    if (isSubmittable(config)) return this.#send(config, args.slice(1));
    const query = new Query(...args);
    // Tracers send a copy of what has none, which has none of its methods either.
    query.name ??= unnamed;
    if (isObject(config) && "query_timeout" in config) query.query_timeout = config.query_timeout;
    if (typeof query.callback === "function") {
      this.#send(query, []);
      return undefined;
    }
    return new Promise((resolve, reject) => {
      query.callback = (error: Error | null, result: QueryResult) => {
        if (!error) return resolve(result);
        // As pg does: the stack that is of use is that of the caller.
        Error.captureStackTrace(error);
        reject(error);
      };
      this.#send(query, []);
    });
  }

  #send(query: Submittable, rest: readonly unknown[]): unknown {
    if (this.#state === "unsent" && isJoinable(query)) this.#join(query);
    else {
      if (this.#state === "unsent") this.#sendAlone();
      this.#follow(query);
    }
    return Reflect.apply(this.#client.query, this.#client, [query, ...rest]);
  }

  #join(query: Query): void {
    this.#state = "sent";
    let left = this.#statements.length;
    let written = false;
    const { submit, handleCommandComplete, handleError } = query;
    query.submit = (connection) =>
      inOnePiece(connection, (packet) => {
        writeAll(packet, this.#statements);
        written = true;
        return submit.call(query, packet);
      });
    query.handleCommandComplete = (message, connection) => {
      if (left === 0) return handleCommandComplete.call(query, message, connection);
      left -= 1;
      if (left === 0) this.#state = "open";
    };
    query.handleError = (error, connection) => {
      if (left > 0 && (!written || isOfServer(error))) this.#fail(error);
      handleError.call(query, error, connection);
    };
  }

  /** In a round trip of its own. Its error is that of whatever follows. */
  #sendAlone(): void {
    this.#state = "sent";
    this.#client.query(this.#statements.join("; "), [], (error: Error | null) => {
      if (error) this.#fail(error);
      else this.#state = "open";
    });
  }

  #fail(error: unknown): void {
    this.#state = "failed";
    this.#failure = error;
  }

  #follow(query: Submittable): void {
    const { submit } = query;
    query.submit = (connection) => (this.#state === "open" ? submit.call(query, connection) : notBegun());
  }
}

function notBegun(): DatabaseUnavailableError {
  return new DatabaseUnavailableError(
    "PH_DATABASE_LOST",
    "The transaction could not be begun, so the statement was not sent. Nothing was stored; it may be repeated.",
    { inCommit: false },
  );
}

/**
 * Whether the server itself refused, in whose order nothing after it ran. Other errors come while the transaction may have begun: a value cannot be
 * written, its time is over, or the connection is gone, of which a pooler tells with a class of its own; the statement may be what ended it.
 */
function isOfServer(error: unknown): boolean {
  return sqlStateOf(error)?.startsWith("08") === false;
}

function isSubmittable(value: unknown): value is Submittable {
  return isObject(value) && "submit" in value && typeof value.submit === "function";
}

/** One that pg sends with Parse, Bind and Execute, and that its checks do not refuse at the last moment. */
function isJoinable(query: Submittable): query is Query {
  if (!isOfPg(query)) return false;
  const { text, values, name, rows } = query;
  if (
    typeof text !== "string" ||
    !Array.isArray(values) ||
    (name !== undefined && name !== unnamed) ||
    rows !== undefined
  )
    return false;
  return query.requiresPreparation();
}

function isOfPg(query: Submittable): query is Query {
  return hasMethod(query, "requiresPreparation");
}
