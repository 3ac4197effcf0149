/**
 * Asks the server to cancel what runs on a connection, by PostgreSQL's own cancel request on a second connection.
 *
 * Cutting the connection is not enough: the server goes on with the statement, and keeps its locks, until it has something to
 * send. The request names process and secret, so it is right behind a pooler, too, where a pid alone may be somebody else's.
 */
import type { EventEmitter } from "node:events";
import { databaseDefaults } from "./defaults.js";
import { hasMethod, isObject } from "./shapes.js";

/** The part of pg's connection that `Client.cancel` uses itself. */
interface RawConnection extends EventEmitter {
  connect(portOrPath: number | string, host?: string): void;
  requestSsl(): void;
  cancel(processId: number, secret: unknown): void;
  readonly stream: { destroy(): void };
}

function isRawConnection(value: unknown): value is RawConnection {
  if (!isObject(value) || !("stream" in value) || !isObject(value.stream) || !hasMethod(value.stream, "destroy"))
    return false;
  return ["connect", "requestSsl", "cancel", "once", "on"].every((name) => hasMethod(value, name));
}

function field(value: object, name: string): unknown {
  return Reflect.get(value, name);
}

/** `fresh` is a client that was made with the same options and never connected. Never rejects; settles when it was sent. */
export function cancelRunning(client: object, fresh: object | undefined): Promise<void> {
  const processId = field(client, "processID");
  const secret = field(client, "secretKey");
  const connection = fresh === undefined ? undefined : field(fresh, "connection");
  if (fresh === undefined || typeof processId !== "number" || !isRawConnection(connection)) return Promise.resolve();
  return new Promise((resolve) => {
    const end = () => {
      clearTimeout(timer);
      connection.stream.destroy();
      resolve();
    };
    const timer = setTimeout(end, databaseDefaults.closeTimeoutMs);
    const ask = () => connection.cancel(processId, secret);
    // The server closes the connection when it has taken the request.
    connection.once("end", end);
    connection.on("error", end);
    connection.once("connect", () => (field(fresh, "ssl") ? connection.requestSsl() : ask()));
    connection.once("sslconnect", ask);
    const host = field(fresh, "host");
    const port = field(fresh, "port");
    if (typeof host === "string" && host.startsWith("/")) connection.connect(`${host}/.s.PGSQL.${port}`);
    else connection.connect(Number(port), typeof host === "string" ? host : undefined);
  });
}
