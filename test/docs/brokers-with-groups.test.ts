/** The code of docs/guides/brokers.md about Kafka, Redis Streams and SQS is what it says; its blocks are compared with it in excerpts.test.ts. */
import { expect, test } from "vitest";
import * as kafka from "./examples/kafka.js";
import * as redis from "./examples/redis.js";
import * as sqs from "./examples/sqs.js";

test("the guide about brokers: each example makes a broker, and none tells the password", () => {
  const brokers = [
    kafka.orders("kafkas://shop:password@one.example"),
    kafka.shipments("kafka://one.example"),
    redis.orders("rediss://:password@redis.example"),
    redis.shipments("redis://redis.example:1234"),
    sqs.orders(),
    sqs.shipments("http://key:password@127.0.0.1:9324"),
  ];
  expect(brokers.map(({ kind, where }) => `${kind} ${where}`)).toEqual([
    "kafka one.example:9093/orders",
    "kafka one.example:9092/shipments",
    "redis redis.example:6379/orders",
    "redis redis.example:1234/shipments",
    "sqs sqs.eu-central-1.amazonaws.com/orders.fifo",
    "sqs 127.0.0.1:9324/shipments",
  ]);
  expect(brokers.map(({ features }) => features.order)).toEqual([
    "key",
    "key",
    "destination",
    "destination",
    "key",
    "none",
  ]);
});
