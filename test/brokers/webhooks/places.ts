/** Receivers of webhooks on this machine, and what they are sent. */
import { once } from "node:events";
import {
  createServer,
  type IncomingHttpHeaders,
  type IncomingMessage,
  type RequestListener,
  type Server,
} from "node:http";
import { createServer as createTcpServer, type Socket, type Server as TcpServer } from "node:net";
import { buffer } from "node:stream/consumers";
import { type WebhookOptions, webhook } from "posthorn/webhooks";
import { onTestFinished } from "vitest";
import type { Broker, Outgoing, Receiver, Sender, Sent } from "../../../src/brokers/broker.js";

export const secret = `whsec_${Buffer.alloc(32, 7).toString("base64")}`;

export interface Asked {
  readonly headers: IncomingHttpHeaders;
  readonly body: Buffer;
  readonly request: IncomingMessage;
}

/** Serves for one test. `url` is its address. */
export async function serve(listener: RequestListener): Promise<{ readonly url: string; readonly server: Server }> {
  const server = createServer(listener);
  return { url: await listen(server, () => server.closeAllConnections()), server };
}

/** A server that knows nothing of HTTP. */
export async function serveTcp(accept: (socket: Socket) => void): Promise<string> {
  const sockets = new Set<Socket>();
  const server = createTcpServer((socket) => {
    sockets.add(socket);
    socket.on("error", () => undefined);
    accept(socket);
  });
  return await listen(server, () => {
    for (const socket of sockets) socket.destroy();
  });
}

async function listen(server: TcpServer, end: () => void): Promise<string> {
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  onTestFinished(async () => {
    const closed = new Promise((resolve) => server.close(resolve));
    end();
    await closed;
  });
  const address = server.address();
  if (address === null || typeof address === "string") throw new Error("no port");
  return `http://127.0.0.1:${address.port}`;
}

/** Answers each request as `answer` says, once its body is read, and keeps what came. */
export async function receiving(
  answer: (
    asked: Asked,
    count: number,
  ) => number | { readonly status: number; readonly headers?: object; readonly text?: string } | Promise<number>,
): Promise<{ readonly url: string; readonly server: Server; readonly asked: Asked[] }> {
  const asked: Asked[] = [];
  const { url, server } = await serve(async (request, response) => {
    const one = { headers: request.headers, body: await buffer(request), request };
    asked.push(one);
    const said = await answer(one, asked.length);
    const { status, headers = {}, text = "" } = typeof said === "number" ? { status: said } : said;
    response.writeHead(status, { ...headers }).end(text);
  });
  return { url, server, asked };
}

export function message(
  id: string,
  {
    key = null,
    data = `{"id":${JSON.stringify(id)}}`,
    headers = {},
  }: { key?: string | null; data?: string; headers?: Record<string, string> } = {},
): Outgoing {
  const event = {
    id,
    source: "/shop",
    type: "OrderPlaced",
    time: "2026-01-02T03:04:05.678Z",
    datacontenttype: "application/json",
    extensions: { correlationid: "c-1" },
    data,
    headers,
  };
  return { event, key };
}

export const never = new AbortController().signal;
const opening = {
  name: "partner",
  service: "shop",
  signal: never,
  onTrouble: (error: unknown) => {
    throw error;
  },
};

/** The way out to an address of this machine. */
export function hook(url: string, options: Partial<WebhookOptions> = {}): Broker {
  return webhook({ url, secrets: [secret], allowPrivate: ["127.0.0.1"], ...options });
}

export async function senderOf(broker: Broker): Promise<Sender> {
  const sender = await broker.openSender(opening);
  onTestFinished(() => sender.close());
  return sender;
}

export async function open(url: string, options: Partial<WebhookOptions> = {}): Promise<Sender> {
  return senderOf(hook(url, options));
}

export async function receiverOf(broker: {
  openReceiver(options: typeof opening): Promise<Receiver>;
}): Promise<Receiver> {
  const receiver = await broker.openReceiver(opening);
  onTestFinished(() => receiver.close());
  return receiver;
}

export async function sendOne(sender: Sender, one: Outgoing = message("1")): Promise<Sent> {
  const [sent] = await sender.send([one], never);
  if (sent === undefined) throw new Error("nothing was answered");
  return sent;
}

/** What a failure says. */
export function said(sent: Sent): string {
  if (sent.kind === "acknowledged") return "acknowledged";
  return sent.kind === "refused" ? sent.reason : String(sent.error);
}

/** Ends when `end` is called: what a test waits for. */
export function awaited(): { readonly happened: Promise<void>; readonly end: () => void } {
  let end: () => void = () => undefined;
  const happened = new Promise<void>((resolve) => {
    end = resolve;
  });
  return { happened, end };
}
