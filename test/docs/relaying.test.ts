/** The example of docs/guides/relaying.md, run. */
import { event, policies, posthorn, type } from "posthorn";
import { expect, test } from "vitest";
import { MemoryBroker } from "../relays/memory-broker.js";
import { eventually } from "../support/eventually.js";
import { createDatabase } from "../support/server.js";

const OrderPlaced = event("OrderPlaced", {
  topic: "orders",
  schema: type<{ orderId: string; cents: number }>(),
  key: ({ orderId }) => orderId,
});

test("the example of the guide about relaying sends what is published with its attributes", async () => {
  const { url, drop } = await createDatabase();
  const post = posthorn({ service: "shop", database: url, migrate: "auto" });
  const broker = new MemoryBroker();
  try {
    post.relay("orders-out", {
      ...policies.relay,
      from: { topic: "orders" },
      to: broker,
      typePrefix: "com.example.shop.",
    });
    await post.start();
    await post.publish(OrderPlaced, { orderId: "A1", cents: 1250 }, { headers: { tenant: "acme" } });
    await eventually(() => broker.received.length === 1);
    expect(broker.received[0]).toMatchObject({
      key: "A1",
      event: {
        type: "com.example.shop.OrderPlaced",
        source: "urn:posthorn:shop",
        data: '{"orderId":"A1","cents":1250}',
        headers: { tenant: "acme" },
        extensions: { partitionkey: "A1", contractversion: "1" },
      },
    });
  } finally {
    await post.stop();
    await drop();
  }
});
