/**
 * Goal: what src/brokers/sqs promises holds on a server that speaks the protocol of SQS.
 * Method: the conformance suite on both kinds of queue, and what only SQS has: attributes, limits of a batch, messages that are hidden for a time.
 */
import { randomBytes } from "node:crypto";
import { CreateQueueCommand, SendMessageCommand, SQSClient } from "@aws-sdk/client-sqs";
import { afterEach, describe, expect, test } from "vitest";
import { sqs, sqsFeatures, sqsFifoFeatures } from "../../src/brokers/sqs/index.js";
import { ConfigurationError } from "../../src/core/errors.js";
import { type OwnService, startService } from "../support/services.js";
import { brokerConformance } from "./conformance.js";
import { eventOf, expectNothing, kinds, messages, never, take } from "./scene.js";
import { twoServices } from "./two-services.js";
import { unreadable } from "./unreadable.js";

/** One for all of this file. The suite ends only what it has started itself. */
let running: Promise<OwnService> | undefined;
function elasticmqOnce(): Promise<OwnService> {
  running ??= startService("elasticmq");
  return running;
}

async function asking<T>(url: string, ask: (client: SQSClient) => Promise<T>): Promise<T> {
  const { host, username, password } = new URL(url);
  const credentials = { accessKeyId: username, secretAccessKey: password };
  const client = new SQSClient({ endpoint: `http://${host}`, region: "elasticmq", credentials });
  try {
    return await ask(client);
  } finally {
    client.destroy();
  }
}

async function makeQueue(url: string, queue: string): Promise<string> {
  const attributes = queue.endsWith(".fifo") ? { FifoQueue: "true" } : {};
  const request = new CreateQueueCommand({ QueueName: queue, Attributes: attributes });
  return (await asking(url, (client) => client.send(request))).QueueUrl ?? "";
}

for (const [name, suffix, features] of [
  ["SQS, a standard queue, ElasticMQ", "", sqsFeatures],
  ["SQS, a FIFO queue, ElasticMQ", ".fifo", sqsFifoFeatures],
] as const) {
  brokerConformance({
    name,
    features,
    modes: ["structured"],
    service: async () => {
      const { remove: _, ...service } = await elasticmqOnce();
      return service;
    },
    make: ({ url, destination, timeoutMs }) =>
      sqs({ url, queue: `${destination}${suffix}`, timeoutMs, visibilityMs: 5_000, pollMs: 1_000 }),
    prepare: async ({ url, destination }) => void (await makeQueue(url, `${destination}${suffix}`)),
    unreadable: unreadable("http"),
    headers: "any",
    tooLargeBytes: 300_000,
    share: 0.04,
  });
}

twoServices({
  name: "SQS, FIFO queues, ElasticMQ",
  service: elasticmqOnce,
  way: (url, queue) => ({
    kind: "sqs",
    options: { url, queue: `${queue}.fifo`, timeoutMs: 10_000 },
    reading: { visibilityMs: 5_000, pollMs: 1_000 },
  }),
  prepare: async (url, queue) => void (await makeQueue(url, `${queue}.fifo`)),
});

describe("SQS beside the suite", () => {
  test("keys that are no ids of groups keep their order, and messages without a key hold up nobody", async () => {
    const { sender, receiver } = await place(".fifo");
    const keys = ["zażółć", "k".repeat(500), "two words"];
    const out = messages(30).map(({ event }, i) => ({ event, key: keys[i % 4] ?? null }));
    expect(new Set(kinds(await (await sender()).send(out, never())))).toEqual(new Set(["acknowledged"]));
    const arrived = await take(await receiver(), 30);
    const ids = arrived.map(({ body }): string => JSON.parse(Buffer.from(body).toString()).id);
    expect([...ids].sort()).toEqual(out.map(({ event }) => event.id).sort());
    for (const key of keys) {
      const wanted = out.filter((one) => one.key === key).map(({ event }) => event.id);
      expect(ids.filter((id) => wanted.includes(id))).toEqual(wanted);
    }
    const groups = arrived.map((one) => one.key);
    expect(new Set(groups).size).toBe(keys.length + out.filter(({ key }) => key === null).length);
  });

  test("what an intake works on for longer than SQS hides it is given to nobody else", async () => {
    const { sender, receiver } = await place("");
    await (await sender()).send(messages(12), never());
    const first = await receiver();
    const held = [];
    while (held.length < 12) held.push(...(await first.receive({ max: 20, waitMs: 1_000, signal: never() })));
    // SQS hides them for 5 seconds: all of that and more has to pass.
    await expectNothing(await receiver(), 6_000);
    await first.acknowledge(held);
    await first.close();
    await expectNothing(await receiver(), 1_000);
  });

  test("a batch that is too large together goes in several, and one that is too large alone leaves its neighbours", async () => {
    const { sender, receiver } = await place(".fifo");
    const data = (bytes: number) => JSON.stringify("x".repeat(bytes));
    const sizes = [100_000, 100_000, 100_000, 300_000, 10, 100_000];
    const out = sizes.map((bytes, i) => ({ event: eventOf(i, { data: data(bytes) }), key: "one" }));
    const sent = await (await sender()).send(out, never());
    expect(kinds(sent)).toEqual(sizes.map((bytes) => (bytes > 256_000 ? "refused" : "acknowledged")));
    expect(await take(await receiver(), 5)).toHaveLength(5);
  });

  test("two characters that JSON has and SQS has not arrive all the same", async () => {
    const { sender, receiver } = await place("");
    const text = "\ufffe \uffff";
    const sent = await (await sender()).send(
      [{ event: eventOf(0, { data: JSON.stringify({ text }) }), key: null }],
      never(),
    );
    expect(kinds(sent)).toEqual(["acknowledged"]);
    const [arrived] = await take(await receiver(), 1);
    expect(JSON.parse(Buffer.from(arrived?.body ?? []).toString()).data).toEqual({ text });
  });

  test("a message that somebody else wrote: its attributes are its headers", async () => {
    const { url, queueUrl, receiver } = await place("");
    const attribute = (text: string) => ({ DataType: "String", StringValue: text });
    const attributes = { "Content-Type": attribute("text/plain"), Kind: attribute("a"), headers: attribute("b") };
    const request = new SendMessageCommand({ QueueUrl: queueUrl, MessageBody: "hello", MessageAttributes: attributes });
    await asking(url, (client) => client.send(request));
    const [arrived] = await take(await receiver(), 1);
    expect(arrived).toMatchObject({ contentType: "text/plain", headers: { kind: "a", headers: "b" } });
    expect(Buffer.from(arrived?.body ?? []).toString()).toBe("hello");
  });

  test("binary mode is refused, and so are names and keys that are none", async () => {
    const { broker, options } = await place("");
    await expect(broker.openSender({ ...options, mode: "binary" })).rejects.toBeInstanceOf(ConfigurationError);
    expect(() => sqs({ queue: "http://host/queue" })).toThrow(expect.objectContaining({ code: "PH_OPTION_INVALID" }));
    expect(() => sqs({ queue: "orders", url: "http://host", tls: {} })).toThrow(ConfigurationError);
    expect(sqs({ queue: "orders", region: "eu-central-1" }).where).toBe("sqs.eu-central-1.amazonaws.com/orders");
  });
});

/** What each test has opened. */
const opened: { close(): Promise<void> }[] = [];
afterEach(async () => {
  await Promise.all(opened.splice(0).map((one) => one.close()));
});

/** A queue of its own, and what sends to it and receives from it. */
async function place(suffix: "" | ".fifo") {
  const { url } = await elasticmqOnce();
  const queue = `beside-${randomBytes(8).toString("hex")}${suffix}`;
  const queueUrl = await makeQueue(url, queue);
  const broker = sqs({ url, queue, visibilityMs: 5_000, pollMs: 1_000 });
  const options = { name: "beside", service: "shop", signal: never(), onTrouble: () => {} };
  const closing = async <T extends { close(): Promise<void> }>(opening: Promise<T>) => {
    const one = await opening;
    opened.push(one);
    return one;
  };
  const sender = () => closing(broker.openSender(options));
  return { url, queueUrl, broker, options, sender, receiver: () => closing(broker.openReceiver(options)) };
}
