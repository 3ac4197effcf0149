/**
 * Connections that the library keeps for itself: sessions and the listener. They do not come from the user's pool, so that a
 * small pool is never starved; where no client can be made from a pool's options, one is taken from it and destroyed at the end.
 */
import type { ClientBase, ClientConfig } from "pg";
import type { Listener, Session } from "../core/database.js";
import type { Secrets } from "../core/secrets.js";
import { withDeadline } from "./deadline.js";
import { databaseDefaults, type Settings } from "./defaults.js";
import { databaseError } from "./errors.js";
import type { MakeClient, OwnClient } from "./own-client.js";
import { PgConnection } from "./pg-connection.js";
import { refuseShared, toldProcess } from "./pg-pooler.js";

export class PgSession implements Session {
  readonly lost: Promise<Error | undefined>;
  protected readonly connection: PgConnection;
  readonly #own: OwnClient;
  protected readonly timeoutMs: number;
  #last: Promise<unknown> | undefined;
  #closing: Promise<void> | undefined;

  constructor(own: OwnClient, connection: PgConnection, timeoutMs: number) {
    this.#own = own;
    this.connection = connection;
    this.lost = connection.lost;
    this.timeoutMs = timeoutMs;
  }

  /** One statement at a time: the deadline of a statement begins when the one before it has ended. */
  query<Row = Record<string, unknown>>(text: string, params?: readonly unknown[]): Promise<{ rows: Row[] }> {
    const send = () => this.send<Row>(text, params);
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

  protected send<Row>(text: string, params: readonly unknown[] | undefined): Promise<{ rows: Row[] }> {
    return this.connection.query<Row>(text, params, this.timeoutMs);
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

/** A connection to a pooler: each statement is a transaction that sets what it needs for itself and leaves nothing behind in the session. */
export class PooledSession extends PgSession {
  readonly #opening: readonly string[];

  constructor(own: OwnClient, connection: PgConnection, timeoutMs: number) {
    super(own, connection, timeoutMs);
    this.#opening = [
      "begin isolation level read committed",
      "set local search_path = pg_catalog",
      `set local statement_timeout = ${Math.ceil(timeoutMs)}`,
    ];
  }

  protected override send<Row>(text: string, params: readonly unknown[] | undefined): Promise<{ rows: Row[] }> {
    return this.connection.alone<Row>(text, params, this.#opening, this.timeoutMs);
  }
}

/** What is so on every connection of the library's own. */
const ofEverySession = {
  search_path: "pg_catalog",
  idle_session_timeout: "0",
  default_transaction_isolation: "read committed",
} as const;

/** Sets nothing where the session may be shared: then it is another process than the one that the client was told of. */
const settingSession =
  "select pg_catalog.pg_backend_pid() as pid, (select pg_catalog.count(pg_catalog.set_config(s.key, s.value, false)) " +
  "from pg_catalog.json_each_text($1::json) s where $2::int in (0, pg_catalog.pg_backend_pid())) as settings";

async function openConnection(
  make: MakeClient,
  overrides: ClientConfig,
  description: string,
  settings: Settings,
): Promise<{ readonly own: OwnClient; readonly connection: PgConnection }> {
  const own = await make(overrides);
  const connection = new PgConnection(own.client, description, () => void own.end(true));
  try {
    // Statements, not startup parameters: poolers refuse the latter. Claims need READ COMMITTED, whatever a role's default is. An idle
    // listener is not a dead worker. Nobody who may create functions in a schema of the search path can have us call theirs.
    const all = {
      ...ofEverySession,
      statement_timeout: String(settings.statementTimeoutMs),
      application_name: settings.applicationName,
    };
    const set = (told: number) =>
      connection.query<{ pid: number }>(settingSession, [JSON.stringify(all), told], settings.statementTimeoutMs);
    const told = toldProcess(own.client);
    const pid = (await set(told)).rows[0]?.pid ?? 0;
    if (told !== 0 && pid !== told) {
      await refuseShared(connection, pid, make, description);
      await set(0);
    }
    return { own, connection };
  } catch (error) {
    connection.cut();
    throw error;
  }
}

export async function openPgSession(make: MakeClient, description: string, settings: Settings): Promise<PgSession> {
  const { statementTimeoutMs, pooler } = settings;
  if (pooler === "transaction") {
    const own = await make({});
    return new PooledSession(
      own,
      new PgConnection(own.client, description, () => void own.end(true)),
      statementTimeoutMs,
    );
  }
  const { own, connection } = await openConnection(make, {}, description, settings);
  return new PgSession(own, connection, statementTimeoutMs);
}

export async function openPgListener(
  make: MakeClient,
  description: string,
  settings: Settings,
  channel: string,
  onNotify: (payload: string) => void,
): Promise<PgListener> {
  const overrides = { keepAliveInitialDelayMillis: databaseDefaults.listenerKeepAliveMs };
  const { own, connection } = await openConnection(make, overrides, description, settings);
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

export function connectError(error: unknown, description: string, secrets: Secrets): Error {
  return databaseError(error, { description, connection: "unreached", secrets });
}
