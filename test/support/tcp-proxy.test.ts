import { once } from "node:events";
import { connect, createServer, type Socket } from "node:net";
import { text } from "node:stream/consumers";
import { setImmediate as turn } from "node:timers/promises";
import { expect, onTestFinished, test } from "vitest";
import { openTcpProxy } from "./tcp-proxy.js";

// Before, what was late was overtaken by what came after the weather had changed: no network does that, and a client saw nonsense.
test("what is sent through changing weather arrives whole and in order, and the end comes last", async () => {
  let received: Promise<string> | undefined;
  const server = createServer((socket: Socket) => {
    received = text(socket);
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const address = server.address();
  if (address === null || typeof address === "string") throw new Error("no port");
  const proxy = await openTcpProxy(`tcp://127.0.0.1:${address.port}`);
  onTestFinished(async () => {
    await proxy.close();
    server.close();
  });
  const client = connect(Number(new URL(proxy.through("tcp://localhost")).port), "127.0.0.1");
  client.resume();
  const closed = once(client, "close");
  await once(client, "connect");
  const numbers = Array.from({ length: 200 }, (_, n) => `${n}\n`);
  for (const [n, line] of numbers.entries()) {
    proxy.weather(n % 10 < 5 ? { delayMs: 20 } : "fair");
    client.write(line);
    await turn();
  }
  proxy.weather({ delayMs: 20 });
  client.end();
  await closed;
  expect(await received).toBe(numbers.join(""));
});
