/** What a sender of webhooks says of a receiver that falls over single messages. */
import { once } from "node:events";
import { Worker } from "node:worker_threads";
import { expect, onTestFinished, test } from "vitest";
import { message, never, open, receiving } from "./places.js";

test("webhook() posts the others where the receiver falls over one of them, and says what was about that one alone", async () => {
  const { url, asked } = await receiving(({ headers }) => {
    const id = String(headers["webhook-id"]);
    return id === "hangs" ? new Promise<number>(() => undefined) : Number(id.split("-")[1]) || 204;
  });
  const sender = await open(url, { connections: 1, timeoutMs: 2_000 });
  const ids = ["a", "x-502", "x-504", "b", "x-503", "hangs", "c", "x-500"];
  const sent = await sender.send(
    ids.map((id) => message(id)),
    never,
  );
  expect(asked).toHaveLength(ids.length);
  expect(sent.map((one) => [one.kind, "alone" in one])).toEqual(
    ids.map((id) =>
      id.length === 1 ? ["acknowledged", false] : id === "x-500" ? ["failed", false] : ["unavailable", true],
    ),
  );
  // Who throttles, or asks for a pause, speaks of all; and so does a connection that was never made.
  const others = await sender.send([message("x-429"), message("d")], never);
  expect(others.map((one) => [one.kind, "alone" in one])).toEqual(Array(2).fill(["unavailable", false]));
});

test("webhook() takes an answer that came in time, though its own process was held up until after it", async () => {
  const receiver = new Worker(
    `const { parentPort } = require("node:worker_threads");
     const server = require("node:http").createServer((request, response) => {
       parentPort.postMessage("asked");
       request.resume().on("end", () => setTimeout(() => response.writeHead(204).end(), 300));
     });
     server.listen(0, "127.0.0.1", () => parentPort.postMessage(server.address().port));`,
    { eval: true },
  );
  onTestFinished(async () => void (await receiver.terminate()));
  const [port] = await once(receiver, "message");
  const sender = await open(`http://127.0.0.1:${port}/hook`, { timeoutMs: 1_000 });
  const asked = once(receiver, "message");
  const sent = sender.send([message("held-up")], never);
  await asked;
  // The answer comes meanwhile and nothing here reads it. After an immediate a process that goes on looks at its timers before its sockets.
  await new Promise((resolve) => setImmediate(resolve));
  const until = performance.now() + 1_500;
  while (performance.now() < until);
  expect(await sent).toEqual([{ kind: "acknowledged" }]);
});
