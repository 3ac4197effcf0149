/**
 * Goal: whoever has the host or the port of a broker wrong is told so: where something else answers, by an error at start that is no outage; where nothing
 * listens, with what to look at.
 * Method: servers on this machine that answer as others do. The right ones are those of `npm run test:brokers`, where all of these brokers are opened.
 */
import { once } from "node:events";
import { createServer as createHttpServer } from "node:http";
import { createServer, type Server } from "node:net";
import { inspect } from "node:util";
import { describe, expect, onTestFinished, test } from "vitest";
import type { Broker } from "../../src/brokers/broker.js";
import { kafka } from "../../src/brokers/kafka/index.js";
import { mqtt } from "../../src/brokers/mqtt/index.js";
import { nats } from "../../src/brokers/nats/index.js";
import { neverReached } from "../../src/brokers/never-reached.js";
import { rabbitmq } from "../../src/brokers/rabbitmq/index.js";
import { redis } from "../../src/brokers/redis/index.js";
import { sqs } from "../../src/brokers/sqs/index.js";
import { ConfigurationError } from "../../src/core/errors.js";
import { freePort } from "../support/free-port.js";
import { never, secret } from "./scene.js";

const opening = { name: "orders", service: "shop", signal: never(), onTrouble: () => undefined };
const credentials = { accessKeyId: "anybody", secretAccessKey: secret };

const brokers: Readonly<Record<string, (at: string) => Broker>> = {
  nats: (at) => nats({ url: `nats://user:${secret}@${at}`, stream: "s", subject: "s.all" }),
  redis: (at) => redis({ url: `redis://user:${secret}@${at}`, stream: "s", group: "g" }),
  mqtt: (at) => mqtt({ url: `mqtt://user:${secret}@${at}`, topic: "t" }),
  rabbitmq: (at) => rabbitmq({ url: `amqp://user:${secret}@${at}`, queue: "q" }),
  kafka: (at) => kafka({ url: `kafka://user:${secret}@${at}`, topic: "t", group: "g" }),
  sqs: (at) => sqs({ url: `http://${at}`, queue: "q", credentials }),
};

/** What each of them says to whoever speaks its protocol wrongly, and what it says first. */
const others: Readonly<Record<string, () => Server>> = {
  NATS: () =>
    createServer((socket) => {
      socket.write('INFO {"server_id":"x","version":"2.10.0","max_payload":1048576} \r\n');
      socket.on("data", () => socket.end("-ERR 'Unknown Protocol Operation'\r\n"));
      socket.on("error", () => undefined);
    }),
  Redis: () =>
    createServer((socket) => {
      socket.on("data", (got) => {
        for (const line of got.toString("latin1").split("\n").slice(0, -1))
          socket.write(line === "PING\r" ? "+PONG\r\n" : "-ERR unknown command\r\n");
      });
      socket.on("error", () => undefined);
    }),
  RabbitMQ: () =>
    createServer((socket) => {
      let bytes = 0;
      socket.on("data", (got) => {
        bytes += got.length;
        if (bytes >= 8) socket.end(Uint8Array.of(0x41, 0x4d, 0x51, 0x50, 0, 0, 9, 1));
      });
      socket.on("error", () => undefined);
    }),
  HTTP: () => createHttpServer((_request, response) => response.end("no broker")),
};

async function listening(server: Server): Promise<string> {
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  onTestFinished(() => void server.close());
  const address = server.address();
  if (address === null || typeof address === "string") throw new Error("no port");
  return `127.0.0.1:${address.port}`;
}

async function errorOf(broker: Broker): Promise<unknown> {
  const opened = await broker.openSender(opening).catch((error: unknown) => ({ error }));
  if ("error" in opened) return opened.error;
  await opened.close();
  return expect.fail("it opened");
}

const itself: Readonly<Record<string, string>> = { nats: "NATS", redis: "Redis", rabbitmq: "RabbitMQ", sqs: "HTTP" };

describe.each(Object.entries(brokers))("%s", (name, make) => {
  // Each of these was an outage: "Messages wait, and go out when it is back".
  test.each(Object.keys(others).filter((other) => other !== itself[name]))(
    "the address of a server of %s is told as one that has to be mended",
    async (other) => {
      const server = others[other];
      if (server === undefined) return expect.fail();
      const at = await listening(server());
      const error = await errorOf(make(at));
      expect(error).toBeInstanceOf(ConfigurationError);
      const message = expect.stringMatching(`^What answers at .*${at}.* is something else than `);
      expect(error).toMatchObject({ code: "PH_BROKER_ADDRESS", message });
      expect(inspect(error, { depth: 8 })).not.toContain(secret);
    },
  );

  test("an address at which nothing listens, and a host that nobody knows, is no error that waiting does not mend, and advice is given", async () => {
    const refused = await errorOf(make(`127.0.0.1:${await freePort()}`));
    expect(refused).not.toBeInstanceOf(ConfigurationError);
    expect(neverReached(refused)).toBe("Nothing listens there: if it should be up, look at the host and the port");
    const unknown = await errorOf(make("no-such-host.invalid:4222"));
    expect(neverReached(unknown)).toBe("No host of that name is known: if it should be, look at its name");
  });

  test("a server that says nothing, or hangs up, is away", async () => {
    const at = await listening(createServer((socket) => socket.on("error", () => undefined).destroy()));
    const error = await errorOf(make(at));
    expect(error).not.toBeInstanceOf(ConfigurationError);
    expect(neverReached(error)).toBeUndefined();
  });
});
