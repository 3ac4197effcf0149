/**
 * A receiver of webhooks as a service: for each path an intake behind HTTPS, and what came in kept in memory until somebody takes it out. It stands for
 * the database on the other side: a webhook is acknowledged once it is kept.
 */
import { once } from "node:events";
import { createServer } from "node:https";
import { listener } from "posthorn/http";
import { type WebhookIntake, webhookIntake } from "posthorn/webhooks";
import type { Incoming, Receiver } from "../../../src/brokers/broker.js";
import type { Service } from "../../support/services.js";
import { ownCertificate } from "./certificate.js";
import { never, secret } from "./places.js";

const certificate = ownCertificate();
export const authority = certificate.cert;

interface Box {
  readonly intake: WebhookIntake;
  readonly kept: Incoming[];
  readonly end: () => Promise<void>;
}

const boxes = new Map<string, Promise<Box>>();

export async function startMailbox(): Promise<Service & { remove(): Promise<void> }> {
  let server = await serve(0);
  const { port } = server;
  const end = () => server.end();
  return {
    url: `https://127.0.0.1:${port}`,
    port,
    // This process keeps it, whatever happens to its server.
    keeps: "kill",
    stop: end,
    kill: end,
    restart: async () => {
      await end();
      server = await serve(port);
    },
    remove: async () => {
      await end();
      for (const box of boxes.values()) await (await box).end();
      boxes.clear();
    },
  };
}

async function serve(at: number) {
  const route = async (request: Request) => {
    const { intake } = await boxOf(new URL(request.url).pathname.slice(1));
    return intake.fetch(request);
  };
  const server = createServer(certificate, listener(route));
  server.listen(at, "127.0.0.1");
  await once(server, "listening");
  const address = server.address();
  if (address === null || typeof address === "string") throw new Error("no port");
  const end = async () => {
    const closed = new Promise((resolve) => server.close(resolve));
    server.closeAllConnections();
    await closed;
  };
  return { port: address.port, end };
}

function boxOf(destination: string): Promise<Box> {
  const known = boxes.get(destination) ?? openBox();
  boxes.set(destination, known);
  return known;
}

async function openBox(): Promise<Box> {
  const intake = webhookIntake({ secrets: [secret], unsignedAttributes: "accept" });
  const receiver = await intake.openReceiver({
    name: "box",
    service: "shop",
    signal: never,
    onTrouble: () => undefined,
  });
  const kept: Incoming[] = [];
  const ending = new AbortController();
  const loop = (async () => {
    while (!ending.signal.aborted) {
      const taken = await receiver.receive({ max: 100, waitMs: 60_000, signal: ending.signal });
      kept.push(...taken);
      await receiver.acknowledge(taken);
    }
  })();
  const end = async () => {
    ending.abort();
    await loop;
    await receiver.close();
  };
  return { intake, kept, end };
}

/** What came to a path, each once. */
export async function arrivals(destination: string): Promise<Receiver> {
  const { kept } = await boxOf(destination);
  return {
    receive: async ({ max, waitMs }) => {
      const until = performance.now() + waitMs;
      while (kept.length === 0 && performance.now() < until) await new Promise((resolve) => setTimeout(resolve, 5));
      return kept.splice(0, max);
    },
    acknowledge: async () => undefined,
    close: async () => undefined,
  };
}
