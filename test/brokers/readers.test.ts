/** By what the other side knows the readers of a broker: no two parties by one name, and no two intakes by one reader. */
import { event, posthorn, type } from "posthorn";
import { expect, test } from "vitest";
import type { Broker, Party } from "../../src/brokers/broker.js";
import { checkBroker } from "../../src/brokers/is-broker.js";
import { kafka } from "../../src/brokers/kafka/index.js";
import { mqtt } from "../../src/brokers/mqtt/index.js";
import { nats } from "../../src/brokers/nats/index.js";
import { describe, makerIn } from "../../src/brokers/nats/maker.js";
import { readerName } from "../../src/brokers/party.js";
import { rabbitmq } from "../../src/brokers/rabbitmq/index.js";
import { redis } from "../../src/brokers/redis/index.js";
import { sqs } from "../../src/brokers/sqs/index.js";
import { webhookIntake } from "../../src/brokers/webhooks/index.js";
import { silentLogger } from "../../src/core/logger.js";
import { thrown } from "../core/thrown.js";

const party = (service: string, name: string): Party => ({ service, name });

test("the name of a reader holds service and intake, and no two parties have one name", () => {
  expect(readerName(party("shop", "orders-in"))).toBe("posthorn-orders-in@shop");
  expect(readerName(party("shop.eu", "orders"))).toBe("posthorn-orders@shop=2e=eu");
  const long = "x".repeat(79);
  const parties = [
    party("a-b", "c"),
    party("a", "b-c"),
    party("b-c", "a"),
    party("a", "b.c"),
    party("a", "b=2e=c"),
    party("a.b", "c"),
    party("a", "c@b"),
    party("c@b", "a"),
    party(`${long}a`, long),
    party(`${long}b`, long),
    party(long, `${long}a`),
  ];
  const names = parties.map(readerName);
  expect(new Set(names).size).toBe(parties.length);
  for (const name of names) expect(name).toMatch(/^[A-Za-z0-9_=@~-]{1,120}$/);
});

test("who made a consumer is read out of its description, and out of no other text", () => {
  const maker = party("shop", 'or"ders');
  expect(makerIn(describe(maker))).toEqual(maker);
  const others = [
    undefined,
    "",
    "for the shop",
    "posthorn",
    "posthorn {",
    "posthorn null",
    'posthorn {"service":"shop"}',
  ];
  expect(others.map(makerIn)).toEqual(others.map(() => undefined));
});

const OrderPlaced = event("OrderPlaced", { topic: "orders", schema: type<{ id: string }>(), key: ({ id }) => id });
const [natsUrl, kafkaUrl, redisUrl, mqttUrl, rabbitUrl] = ["nats", "kafka", "redis", "mqtt", "amqp"].map(
  (scheme) => `${scheme}://user:hunter2@host`,
) as [string, string, string, string, string];
const hooks = webhookIntake({ verify: "none" });

const pairs: readonly { readonly of: string; readonly one: Broker; readonly same: Broker; readonly other: Broker }[] = [
  {
    of: "NATS, a consumer",
    one: nats({ url: natsUrl, stream: "S", consumer: "c" }),
    same: nats({ url: natsUrl, stream: "S", consumer: "c", subject: "s.x" }),
    other: nats({ url: natsUrl, stream: "S" }),
  },
  {
    of: "NATS, the consumer that is made",
    one: nats({ url: natsUrl, stream: "S" }),
    same: nats({ url: natsUrl, stream: "S", consumer: "posthorn-first@shop" }),
    other: nats({ url: natsUrl, stream: "S" }),
  },
  {
    of: "Kafka, a group on a topic",
    one: kafka({ url: kafkaUrl, topic: "t", group: "g" }),
    same: kafka({ url: kafkaUrl, topic: "t", group: "g", fromBeginning: true }),
    other: kafka({ url: kafkaUrl, topic: "t", group: "h" }),
  },
  {
    of: "Redis, a group on a stream",
    one: redis({ url: redisUrl, stream: "s", group: "g" }),
    same: redis({ url: redisUrl, stream: "s", group: "g" }),
    other: redis({ url: redisUrl, stream: "s", group: "g", database: 1 }),
  },
  {
    of: "MQTT, a session",
    one: mqtt({ url: mqttUrl, topic: "a", clientId: "c" }),
    same: mqtt({ url: mqttUrl, topic: "b", clientId: "c" }),
    other: mqtt({ url: mqttUrl, topic: "a" }),
  },
  {
    of: "RabbitMQ, a queue",
    one: rabbitmq({ url: rabbitUrl, queue: "q" }),
    same: rabbitmq({ url: rabbitUrl, queue: "q", exchange: "e" }),
    other: rabbitmq({ url: `${rabbitUrl}/v`, queue: "q" }),
  },
  {
    of: "SQS, a queue",
    one: sqs({ queue: "q", region: "eu-central-1" }),
    same: sqs({ queue: "q", region: "eu-central-1" }),
    other: sqs({ queue: "q", region: "eu-central-1", owner: "1" }),
  },
  {
    of: "webhooks, one webhookIntake()",
    one: hooks,
    same: hooks,
    other: webhookIntake({ verify: "none" }),
  },
];

test.each(pairs)(
  "$of: the second intake of an instance that would read by it is refused, another one is not",
  async ({ one, same, other }) => {
    const database = "postgres://nobody:secret@127.0.0.1:1/none";
    const post = posthorn({ service: "shop", database, logger: silentLogger });
    post.intake("first", { from: one, into: [OrderPlaced] });
    const error = thrown(() => post.intake("second", { from: same, into: [OrderPlaced] }));
    expect(error).toMatchObject({ name: "ConfigurationError", code: "PH_DECLARED_TWICE" });
    expect(error.message).toContain('as intake("first") does: each message would come to one of the two only');
    expect(error.message).not.toContain("hunter2");
    // It is not declared, so the name is free.
    post.intake("second", { from: other, into: [OrderPlaced] });
    await post.stop();
  },
);

test("a broker that is brought along says by what it is read, without what looks like a credential", () => {
  const own = kafka({ url: kafkaUrl, topic: "t", group: "g" });
  const checked = checkBroker({ ...own, readsBy: () => "the group of kafka://user:hunter2@host" }, "from");
  const said = checked.readsBy?.(party("shop", "orders"));
  expect(said).toContain("the group of");
  expect(said).not.toContain("hunter2");
});
