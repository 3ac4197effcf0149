/** The code of the guide about webhooks does what the guide says. Its blocks are compared with it in excerpts.test.ts. */
import { once } from "node:events";
import type { Server } from "node:http";
import { event, hours, minutes, policies, posthorn, seconds, type } from "posthorn";
import { listener } from "posthorn/http";
import { webhook } from "posthorn/webhooks";
import { Webhook as Oracle } from "standardwebhooks";
import { expect, onTestFinished, test } from "vitest";
import { limits } from "../../src/core/limits.js";
import { nominalDelayMs, type Retry } from "../../src/policies/retry.js";
import { message, never, receiverOf, senderOf, sendOne, serve } from "../brokers/webhooks/places.js";
import { createDatabase } from "../support/server.js";
import { byHand, inbound, keys, orders, partner, patient, warehouse } from "./examples/webhooks.js";
import { readPage } from "./pages.js";

const page = readPage("docs/guides/webhooks.md");

test("every block of TypeScript in the guide about webhooks is from code that a test runs", () => {
  const code = page.blocks.filter(({ language }) => language === "ts");
  expect(code.length).toBeGreaterThan(3);
  expect(code.filter(({ mark }) => mark !== "from test/docs/examples/webhooks.ts")).toEqual([]);
});

async function listening(server: Server): Promise<number> {
  server.listen(0, "127.0.0.1");
  onTestFinished(() => {
    server.closeAllConnections();
    server.close();
  });
  await once(server, "listening");
  const address = server.address();
  if (address === null || typeof address === "string") throw new Error("no port");
  return address.port;
}

test("a webhook of the guide goes out with each kind of key, and comes in at the place of the guide", async () => {
  const { shared, secretKey, publicKey } = keys();
  const { hooks, server } = inbound([shared, publicKey]);
  const port = await listening(server);
  const receiver = await receiverOf(hooks);
  for (const secret of [shared, secretKey]) {
    const url = `http://127.0.0.1:${port}/hooks/partner`;
    const sent = sendOne(await senderOf(webhook({ url, secrets: [secret], allowPrivate: ["127.0.0.1"] })));
    const taken = await receiver.receive({ max: 1, waitMs: 60_000, signal: never });
    await receiver.acknowledge(taken);
    expect(await sent).toEqual({ kind: "acknowledged" });
  }
  const elsewhere = await senderOf(warehouse(port, shared));
  expect(await sendOne(elsewhere)).toMatchObject({ kind: "failed" });
});

test("the relay of the guide posts what is published", async () => {
  const { shared } = keys();
  const { hooks, server } = inbound([shared]);
  const url = `http://127.0.0.1:${await listening(server)}/hooks/partner`;
  const receiver = await receiverOf(hooks);
  const database = await createDatabase();
  const post = posthorn({ service: "shop", database: database.url, migrate: "auto" });
  onTestFinished(async () => {
    await post.stop({ graceMs: 0 });
    await database.drop();
  });
  orders(post, webhook({ url, secrets: [shared], allowPrivate: ["127.0.0.1"], timeoutMs: 15_000 }));
  await post.start();
  const OrderPlaced = event("OrderPlaced", { topic: "orders", schema: type<{ orderId: string }>() });
  await post.publish(OrderPlaced, { orderId: "A1" });
  const [taken] = await receiver.receive({ max: 1, waitMs: 60_000, signal: never });
  expect(JSON.parse(Buffer.from(taken?.body ?? []).toString())).toMatchObject({ data: { orderId: "A1" } });
  if (taken !== undefined) await receiver.acknowledge([taken]);
});

test("what a receiver refuses is tried for as long as the guide says, and the policy for partners is taken", () => {
  const to = webhook({ url: "https://partner.example/hooks", secrets: [keys().shared] });
  patient(posthorn({ service: "shop", database: "postgres://127.0.0.1:1/none" }), to);
  const longestMs = (retry: Retry) => {
    if (retry.kind === "custom") throw new Error("its waits are told by nobody ahead");
    const waits = Array.from({ length: retry.attempts - 1 }, (_, i) => nominalDelayMs(retry, i + 1));
    return waits.reduce((sum, ms) => sum + ms, 0);
  };
  // The waits are spread over their upper half.
  expect([policies.relay.retry.attempts, longestMs(policies.relay.retry)]).toEqual([10, minutes(8) + seconds(31)]);
  expect([policies.webhook.retry.attempts, longestMs(policies.webhook.retry) / hours(1)]).toEqual([
    16,
    expect.closeTo(23.4, 1),
  ]);
});

test("the address of a partner is checked as the guide says", () => {
  const { shared } = keys();
  expect(partner({ url: "https://partner.example/hooks/7f3a", secrets: [shared] }).where).toBe(
    "https://partner.example/…#28ef09",
  );
  for (const url of ["http://partner.example/", "https://10.0.0.1/", "https://localhost/"]) {
    expect(() => partner({ url, secrets: [shared] })).toThrow(expect.objectContaining({ code: "PH_BROKER_ADDRESS" }));
  }
});

test("a receiver by hand acknowledges what is signed, once or again, and nothing else", async () => {
  const { shared } = keys();
  const ids: string[] = [];
  const { url } = await serve(
    listener((request) =>
      byHand(request, shared, async (id) => {
        ids.push(id);
        return ids.indexOf(id) < ids.length - 1;
      }),
    ),
  );
  const sender = await senderOf(webhook({ url, secrets: [shared], allowPrivate: ["127.0.0.1"] }));
  for (const _ of ["first", "again"]) expect(await sendOne(sender, message("m-1"))).toEqual({ kind: "acknowledged" });
  expect(ids).toEqual(["m-1", "m-1"]);
  const answer = await fetch(url, { method: "POST", body: "{}" });
  expect(answer.status).toBe(401);
  const old = new Date(Date.now() - 600_000);
  const headers = {
    "webhook-id": "m-2",
    "webhook-timestamp": String(Math.floor(old.getTime() / 1000)),
    "webhook-signature": new Oracle(shared).sign("m-2", old, "{}"),
  };
  expect((await fetch(url, { method: "POST", body: "{}", headers })).status).toBe(401);
});

test("the numbers of the guide are those of the code", () => {
  expect(page.text).toContain(`${limits.webhookAnswerBytes / 1024} KiB`);
  expect(page.text).toContain(`${limits.webhookAnswerMs / 1000} seconds`);
});
