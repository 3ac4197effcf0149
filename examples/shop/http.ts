/** The shop over HTTP: a table of routes, and one place where a reply or a problem is written. */
import { once } from "node:events";
import { readFile } from "node:fs/promises";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import { performance } from "node:perf_hooks";
import { z } from "zod";
import { readJson } from "./body.js";
import { Email, PriceOf, Sku } from "./contracts.js";
import type { MailServer } from "./mail-server.js";
import { mails } from "./mailbox.js";
import { articles, orders, placeOrder, UnknownArticle } from "./orders.js";
import { post } from "./post.js";
import { Problem, problemOf } from "./problem.js";

interface Reply {
  readonly status?: number;
  readonly headers?: Readonly<Record<string, string>>;
  readonly json?: unknown;
  readonly file?: string;
}

type Answer = (request: IncomingMessage, part: string) => Reply | Promise<Reply>;

interface Route {
  /** What its group matches is the part of the path that the answer is given. */
  readonly path: RegExp;
  readonly answers: Readonly<Record<string, Answer>>;
}

const NewOrder = z.strictObject({ sku: Sku, email: Email });
const Switch = z.strictObject({ accepting: z.boolean() });

const types: Readonly<Record<string, string>> = {
  html: "text/html; charset=utf-8",
  css: "text/css; charset=utf-8",
  js: "text/javascript; charset=utf-8",
  svg: "image/svg+xml",
};

function routes(mailServer: MailServer): readonly Route[] {
  return [
    { path: /^\/()$/, answers: { GET: () => ({ file: "page.html" }) } },
    { path: /^\/(page\.css|page\.js|icon\.svg)$/, answers: { GET: (_request, file) => ({ file }) } },
    { path: /^\/articles()$/, answers: { GET: async () => ({ json: await articles() }) } },
    { path: /^\/price\/([^/]+)$/, answers: { GET: (_request, sku) => price(sku) } },
    { path: /^\/orders()$/, answers: { GET: async () => ({ json: await orders() }), POST: newOrder } },
    { path: /^\/orders\/([^/]+)$/, answers: { GET: (_request, id) => oneOrder(id) } },
    { path: /^\/mails()$/, answers: { GET: async () => ({ json: await mails() }) } },
    {
      path: /^\/mail-server()$/,
      answers: {
        GET: () => ({ json: { accepting: mailServer.accepting, port: mailServer.port } }),
        PUT: async (request) => {
          mailServer.accepting = (await readJson(request, Switch)).accepting;
          return { json: { accepting: mailServer.accepting, port: mailServer.port } };
        },
      },
    },
  ];
}

async function price(sku: string): Promise<Reply> {
  if (!Sku.safeParse(sku).success) throw new UnknownArticle(sku);
  const began = performance.now();
  const { cents } = await post.ask(PriceOf, { sku });
  return { json: { sku, cents, tookMs: Math.round((performance.now() - began) * 10) / 10 } };
}

async function newOrder(request: IncomingMessage): Promise<Reply> {
  const order = await readJson(request, NewOrder);
  try {
    const id = await placeOrder(order);
    return { status: 201, headers: { location: `/orders/${id}` }, json: { id } };
  } catch (error) {
    if (!(error instanceof UnknownArticle)) throw error;
    throw new Problem(422, error.message, { errors: [{ pointer: "#/sku", detail: "is not an article of this shop" }] });
  }
}

async function oneOrder(id: string): Promise<Reply> {
  const [order] = z.uuid().safeParse(id).success ? await orders(id) : [];
  if (order === undefined) throw new Problem(404, "There is no such order.");
  return { json: order };
}

/** Listens on `port`, or on a free one when that is taken. */
export async function openShop(port: number, mailServer: MailServer): Promise<{ server: Server; port: number }> {
  const table = routes(mailServer);
  const server = createServer((request, response) => void serve(table, request, response));
  server.requestTimeout = 10_000;
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

async function serve(table: readonly Route[], request: IncomingMessage, response: ServerResponse): Promise<void> {
  try {
    await write(response, await answer(table, request));
  } catch (error) {
    const problem = problemOf(error);
    await write(response, { status: problem.status, headers: problem.headers, json: problem });
  }
}

function answer(table: readonly Route[], request: IncomingMessage): Reply | Promise<Reply> {
  const path = (request.url ?? "").split("?", 1)[0] ?? "";
  for (const route of table) {
    const part = route.path.exec(path)?.[1];
    if (part === undefined) continue;
    const found = route.answers[request.method === "HEAD" ? "GET" : (request.method ?? "")];
    if (found !== undefined) return found(request, part);
    const methods = Object.keys(route.answers).flatMap((method) => (method === "GET" ? ["GET", "HEAD"] : [method]));
    const allow = methods.join(", ");
    throw new Problem(405, `${path} takes ${allow}.`, { headers: { allow } });
  }
  throw new Problem(404, "There is nothing at this path.");
}

async function write(response: ServerResponse, reply: Reply): Promise<void> {
  const { status = 200, headers = {}, json, file } = reply;
  const body = file === undefined ? JSON.stringify(json) : await readFile(new URL(file, import.meta.url));
  const type = file === undefined ? "application/json" : types[file.split(".").pop() ?? ""];
  response.writeHead(status, {
    "content-type": json instanceof Problem ? "application/problem+json" : type,
    "content-length": Buffer.byteLength(body),
    "content-security-policy": "default-src 'self'",
    "x-content-type-options": "nosniff",
    "cache-control": "no-store",
    ...headers,
  });
  // Node leaves the body out when the request was HEAD.
  response.end(body);
}
