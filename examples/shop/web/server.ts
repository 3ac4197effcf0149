/** The shop over HTTP: finds the route, and is the one place where a reply or a problem is written. */
import { once } from "node:events";
import { readFile } from "node:fs/promises";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { Duplex } from "node:stream";
import { Problem, problemOf } from "./problem.js";
import type { Reply, Route } from "./routes.js";

const types: Readonly<Record<string, string>> = {
  html: "text/html; charset=utf-8",
  css: "text/css; charset=utf-8",
  js: "text/javascript; charset=utf-8",
  svg: "image/svg+xml",
};

/** Listens on `port`, or on a free one when that is taken. */
export async function openShop(port: number, routes: readonly Route[]): Promise<{ server: Server; port: number }> {
  const server = createServer((request, response) => void serve(routes, request, response));
  server.requestTimeout = 10_000;
  server.on("clientError", refuseBroken);
  try {
    await listen(server, port);
  } catch (error) {
    if (!(error instanceof Error && "code" in error && error.code === "EADDRINUSE")) throw error;
    await listen(server, 0);
  }
  const address = server.address();
  if (address === null || typeof address === "string") throw new Error("The shop has no port.");
  return { server, port: address.port };
}

async function listen(server: Server, port: number): Promise<void> {
  server.listen(port, "127.0.0.1");
  await once(server, "listening");
}

async function serve(routes: readonly Route[], request: IncomingMessage, response: ServerResponse): Promise<void> {
  try {
    await write(response, await answer(routes, request));
  } catch (error) {
    const problem = problemOf(error);
    await write(response, { status: problem.status, headers: problem.headers, json: problem });
  }
}

function answer(routes: readonly Route[], request: IncomingMessage): Reply | Promise<Reply> {
  const [path = "", query = ""] = (request.url ?? "").split("?", 2);
  if (/%(?![0-9a-f]{2})/i.test(request.url ?? ""))
    throw new Problem(400, "A % in the address is not followed by two digits.");
  for (const { path: pattern, answers } of routes) {
    const part = pattern.exec(path)?.[1];
    if (part === undefined) continue;
    const found = answers[request.method === "HEAD" ? "GET" : (request.method ?? "")];
    if (found === undefined) throw wrongMethod(path, Object.keys(answers));
    if (request.method !== "GET" && request.method !== "HEAD") refuseOtherSites(request);
    return found(request, part, new URLSearchParams(query));
  }
  throw new Problem(404, "There is nothing at this path.");
}

function wrongMethod(path: string, answered: readonly string[]): Problem {
  const allow = answered.flatMap((method) => (method === "GET" ? ["GET", "HEAD"] : [method])).join(", ");
  return new Problem(405, `${path} takes ${allow}.`, { headers: { allow } });
}

/** Browsers say where a request comes from. Nobody else's page may change something here in the name of its visitor. */
function refuseOtherSites(request: IncomingMessage): void {
  const site = request.headers["sec-fetch-site"];
  if (site === undefined || site === "same-origin" || site === "none") return;
  throw new Problem(403, "This request comes from another site.");
}

async function write(response: ServerResponse, reply: Reply): Promise<void> {
  const { status = 200, headers = {}, json, file } = reply;
  let body: string | Buffer;
  try {
    body = file === undefined ? JSON.stringify(json) : await readFile(new URL(`page/${file}`, import.meta.url));
  } catch {
    await write(response, { status: 404, json: new Problem(404, "There is nothing at this path.") });
    return;
  }
  const type = file === undefined ? "application/json" : types[file.split(".").pop() ?? ""];
  response.writeHead(status, {
    "content-type": json instanceof Problem ? "application/problem+json" : type,
    "content-length": Buffer.byteLength(body),
    "content-security-policy": "default-src 'self'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cache-control": "no-store",
    ...headers,
  });
  // Node leaves the body out when the request was HEAD.
  response.end(body);
}

/** What is no HTTP, or too much of it, never becomes a request; it is answered all the same. */
function refuseBroken(error: NodeJS.ErrnoException, socket: Duplex): void {
  if (!socket.writable || error.code === "ECONNRESET") {
    socket.destroy();
    return;
  }
  const statuses: Readonly<Record<string, number>> = { HPE_HEADER_OVERFLOW: 431, ERR_HTTP_REQUEST_TIMEOUT: 408 };
  const problem = new Problem(statuses[error.code ?? ""] ?? 400, "This is not a request that can be read.");
  const body = JSON.stringify(problem);
  const head = [
    `HTTP/1.1 ${problem.status} ${problem.title}`,
    "content-type: application/problem+json",
    `content-length: ${Buffer.byteLength(body)}`,
    "connection: close",
  ];
  socket.end(`${head.join("\r\n")}\r\n\r\n${body}`);
}
