/** A small HTTP service on a free port of the loopback address. */
import { once } from "node:events";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import { text } from "node:stream/consumers";

export interface Service {
  readonly url: string;
  close(): Promise<void>;
}

export interface Asked {
  readonly headers: IncomingMessage["headers"];
  readonly body: string;
}

/** Undefined: the request was performed, and its answer is lost on the way. */
export type Answered = { readonly status: number; readonly json?: unknown } | undefined;

export async function startService(path: string, answer: (asked: Asked) => Promise<Answered>): Promise<Service> {
  const server = createServer((request, response) => {
    handle(path, answer, request, response).catch((error: unknown) => {
      console.error(error);
      response.destroy();
    });
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const address = server.address();
  if (address === null || typeof address === "string") throw new Error("The service has no port.");
  const close = async (): Promise<void> => {
    server.close();
    server.closeAllConnections();
  };
  return { url: `http://127.0.0.1:${address.port}`, close };
}

async function handle(
  path: string,
  answer: (asked: Asked) => Promise<Answered>,
  request: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  const fits = request.url === path && request.method === "POST";
  const body = await text(request);
  const answered = fits ? await answer({ headers: request.headers, body }) : { status: 404 };
  if (answered === undefined) response.destroy();
  else if (answered.json === undefined) response.writeHead(answered.status).end();
  else response.writeHead(answered.status, { "content-type": "application/json" }).end(JSON.stringify(answered.json));
}

export function parseJson(body: string): unknown {
  try {
    return JSON.parse(body);
  } catch {
    return undefined;
  }
}
