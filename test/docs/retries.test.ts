/**
 * Goal: the example of docs/guides/retries.md does what the page says of it.
 * Method: the page's own code on a database and a partner that answers over HTTP as its path says.
 */
import { once } from "node:events";
import { createServer } from "node:http";
import { afterAll, beforeAll, expect, onTestFinished, test } from "vitest";
import { eventually } from "../support/eventually.js";
import { createDatabase, type TestDatabase } from "../support/server.js";
import { open, TellPartner } from "./retries/partner.js";

let database: TestDatabase;
beforeAll(async () => {
  database = await createDatabase();
});
afterAll(() => database.drop());

/** Answers `/500` with 500; a 429 asks for two minutes. Keys that it was shown are kept. */
async function startPartner() {
  const keys: (string | undefined)[] = [];
  const server = createServer((request, response) => {
    const key = request.headers["idempotency-key"];
    keys.push(typeof key === "string" ? key : undefined);
    const status = Number(request.url?.slice(1));
    request.resume().on("end", () => response.writeHead(status, status === 429 ? { "retry-after": "120" } : {}).end());
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  onTestFinished(() => {
    server.closeAllConnections();
    server.close();
  });
  const address = server.address();
  if (address === null || typeof address === "string") throw new Error("The partner has no port.");
  return { keys, url: (status: number) => `http://127.0.0.1:${address.port}/${status}` };
}

test("the partner of the guide is asked again, put off, given up or left alone, as it answers", async () => {
  const partner = await startPartner();
  const post = open(database.url);
  onTestFinished(() => post.stop({ graceMs: 0 }));
  await post.start();
  const tell = (status: number) => post.send(TellPartner, { url: partner.url(status), orderId: "1" });
  const circuit = async () => (await post.backlog()).find(({ name }) => name === "partner")?.circuit;

  expect(await (await tell(204)).settled({ withinMs: 60_000 })).toMatchObject({ state: "succeeded" });
  expect(await (await tell(410)).settled({ withinMs: 60_000 })).toMatchObject({
    state: "dead",
    attempt: 1,
    reason: "rejected: the partner has closed this endpoint",
  });

  const busy = await tell(429);
  const later = await eventually(async () => {
    const status = await busy.status();
    return status.state === "retrying" ? status : undefined;
  });
  expect(later).toMatchObject({ attempt: 0, reason: "postponed" });
  expect(Number(later.dueAt) - Date.parse(later.history[0]?.endedAt ?? "")).toBeGreaterThan(60_000);

  const asked = partner.keys.length;
  const failing = await tell(500);
  await eventually(async () => ((await failing.status()).attempt ?? 0) >= 2);
  expect(new Set(partner.keys.slice(asked)).size).toBe(1);
  expect(await circuit()).toEqual({ state: "closed" });

  await tell(503);
  await eventually(async () => (await circuit())?.state === "open");
  expect(await circuit()).toMatchObject({ reason: "the partner is closed for maintenance" });
  const waiting = await tell(204);
  await post.untilIdle();
  expect(await waiting.status()).toMatchObject({ state: "queued", attempt: 0 });
});
