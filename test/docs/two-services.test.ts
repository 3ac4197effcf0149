import { mqtt } from "posthorn/mqtt";
import { expect, onTestFinished, test } from "vitest";
import { startAedes } from "../brokers/aedes.js";
import { eventually } from "../support/eventually.js";
import { createDatabase } from "../support/server.js";
import { OrderPlaced, openShipping, openShop } from "./examples/two-services.js";

test("what the shop of the README publishes is packed by its shipping department, which has a database of its own, once each", async () => {
  const service = await startAedes();
  onTestFinished(() => service.stop());
  const broker = () => mqtt({ url: service.url, topic: "shop/orders", version: "3.1.1" });
  const packed: string[] = [];
  const [here, there] = [await createDatabase(), await createDatabase()];
  const shipping = openShipping(there.url, broker(), (orderId) => packed.push(orderId));
  const shop = openShop(here.url, broker());
  onTestFinished(async () => {
    for (const post of [shop, shipping]) await post.stop();
    for (const database of [here, there]) await database.drop();
  });
  await shipping.start();
  await shop.start();
  const orders = ["A1", "A2", "A3"];
  await shop.publishMany(
    OrderPlaced,
    orders.map((orderId) => ({ orderId })),
  );
  await eventually(() => packed.length === orders.length);
  await shop.untilIdle();
  expect([...packed].sort()).toEqual(orders);
});
