/** Options of a broker that nothing of an instance reads are refused when it starts; a broker that serves both ways may have those of both. */
import { event, type Post, policies, posthorn, type Sql, type } from "posthorn";
import { expect, onTestFinished, test } from "vitest";
import type { Broker } from "../../src/brokers/broker.js";
import { kafka } from "../../src/brokers/kafka/index.js";
import { mqtt } from "../../src/brokers/mqtt/index.js";
import { nats } from "../../src/brokers/nats/index.js";
import { rabbitmq } from "../../src/brokers/rabbitmq/index.js";
import { redis } from "../../src/brokers/redis/index.js";
import { sqs } from "../../src/brokers/sqs/index.js";
import { silentLogger } from "../../src/core/logger.js";

const OrderPlaced = event("OrderPlaced", { topic: "orders", schema: type<{ id: string }>(), key: ({ id }) => id });

let instances = 0;

/** Its database is away: a start that refuses nothing fails there, with another code. */
function instance(): Post<Sql> {
  const database = "postgres://nobody:secret@127.0.0.1:1/none";
  const post = posthorn({ service: `shop-${++instances}`, database, logger: silentLogger });
  onTestFinished(() => post.stop());
  return post;
}

const relays = (post: Post<Sql>, to: Broker): unknown =>
  post.relay("out", { ...policies.relay, ordering: "none", from: { topic: "orders" }, to });
const takesIn = (post: Post<Sql>, from: Broker): unknown => post.intake("orders-in", { from, into: [OrderPlaced] });

const refusal = async (post: Post<Sql>): Promise<{ readonly code?: string; readonly message: string }> =>
  post.start().then(
    () => Promise.reject(new Error("it has started")),
    (error) => error,
  );

const forIntakes: readonly (readonly [names: string, broker: () => Broker])[] = [
  [
    "nats.consumer, nats.ackWaitMs",
    () => nats({ url: "nats://host", stream: "S", subject: "s.x", consumer: "c", ackWaitMs: 5_000 }),
  ],
  [
    "kafka.group, kafka.fromBeginning, kafka.sessionTimeoutMs",
    () => kafka({ url: "kafka://host", topic: "t", group: "g", fromBeginning: true, sessionTimeoutMs: 10_000 }),
  ],
  [
    "redis.group, redis.fromBeginning, redis.idleMs",
    () => redis({ url: "redis://host", stream: "s", group: "g", fromBeginning: false, idleMs: 5_000 }),
  ],
  ["mqtt.sessionMs", () => mqtt({ url: "mqtt://host", topic: "t", sessionMs: 5_000 })],
  ["rabbitmq.queue", () => rabbitmq({ url: "amqp://host", exchange: "e", queue: "q" })],
  ["sqs.visibilityMs, sqs.pollMs", () => sqs({ queue: "q", visibilityMs: 5_000, pollMs: 5_000 })],
];

// They were passed over, and whoever set ackWaitMs waited for something else.
test.each(forIntakes)(
  "a relay refuses %s, which only an intake reads, unless an intake has the same broker",
  async (names, make) => {
    const alone = instance();
    relays(alone, make());
    // An equal one is another.
    takesIn(alone, make());
    const error = await refusal(alone);
    expect(error.code).toBe("PH_OPTION_INVALID");
    expect(error.message).toContain(`relay("out") is given a broker with ${names}, which`);
    const both = instance();
    const broker = make();
    relays(both, broker);
    takesIn(both, broker);
    expect((await refusal(both)).code).not.toBe("PH_OPTION_INVALID");
  },
);

const forRelays: readonly (readonly [names: string, broker: Broker])[] = [
  ["kafka.batchBytes", kafka({ url: "kafka://host", topic: "t", group: "g", batchBytes: 5_000 })],
  [
    "redis.maxLength, redis.replicas",
    redis({ url: "redis://host", stream: "s", group: "g", maxLength: 5, replicas: 1 }),
  ],
  ["mqtt.maxPacketBytes", mqtt({ url: "mqtt://host", topic: "t", maxPacketBytes: 5_000 })],
  [
    "rabbitmq.exchange, rabbitmq.routingKey, rabbitmq.maxMessageBytes",
    rabbitmq({ url: "amqp://host", exchange: "e", routingKey: "r", queue: "q", maxMessageBytes: 5_000 }),
  ],
];

test.each(forRelays)("an intake refuses %s, which only a relay reads", async (names, broker) => {
  const post = instance();
  takesIn(post, broker);
  const error = await refusal(post);
  expect(error.code).toBe("PH_OPTION_INVALID");
  expect(error.message).toContain(`intake("orders-in") is given a broker with ${names}, which`);
});

test("what both ways read is accepted for either, and so is the queue that a relay sends to", async () => {
  for (const broker of [
    nats({ url: "nats://host", stream: "S", subject: "s.x", timeoutMs: 5_000 }),
    rabbitmq({ url: "amqp://host", queue: "q" }),
    mqtt({ url: "mqtt://host", topic: "t", clientId: "c", maxInFlight: 5 }),
  ]) {
    const post = instance();
    relays(post, broker);
    expect((await refusal(post)).code).not.toBe("PH_OPTION_INVALID");
  }
});
