/** What post.intake refuses, before anything is opened. */
import { event, type IntakeOptions, type Post, posthorn, query, type Sql, type } from "posthorn";
import { beforeAll, expect, test } from "vitest";
import { ConfigurationError, WrongKindError } from "../../src/core/errors.js";
import { MemoryBroker } from "./memory-broker.js";
import { OrderPlaced, ShipOrder } from "./stage.js";

let post: Post<Sql>;
beforeAll(() => {
  post = posthorn({ service: "refusing", database: "postgres://nobody:secret@127.0.0.1:1/none" });
  return () => post.stop();
});

const PriceOf = query("PriceOf", { request: type<{ sku: string }>(), response: type<number>(), deadlineMs: 100 });
const from = new MemoryBroker();
const sender = {
  kind: "webhook",
  where: "x",
  style: from.style,
  features: { ...from.features, receives: false },
  openSender: () => undefined,
  openReceiver: () => undefined,
};
const raised = event("OrderPlaced", {
  topic: "orders",
  version: 2,
  schema: type<{ orderId: string; cents: number }>(),
  key: ({ orderId }) => orderId,
  upcast: { 1: (old: { orderId: string }) => ({ ...old, cents: 0 }) },
});

const refused: readonly (readonly [
  what: string,
  name: unknown,
  options: unknown,
  error: RegExp,
  kind?: typeof WrongKindError,
])[] = [
  ["a name that is none", "Orders In", { from, into: [OrderPlaced] }, /name of an intake/],
  ["no options", "orders-in", undefined, /takes an object of options/],
  ["nothing that is required", "orders-in", {}, /lacks 2 options from, into/],
  [
    "what a relay sends to",
    "orders-in",
    { to: from, into: [OrderPlaced] },
    /unknown option "to"\. An intake reads `from` a broker, `into` contracts; `to` belongs to a relay, .*post\.relay\(…\)\. Known are: from, into/,
  ],
  [
    "what a relay reads",
    "orders-in",
    { from: { topic: "orders" }, into: [OrderPlaced] },
    /from is a topic or a queue, which a relay reads: post\.relay\(…\)\. An intake reads from a broker/,
  ],
  [
    "a topic",
    "orders-in",
    { from, into: [OrderPlaced], topic: "orders" },
    /unknown option "topic"\..*an intake names those, as `into`/,
  ],
  [
    "a decision of who handles it",
    "orders-in",
    { from, into: [OrderPlaced], retry: 5 },
    /unknown option "retry"\..*`retry` belongs to the queue or subscription that handles it/,
  ],
  ["an option that is not known", "orders-in", { from, into: [OrderPlaced], batch: 5 }, /unknown option "batch"/],
  [
    "a URL as the broker",
    "orders-in",
    { from: "amqp://shop:hunter2@mq", into: [OrderPlaced] },
    /must be a broker.*got a text/,
  ],
  [
    "a broker that gives nothing",
    "orders-in",
    { from: sender, into: [OrderPlaced] },
    /nothing can be received from \(webhook\)/,
  ],
  ["no contracts", "orders-in", { from, into: [] }, /is empty/],
  ["what is no list", "orders-in", { from, into: OrderPlaced }, /a list of commands and events/],
  [
    "a name in place of a contract",
    "orders-in",
    { from, into: ["OrderPlaced"] },
    /into\[0\] is no contract/,
    WrongKindError,
  ],
  ["a query", "orders-in", { from, into: [OrderPlaced, PriceOf] }, /into\[1\] is the query PriceOf/, WrongKindError],
  [
    "a contract twice",
    "orders-in",
    { from, into: [OrderPlaced, ShipOrder, OrderPlaced] },
    /version 1 of OrderPlaced twice/,
  ],
  ["two readings of one version", "orders-in", { from, into: [OrderPlaced, raised] }, /version 1 of OrderPlaced twice/],
  ["a function that is none", "orders-in", { from, into: [OrderPlaced], read: "json" }, /read must be a function/],
  ["an inbox of a second", "orders-in", { from, into: [OrderPlaced], inbox: { keepMs: 1_000 } }, /keepMs/],
  ["a batch of nothing", "orders-in", { from, into: [OrderPlaced], batchSize: 0 }, /batchSize/],
  ["another choice", "orders-in", { from, into: [OrderPlaced], otherTypes: "drop" }, /otherTypes/],
];

test.each(refused)("refuses %s", (_what, name, options, message, kind) => {
  let error: unknown;
  try {
    post.intake(name as string, options as IntakeOptions);
  } catch (thrown) {
    error = thrown;
  }
  expect(error).toBeInstanceOf(kind ?? ConfigurationError);
  expect(String(error)).toMatch(message as RegExp);
  expect(String(error)).not.toContain("hunter2");
});

test("refuses a second intake of one name", () => {
  post.intake("twice", { from, into: [OrderPlaced] });
  expect(() => post.intake("twice", { from, into: [ShipOrder] })).toThrow(/An intake is called "twice" already/);
});
