/**
 * Goal: two services joined by webhooks: what is said in the one happens in the other once and in order, whatever the way between them does.
 * Method: a database for each; the receiver away, or gone, and answers that get lost after the commit.
 */
import { PGlite } from "@electric-sql/pglite";
import { event, type Post, policies, posthorn, type Sql, type } from "posthorn";
import { listener } from "posthorn/http";
import { webhook, webhookIntake } from "posthorn/webhooks";
import { expect, onTestFinished, test } from "vitest";
import { silentLogger } from "../../../src/core/logger.js";
import { eventually } from "../../support/eventually.js";
import { receiving, secret, serve } from "./places.js";

const OrderPlaced = event("OrderPlaced", {
  topic: "orders",
  schema: type<{ order: string; n: number }>(),
  key: ({ order }) => order,
});

function service(name: string): Post<Sql> {
  const pglite = new PGlite();
  const post = posthorn({ service: name, database: pglite, migrate: "auto", logger: silentLogger });
  onTestFinished(async () => {
    await post.stop({ graceMs: 0 });
    await pglite.close();
  });
  return post;
}

function relayTo(post: Post<Sql>, url: string): void {
  post.relay("partner", {
    ...policies.relay,
    from: { topic: "orders" },
    to: webhook({ url, secrets: [secret], allowPrivate: ["127.0.0.1"] }),
    concurrency: 10,
    startFrom: "oldest",
  });
}

test("each event arrives once and in the order of its key, although the receiver is away at first and answers get lost after the commit", async () => {
  const [shop, shipping] = [service("shop"), service("shipping")];
  const hooks = webhookIntake({ secrets: [secret], path: "/hooks", retryAfterMs: 1_000 });
  let stored = 0;
  const { url } = await serve((request, response) => {
    listener(async (asked) => {
      const answer = await hooks.fetch(asked);
      if (answer.status === 204) stored += 1;
      // Three answers are never sent: the message is committed, and its sender does not know.
      if (answer.status === 204 && stored % 40 === 0) response.destroy();
      return answer;
    })(request, response);
  });
  const seen: { readonly order: string; readonly n: number }[] = [];
  shipping.intake("shop", { from: hooks, into: [OrderPlaced] });
  shipping
    .subscription("packing", { topic: "orders", ...policies.notify, ordering: { per: "key", whenDead: "park" } })
    .on(OrderPlaced, (order) => void seen.push(order));
  relayTo(shop, `${url}/hooks`);
  const orders = Array.from({ length: 120 }, (_, i) => ({ order: `o${i % 6}`, n: i }));
  await shop.start();
  await shop.publishMany(OrderPlaced, orders);
  // Nobody takes anything in yet: the answer is 503, and the messages wait.
  await eventually(async () =>
    (await shop.backlog()).some(({ name, backlog }) => name === "partner" && backlog === 120),
  );
  expect(seen).toEqual([]);
  await shipping.start();
  await eventually(() => seen.length >= 120);
  await shop.untilIdle();
  await shipping.untilIdle();
  expect(seen).toHaveLength(120);
  // What was committed without an answer came again.
  expect(stored).toBeGreaterThan(120);
  for (const key of new Set(orders.map(({ order }) => order))) {
    const of = (list: typeof seen) => list.filter(({ order }) => order === key).map(({ n }) => n);
    expect(of(seen)).toEqual(of(orders));
  }
});

test("a receiver that is gone is posted to once; its messages wait, and nothing of them is dead", async () => {
  const shop = service("shop");
  const { url, asked } = await receiving(() => 410);
  relayTo(shop, url);
  await shop.start();
  await shop.publish(OrderPlaced, { order: "o1", n: 1 });
  await eventually(() => asked.length === 1);
  await shop.publishMany(OrderPlaced, [
    { order: "o2", n: 2 },
    { order: "o3", n: 3 },
  ]);
  await eventually(async () => (await shop.backlog()).some(({ name, backlog }) => name === "partner" && backlog === 3));
  expect(asked).toHaveLength(1);
});
