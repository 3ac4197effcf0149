/**
 * The webhook catcher and the page: an HTTP server on the loopback address.
 *
 * Anybody may leave something at /hook. Everything else shows what was caught and answers only a browser that asked for this
 * machine by name, so that a page from elsewhere whose name suddenly means 127.0.0.1 reads nothing.
 */
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import { bounds } from "./bounds.js";
import { type Caught, firstBytes, type Webhook } from "./caught.js";
import { pageOf, script, style } from "./page.js";
import { listenOn, loopback, type WantedPort } from "./ports.js";

export interface WebCatcher {
  /** Everything below it is caught. */
  readonly hookUrl: string;
  readonly pageUrl: string;
  close(): Promise<void>;
}

/** What the page says about itself. */
export interface About {
  readonly smtpUrl: string | null;
}

const pageCsp =
  "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; frame-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
/** A caught mail is foreign: it runs nothing, loads nothing and has no origin. */
const mailCsp = "sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src data:; frame-ancestors 'self'";

export async function catchWebhooks(
  caught: Caught,
  wanted: WantedPort,
  about: About,
  onWebhook: (webhook: Webhook) => void,
): Promise<WebCatcher> {
  const watchers = new Set<ServerResponse>();
  const server = createServer({ maxHeaderSize: bounds.headerBytes }, (request, response) => {
    response.setHeader("x-content-type-options", "nosniff");
    response.setHeader("referrer-policy", "no-referrer");
    response.setHeader("cache-control", "no-store");
    response.setHeader("cross-origin-resource-policy", "same-origin");
    // What begins with two slashes would name a host.
    const { pathname, searchParams } = new URL(`http://localhost/${(request.url ?? "").replace(/^[^?]*?\/+/, "")}`);
    if (/^\/hook(\/|$)/.test(pathname)) {
      const keep = (webhook: Omit<Webhook, "id" | "at">): void => onWebhook(caught.webhook(webhook));
      take(request, response, searchParams.get("status"), keep);
    } else if (!isOwnName(request.headers.host, port)) {
      answer(response, 421, "text/plain", `This is a page for http://${loopback}:${port}/ alone.\n`);
    } else show(request, response, pathname, { caught, about: { ...about, hookUrl: `${origin}/hook` }, watchers });
  });
  const port = await listenOn(server, wanted);
  const origin = `http://${loopback}:${port}`;
  server.on("clientError", (_error, socket) => socket.destroy());
  return {
    hookUrl: `${origin}/hook`,
    pageUrl: `${origin}/`,
    close: async () => {
      for (const watcher of watchers) watcher.end();
      const closed = new Promise<void>((resolve) => server.close(() => resolve()));
      server.closeAllConnections();
      await closed;
    },
  };
}

export function isOwnName(host: string | undefined, port: number): boolean {
  return [loopback, "localhost", "[::1]"].some((name) => host?.toLowerCase() === `${name}:${port}`);
}

function answer(
  response: ServerResponse,
  status: number,
  type: string,
  body: string,
  csp = "default-src 'none'",
): void {
  response.writeHead(status, { "content-type": `${type}; charset=utf-8`, "content-security-policy": csp });
  response.end(body);
}

/** Answers 200, or what `?status=` asks for: so a refusing receiver can be tried. */
function take(
  request: IncomingMessage,
  response: ServerResponse,
  wanted: string | null,
  keep: (webhook: Omit<Webhook, "id" | "at">) => void,
): void {
  const status = /^[2-5]\d\d$/.test(wanted ?? "") ? Number(wanted) : 200;
  const parts: Buffer[] = [];
  let bytes = 0;
  request.on("error", () => undefined);
  request.on("data", (part: Buffer) => {
    if (bytes < bounds.keptBodyBytes) parts.push(part);
    bytes += part.length;
    if (bytes <= bounds.bodyBytes) return;
    request.removeAllListeners("data");
    response.setHeader("connection", "close");
    response.once("finish", () => request.destroy());
    answer(response, 413, "text/plain", `The catcher takes ${bounds.bodyBytes} bytes.\n`);
  });
  request.once("end", () => {
    const { method = "", url = "", rawHeaders } = request;
    const headers = rawHeaders.flatMap((name, i) => (i % 2 === 0 ? [[name, rawHeaders[i + 1] ?? ""] as const] : []));
    const body = firstBytes(Buffer.concat(parts), bounds.keptBodyBytes);
    keep({ method, path: url, headers, body, bytes, cut: bytes > bounds.keptBodyBytes, status });
    if (status === 204 || status === 304) response.writeHead(status).end();
    else answer(response, status, "application/json", '{"caught":true}\n');
  });
}

interface Shown {
  readonly caught: Caught;
  readonly about: About & { readonly hookUrl: string };
  readonly watchers: Set<ServerResponse>;
}

function show(request: IncomingMessage, response: ServerResponse, path: string, shown: Shown): void {
  const { method } = request;
  if (method === "DELETE" && path === "/caught") {
    // A page from elsewhere cannot send this without being allowed to first.
    shown.caught.clear();
    response.writeHead(204).end();
  } else if (method !== "GET" && method !== "HEAD") {
    answer(response, 405, "text/plain", "GET, or DELETE /caught.\n");
  } else if (path === "/changes" && shown.watchers.size < bounds.watchers) {
    watch(request, response, shown);
  } else {
    const { status = 200, type, body, csp } = contentOf(path, shown);
    answer(response, status, type, body, csp);
  }
}

interface Content {
  readonly status?: number;
  readonly type: string;
  readonly body: string;
  readonly csp?: string;
}

function contentOf(path: string, { caught, about }: Shown): Content {
  const { mails, webhooks } = caught;
  if (path === "/") return { type: "text/html", body: pageOf(caught, about), csp: pageCsp };
  if (path === "/page.css") return { type: "text/css", body: style };
  if (path === "/page.js") return { type: "text/javascript", body: script };
  if (path === "/caught") return { type: "application/json", body: `${JSON.stringify({ mails, webhooks })}\n` };
  if (path === "/changes") return { status: 503, type: "text/plain", body: "Too many pages watch.\n" };
  const [, id, what] = /^\/mail\/(\d{1,15})\/(html|source)$/.exec(path) ?? [];
  const mail = mails.find((one) => one.id === Number(id));
  if (mail === undefined) return { status: 404, type: "text/plain", body: "There is nothing here.\n" };
  if (what === "source") return { type: "text/plain", body: mail.source };
  return { type: "text/html", body: mail.html ?? "", csp: mailCsp };
}

function watch(request: IncomingMessage, response: ServerResponse, { caught, watchers }: Shown): void {
  response.writeHead(200, { "content-type": "text/event-stream; charset=utf-8" });
  response.write("data: changed\n\n");
  watchers.add(response);
  const end = caught.watch(() => response.write("data: changed\n\n"));
  request.once("close", () => {
    end();
    watchers.delete(response);
  });
}
