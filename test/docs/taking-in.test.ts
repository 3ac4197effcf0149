import { Client } from "pg";
import { expect, test } from "vitest";
import { silentLogger } from "../../src/core/logger.js";
import { cloudEvent, MemoryBroker } from "../intakes/memory-broker.js";
import { eventually } from "../support/eventually.js";
import { createDatabase } from "../support/server.js";
import { open, openForeign, openPartner } from "./examples/taking-in.js";
import { readPage } from "./pages.js";

test("the program of the guide about taking in does what the guide says, and its question has an answer", async () => {
  const database = await createDatabase();
  const [broker, old, partner] = [new MemoryBroker(), new MemoryBroker(), new MemoryBroker()];
  const printed: string[] = [];
  const post = open(database.url, broker, silentLogger, (line) => printed.push(line));
  openForeign(post, old);
  openPartner(post, partner);
  await post.start();
  const order = cloudEvent("com.example.shop.OrderPlaced", { orderId: "A1", cents: 100 });
  broker.put(order, order, cloudEvent("com.example.shop.OrderBurnt", {}));
  const plain = (body: object) => ({ headers: {}, contentType: "text/plain", body: Buffer.from(JSON.stringify(body)) });
  old.put(plain({ kind: "order", number: "B2", total: 7 }), plain({ kind: "visit" }));
  partner.put(cloudEvent("com.acme.order.placed", { orderId: "C3", cents: 5 }));
  await eventually(() => printed.length === 3 && broker.left === 0 && old.left === 0 && partner.left === 0);
  expect([...printed].sort()).toEqual(["packed A1", "packed B2", "packed C3"]);
  const client = new Client({ connectionString: database.url });
  await client.connect();
  const [question] = readPage("docs/guides/taking-in.md").blocks.filter(({ language }) => language === "sql");
  // That it is connected is reported every second.
  await expect
    .poll(async () => (await client.query(question?.text ?? "")).rows)
    .toMatchObject([
      { name: "acme-in", received: "1", written: "1", duplicates: "0", listed: "0" },
      { name: "old-shop", received: "2", written: "1", duplicates: "0", listed: "0" },
      { name: "orders-in", connected: true, received: "3", written: "1", duplicates: "1", listed: "1" },
    ]);
  await post.stop();
  await client.end();
  await database.drop();
});
