/**
 * Connections that the library keeps for itself: sessions and the listener. They do not come from the user's pool, so that a
 * small pool is never starved; where no client can be made from a pool's options, one is taken from it and destroyed at the end.
 */
import type { ClientBase, ClientConfig } from "pg";
import type { Listener, Session } from "../core/database.js";
import { withDeadline } from "./deadline.js";
import { databaseDefaults, type Settings } from "./defaults.js";
import { databaseError } from "./errors.js";
import { PgConnection } from "./pg-connection.js";

export interface OwnClient {
  readonly client: ClientBase;
  /** Ends the connection; `hard` does not wait for what runs on it. */
  readonly end: (hard: boolean) => Promise<void>;
}

/** Makes a connected client that nobody else uses. */
export type MakeClient = (overrides: ClientConfig) => Promise<OwnClient>;

export class PgSession implements Session {
  readonly lost: Promise<Error | undefined>;
  protected readonly connection: PgConnection;
  readonly #own: OwnClient;
  readonly #timeoutMs: number;
  #last: Promise<unknown> | undefined;
  #closing: Promise<void> | undefined;

  constructor(own: OwnClient, connection: PgConnection, timeoutMs: number) {
    this.#own = own;
    this.connection = connection;
    this.lost = connection.lost;
    this.#timeoutMs = timeoutMs;
  }

  /** One statement at a time: the deadline of a statement begins when the one before it has ended. */
  query<Row = Record<string, unknown>>(text: string, params?: readonly unknown[]): Promise<{ rows: Row[] }> {
    const send = () => this.connection.query<Row>(text, params, this.#timeoutMs);
    // On an idle connection it goes out at once, before the caller does anything else: the server works meanwhile.
    const result = this.#last === undefined ? send() : this.#last.then(send);
    const last: Promise<unknown> = result
      .catch(() => undefined)
      .then(() => {
        if (this.#last === last) this.#last = undefined;
      });
    this.#last = last;
    return result;
  }

  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async #close(): Promise<void> {
    const { gone } = this.connection;
    await this.#own.end(gone);
    this.connection.detach();
  }
}

export class PgListener extends PgSession implements Listener {}

/** What is so on every connection of the library's own. */
const ofEverySession = {
  search_path: "pg_catalog",
  idle_session_timeout: "0",
  default_transaction_isolation: "read committed",
} as const;

async function openConnection(own: OwnClient, description: string, settings: Settings): Promise<PgConnection> {
  const connection = new PgConnection(own.client, description, () => void own.end(true));
  try {
    // Statements, not startup parameters: poolers refuse the latter. Claims need READ COMMITTED, whatever a role's default is. An idle
    // listener is not a dead worker. Nobody who may create functions in a schema of the search path can have us call theirs.
    const all = {
      ...ofEverySession,
      statement_timeout: String(settings.statementTimeoutMs),
      application_name: settings.applicationName,
    };
    await connection.query(
      "select pg_catalog.set_config(s.key, s.value, false) from pg_catalog.json_each_text($1::json) s",
      [JSON.stringify(all)],
      settings.statementTimeoutMs,
    );
    return connection;
  } catch (error) {
    connection.cut();
    throw error;
  }
}

export async function openPgSession(make: MakeClient, description: string, settings: Settings): Promise<PgSession> {
  const own = await make({});
  return new PgSession(own, await openConnection(own, description, settings), settings.statementTimeoutMs);
}

export async function openPgListener(
  make: MakeClient,
  description: string,
  settings: Settings,
  channel: string,
  onNotify: (payload: string) => void,
): Promise<PgListener> {
  const own = await make({ keepAliveInitialDelayMillis: databaseDefaults.listenerKeepAliveMs });
  const connection = await openConnection(own, description, settings);
  own.client.on("notification", (message) => {
    if (message.channel === channel) onNotify(message.payload ?? "");
  });
  const listener = new PgListener(own, connection, settings.statementTimeoutMs);
  try {
    // The server, too, must notice soon that this process is gone: its session lock says that the worker lives.
    const idle = String(Math.ceil(databaseDefaults.listenerKeepAliveMs / 1000));
    await listener.query(
      "select set_config('tcp_keepalives_idle', $1, false), set_config('tcp_keepalives_interval', '1', false), " +
        "set_config('tcp_keepalives_count', '5', false)",
      [idle],
    );
    await listener.query(`listen ${own.client.escapeIdentifier(channel)}`);
    return listener;
  } catch (error) {
    connection.cut();
    throw error;
  }
}

/** Ends a client; one that does not answer is cut after a while. */
export async function endClient(client: ClientBase & { end(): Promise<void> }, hard: boolean): Promise<void> {
  const cut = () => {
    const connection: unknown = "connection" in client ? client.connection : undefined;
    if (typeof connection !== "object" || connection === null || !("stream" in connection)) return;
    const { stream } = connection;
    if (typeof stream === "object" && stream !== null && "destroy" in stream && typeof stream.destroy === "function") {
      stream.destroy();
    }
  };
  if (hard) cut();
  try {
    await withDeadline(client.end(), databaseDefaults.closeTimeoutMs, "Closing a connection", cut);
  } catch {
    // It is cut; there is nothing left to end.
  }
}

export function connectError(error: unknown, description: string): Error {
  return databaseError(error, { description, connection: "unreached" });
}
