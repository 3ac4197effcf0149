/**
 * The message broker between the shop and the shipping department: MQTT, in a process of its own, so that killing the shop does not touch it. Elsewhere
 * this is Mosquitto, RabbitMQ or Kafka, and somebody else runs it.
 *
 * aedes acknowledges before it stores. Here a message is in the journal first, and what a receiver left unacknowledged is sent again when it comes back.
 */
import { once } from "node:events";
import { createServer, type Socket } from "node:net";
import { fileURLToPath } from "node:url";
import { Aedes, type AedesPublishPacket } from "aedes";
import { Journal, type Kept } from "./journal.js";

/** The same from wherever it is started. */
const folder = process.env.BROKER_FOLDER ?? fileURLToPath(new URL("../../../.posthorn/broker", import.meta.url));
const journal = await Journal.open(folder);

const broker = await Aedes.createBroker({
  authorizePublish: (_client, packet, done) => {
    journal.keep(keptOf(packet)).then(() => done(null), done);
  },
});
broker.on("ack", (packet) => {
  if (packet !== undefined && "topic" in packet) journal.forget(keptOf(packet)).catch(console.error);
});
broker.on("subscribe", (subscriptions) => {
  for (const { topic } of subscriptions) sendAgain(topic).catch(console.error);
});

async function sendAgain(topic: string): Promise<void> {
  for await (const { payload } of journal.of(topic)) {
    await new Promise<void>((resolve, reject) => {
      broker.publish({ cmd: "publish", topic, payload, qos: 1, dup: false, retain: false }, (error) => {
        if (error) reject(error);
        else resolve();
      });
    });
  }
}

function keptOf({ topic, payload }: Pick<AedesPublishPacket, "topic" | "payload">): Kept {
  return { topic, payload: String(payload) };
}

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
  await journal.close();
  process.exit(0);
}
process.on("SIGTERM", () => void close());
// Ctrl-C reaches every process of the terminal. The others still have something to say: the supervisor ends it after them.
process.on("SIGINT", () => undefined);
process.on("disconnect", () => void close());
process.send?.({ open: port });
