/** Serves a web-standard handler with Node's own server, for `posthorn start --port`. */
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { ConfigurationError } from "../core/errors.js";
import { clause } from "../core/words.js";

export interface Served {
  readonly port: number;
  close(): Promise<void>;
}

/** Errors: `ConfigurationError` for a port that cannot be had. */
export async function serve(
  handler: (request: Request) => Promise<Response>,
  { port, host }: { readonly port: number; readonly host: string },
): Promise<Served> {
  const server = createServer((incoming, outgoing) => {
    const request = new Request(new URL(incoming.url ?? "/", "http://probe"), { method: incoming.method ?? "GET" });
    handler(request)
      .then(async (response) => {
        outgoing.writeHead(response.status, Object.fromEntries(response.headers));
        outgoing.end(incoming.method === "HEAD" ? undefined : await response.text());
      })
      .catch(() => outgoing.destroy());
  });
  await listening(server, port, host);
  return {
    port: (server.address() as AddressInfo).port,
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}

function listening(server: Server, port: number, host: string): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once("error", (error: NodeJS.ErrnoException) => {
      const why = error.code === "EADDRINUSE" ? "another program listens there" : `${error.code ?? error.message}`;
      reject(
        new ConfigurationError(
          "PH_ARGUMENT_INVALID",
          `Port ${port} of ${host} cannot be used: ${clause(why)}. Choose another.`,
          { port, host },
          error,
        ),
      );
    });
    server.listen(port, host, () => resolve());
  });
}
