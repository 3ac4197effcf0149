/**
 * The message broker between the shop and the shipping department: MQTT, in a process of its own, so that killing the shop does not touch it. What it
 * has acknowledged lies on disk. Elsewhere this is Mosquitto, RabbitMQ or Kafka, and somebody else runs it.
 */
import { once } from "node:events";
import { mkdirSync } from "node:fs";
import { createServer, type Socket } from "node:net";
import { fileURLToPath } from "node:url";
import { Aedes } from "aedes";
import persistence from "aedes-persistence-level";
import { Level } from "level";

/** The same from wherever it is started. */
const folder = process.env.BROKER_FOLDER ?? fileURLToPath(new URL("../../../.posthorn/broker", import.meta.url));
mkdirSync(folder, { recursive: true });
const kept = new Level<string, Uint8Array>(folder, { valueEncoding: "binary" });
await kept.open();
const broker = await Aedes.createBroker({ persistence: persistence(kept) });

/** Its connections, which end when it goes down. */
const sockets = new Set<Socket>();
const server = createServer((socket) => {
  sockets.add(socket);
  socket.once("close", () => sockets.delete(socket));
  broker.handle(socket);
});

async function goUp(port: number): Promise<number> {
  server.listen(port, "127.0.0.1");
  await once(server, "listening");
  const address = server.address();
  if (address === null || typeof address === "string") throw new Error("The broker has no port.");
  return address.port;
}

/** Refuses connections, as a broker that is away does. What it keeps stays. */
async function goDown(): Promise<void> {
  const closed = once(server, "close");
  server.close();
  for (const socket of sockets) socket.destroy();
  await closed;
}

const port = await goUp(Number(process.env.BROKER_PORT ?? 0));
let turning = Promise.resolve();

process.on("message", (message) => {
  if (typeof message !== "object" || message === null || !("broker" in message)) return;
  const down = message.broker === "down";
  turning = turning.then(async () => {
    if (down && server.listening) await goDown();
    else if (!down && !server.listening) await goUp(port);
  });
});

async function close(): Promise<void> {
  await turning;
  if (server.listening) await goDown();
  await new Promise<void>((resolve) => broker.close(resolve));
  await kept.close();
  process.exit(0);
}
process.on("SIGTERM", () => void close());
// Ctrl-C reaches every process of the terminal. The others still have something to say: the supervisor ends it after them.
process.on("SIGINT", () => undefined);
process.on("disconnect", () => void close());
process.send?.({ open: port });
