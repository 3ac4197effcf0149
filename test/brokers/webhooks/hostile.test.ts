/**
 * Goal: nobody can make an intake keep memory, connections or time by sending it what is no webhook.
 * Method: requests written by hand to a socket, against the handler behind node:http.
 */
import { once } from "node:events";
import { connect, type Socket } from "node:net";
import { listener } from "posthorn/http";
import { type WebhookIntakeOptions, webhookIntake } from "posthorn/webhooks";
import { Webhook as Oracle } from "standardwebhooks";
import { expect, onTestFinished, test } from "vitest";
import { never, receiverOf, secret, serve } from "./places.js";

const at = () => Math.floor(Date.now() / 1000);

function head(body: string, ...more: readonly string[]): string {
  const lines = [
    "POST /hooks HTTP/1.1",
    "host: shop",
    "content-type: application/json",
    "webhook-id: m1",
    `webhook-timestamp: ${at()}`,
    `webhook-signature: ${new Oracle(secret).sign("m1", new Date(at() * 1000), body)}`,
    ...more,
  ];
  return `${lines.join("\r\n")}\r\n\r\n`;
}

async function place(options: WebhookIntakeOptions = {}) {
  const intake = webhookIntake({ secrets: [secret], maxBytes: 1_000, ...options });
  const receiver = await receiverOf(intake);
  const { url } = await serve(listener(intake.fetch));
  const nothing = async () => expect(await receiver.receive({ max: 1, waitMs: 0, signal: never })).toEqual([]);
  return { url, receiver, nothing };
}

/** Writes, and keeps everything that comes until the other side closes. */
async function dial(url: string): Promise<{ readonly socket: Socket; readonly closed: Promise<string> }> {
  const { hostname, port } = new URL(url);
  const socket = connect(Number(port), hostname);
  onTestFinished(() => void socket.destroy());
  let text = "";
  socket.on("data", (chunk) => {
    text += chunk.toString("latin1");
  });
  socket.on("error", () => undefined);
  await once(socket, "connect");
  return { socket, closed: new Promise((resolve) => socket.once("close", () => resolve(text))) };
}

const statusOf = (text: string) => Number(/^HTTP\/1\.1 (\d+)/.exec(text)?.[1]);

test("a chunked body without an end is cut off at the limit with 413", async () => {
  const { url, nothing } = await place();
  const { socket, closed } = await dial(url);
  socket.write(head("", "transfer-encoding: chunked"));
  const timer = setInterval(() => socket.write(`64\r\n${"x".repeat(100)}\r\n`), 5);
  const text = await closed;
  clearInterval(timer);
  expect(statusOf(text)).toBe(413);
  await nothing();
});

test("a body that is announced too large is refused before it is sent", async () => {
  const { url, nothing } = await place();
  const { socket, closed } = await dial(url);
  socket.write(head("", `content-length: ${2 ** 30}`));
  expect(statusOf(await closed)).toBe(413);
  await nothing();
});

test("a body that comes too slowly is given up with 408, and one that is broken off is no webhook", async () => {
  const { url, nothing } = await place({ bodyTimeoutMs: 200 });
  const slow = await dial(url);
  slow.socket.write(head("", "content-length: 900"));
  const timer = setInterval(() => slow.socket.write("x"), 20);
  expect(statusOf(await slow.closed)).toBe(408);
  clearInterval(timer);
  const short = await dial(url);
  short.socket.write(head("", "content-length: 900"));
  short.socket.end("x");
  expect([Number.NaN, 400]).toContain(statusOf(await short.closed));
  await nothing();
});

test("a body that is longer or shorter than announced is not the one that was signed", async () => {
  const { url, nothing } = await place();
  const body = '{"a":1}';
  for (const length of [body.length - 1, 0]) {
    const { socket, closed } = await dial(url);
    socket.end(`${head(body, `content-length: ${length}`)}${body}`);
    expect([401, 400]).toContain(statusOf(await closed));
  }
  await nothing();
});

test("requests that HTTP does not allow, and two lengths at once, never reach the handler", async () => {
  const { url, nothing } = await place();
  const requests = [
    `${head("x", "content-length: 1", "transfer-encoding: chunked")}1\r\nx\r\n0\r\n\r\n`,
    `${head("x", "content-length: 1", "content-length: 2")}xx`,
    head("", `x-long: ${"y".repeat(40_000)}`),
    "POST /hooks HTTP/1.1\r\n\r\n",
    "nonsense\r\n\r\n",
    "GET http://[:::/ HTTP/1.1\r\nhost: x\r\n\r\n",
    "TRACE /hooks HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n",
  ];
  for (const request of requests) {
    const { socket, closed } = await dial(url);
    socket.write(request);
    socket.end();
    expect([request.slice(0, 40), Math.floor(statusOf(await closed) / 100)]).toEqual([request.slice(0, 40), 4]);
  }
  await nothing();
});

test("hundreds of small headers, which fit into a request, are too many for a message", async () => {
  const { url, nothing } = await place();
  const { socket, closed } = await dial(url);
  const many = Array.from({ length: 900 }, (_, i) => `x${i}: y`);
  socket.end(`${head("{}", "content-length: 2", "connection: close", ...many)}{}`);
  expect(statusOf(await closed)).toBe(431);
  await nothing();
});

test("what waits to be verified has a bound of its own: slow strangers do not take the places of what is verified", async () => {
  const { url, receiver } = await place({ maxPendingBytes: 1_500, bodyTimeoutMs: 60_000 });
  const strangers = await Promise.all(Array.from({ length: 3 }, () => dial(url)));
  for (const { socket } of strangers) socket.write(`${head("", "content-length: 1000")}${"x".repeat(600)}`);
  // Once 1,500 bytes of theirs are in memory, nobody else is read.
  const refused = async () => {
    const { socket, closed } = await dial(url);
    socket.end(`${head("{}", "content-length: 2", "connection: close")}{}`);
    const taken = receiver.receive({ max: 1, waitMs: 60_000, signal: never }).then(async (messages) => {
      await receiver.acknowledge(messages);
      return closed;
    });
    return statusOf(await Promise.race([closed, taken]));
  };
  await expect.poll(refused).toBe(503);
  for (const { socket } of strangers) socket.destroy();
  await expect.poll(refused).toBe(204);
});
