/**
 * Goal: beside the rules of every broker, what RabbitMQ alone can do to a message: return it, reject it, close the channel over it, block all, end the reader.
 * Method: the real server, with limits that are soon reached and an alarm that is set by its own command.
 */
import { randomBytes } from "node:crypto";
import type { Connection, Envelope } from "rabbitmq-client";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { Incoming, Outgoing, Receiver, Sender } from "../../src/brokers/broker.js";
import { decode } from "../../src/brokers/envelope.js";
import { type RabbitMqOptions, rabbitmq, rabbitmqFeatures } from "../../src/brokers/rabbitmq/index.js";
import * as guide from "../docs/examples/rabbitmq.js";
import { makeCertificate } from "../support/certificate.js";
import { eventually } from "../support/eventually.js";
import { type OwnService, startService } from "../support/services.js";
import { brokerConformance, type Place } from "./conformance.js";
import { brokerDoors } from "./doors.js";
import { eventOf, expectNothing, idsOf, kinds, messages, never, take } from "./scene.js";
import { twoServices } from "./two-services.js";
import { unreadable } from "./unreadable.js";

const maxMessageBytes = 400_000;
const tooLargeBytes = 500_000;
const certificate = makeCertificate();
let started: Promise<OwnService & Controlled> | undefined;

interface Controlled {
  readonly tlsPort: number;
  control(...args: string[]): string;
}

/** One for all tests: it takes seconds to start. */
function service(): Promise<OwnService & Controlled> {
  started ??= (async () => {
    const options = { settings: { max_message_size: maxMessageBytes }, tls: await certificate };
    return (await startService("rabbitmq", options)) as OwnService & Controlled;
  })();
  return started;
}

describe("RabbitMQ alone", () => {
  let rabbit: OwnService & Controlled;
  let client: Connection;
  const open: { close(): Promise<void> }[] = [];
  beforeAll(async () => {
    rabbit = await service();
    client = await clientOf(rabbit.url);
  });
  afterAll(async () => {
    await Promise.all(open.map((one) => one.close()));
    await client?.close();
  });

  const fresh = () => `own${randomBytes(6).toString("hex")}`;
  async function queue(args: Record<string, unknown> = {}): Promise<string> {
    const name = fresh();
    await client.queueDeclare({ queue: name, durable: true, arguments: args });
    return name;
  }
  function opening(name: string) {
    return { name, service: "shop", signal: never(), onTrouble: () => undefined };
  }
  async function sender(options: Omit<RabbitMqOptions, "url">): Promise<Sender> {
    const opened = await rabbitmq({ url: rabbit.url, ...options }).openSender(opening("sender"));
    open.push(opened);
    return opened;
  }
  async function receiver(name: string): Promise<Receiver> {
    const opened = await rabbitmq({ url: rabbit.url, queue: name }).openReceiver(opening("receiver"));
    open.push(opened);
    return opened;
  }

  test("a message that no queue is bound for is refused, and its neighbours are not", async () => {
    const name = await queue();
    await client.queueBind({ queue: name, exchange: "amq.topic", routingKey: "conformance.counted.*" });
    const one = await sender({ exchange: "amq.topic", routingKey: keyByParity });
    const sent = await one.send(messages(6), never());
    expect(kinds(sent)).toEqual(["acknowledged", "refused", "acknowledged", "refused", "acknowledged", "refused"]);
    expect(sent[1]).toMatchObject({ reason: expect.stringContaining('no queue is bound for the routing key "odd"') });
    // What was returned is not remembered: the same message goes where a queue is bound later.
    await client.queueBind({ queue: name, exchange: "amq.topic", routingKey: "odd" });
    expect(kinds(await one.send(messages(6), never()))).toEqual(messages(6).map(() => "acknowledged"));
  });

  test("what AMQP has a property for stands in it, and the message is persistent", async () => {
    const name = await queue();
    const one = await sender({ queue: name });
    const time = "2026-02-03T04:05:06.789Z";
    const event = eventOf(1, { time, extensions: { correlationid: "c-1" }, headers: { plain: "yes" } });
    await one.send([{ event, key: null }], never());
    const got = await client.basicGet({ queue: name });
    expect(got).toMatchObject({
      messageId: "message-1",
      type: "conformance.counted",
      timestamp: 1_770_091_506,
      correlationId: "c-1",
      contentType: "application/json",
      durable: true,
      headers: { plain: "yes", cloudEvents_id: "message-1", cloudEvents_correlationid: "c-1", cloudEvents_time: time },
    });
  });

  test("a body is what was sent, whatever its content type, and headers of others are texts", async () => {
    const name = await queue();
    const bodies = ['{"cents": 12345678901234567890, "a": 1, "a": 2}', "plain \u00e4", "<xml/>"];
    const types = ["application/json", "text/plain", "application/xml"];
    for (const [i, body] of bodies.entries()) {
      const headers = { Number: 7, Flag: true, "x-death": [{ queue: "other" }], Nested: { a: ["b"] } };
      await publish(client, { routingKey: name, contentType: types[i] ?? "", messageId: `m-${i}`, headers }, body);
    }
    const taken = await take(await receiver(name), 3);
    expect(taken.map(({ body }) => Buffer.from(body).toString())).toEqual(bodies);
    expect(taken.map(({ contentType }) => contentType)).toEqual(types);
    expect(taken.map(({ id }) => id)).toEqual(["m-0", "m-1", "m-2"]);
    for (const { headers } of taken) expect(headers).toEqual({ number: "7", flag: "true", nested: '{"a":["b"]}' });
  });

  test.each(["cloudEvents:", "cloudEvents_", "ce-", "ce_"])(
    "a CloudEvent with the prefix %s is read",
    async (prefix) => {
      const name = await queue();
      const attributes = { specversion: "1.0", id: "e-1", source: "/theirs", type: "their.event", subject: "s 1" };
      const headers = Object.fromEntries(Object.entries(attributes).map(([key, value]) => [`${prefix}${key}`, value]));
      await publish(client, { routingKey: name, contentType: "application/json", headers }, "{}");
      const [one] = await take(await receiver(name), 1);
      const read = decode(one ?? expect.fail(), rabbitmq({ url: rabbit.url }).style);
      expect(read).toMatchObject({
        ok: true,
        event: { id: "e-1", source: "/theirs", type: "their.event", subject: "s 1" },
      });
    },
  );

  test("a function that throws refuses its event alone, and one that gives too long a name", async () => {
    const name = await queue();
    await client.queueBind({ queue: name, exchange: "amq.topic", routingKey: name });
    const routingKey = ({ id }: { id: string }) => {
      if (id === "message-1") throw new Error("no route");
      return id === "message-2" ? "x".repeat(256) : name;
    };
    const sent = await (await sender({ exchange: "amq.topic", routingKey })).send(messages(4), never());
    expect(kinds(sent)).toEqual(["acknowledged", "refused", "refused", "acknowledged"]);
    expect(sent[1]).toMatchObject({ reason: expect.stringContaining("no route") });
  });

  test("a full queue makes everything unavailable, and takes it when there is room", async () => {
    const name = await queue({ "x-max-length": 3, "x-overflow": "reject-publish" });
    const one = await sender({ queue: name });
    expect(kinds(await one.send(messages(5), never()))).toEqual([...acknowledged(3), "unavailable", "unavailable"]);
    await client.queuePurge({ queue: name });
    expect(kinds(await one.send(messages(2, { from: 3 }), never()))).toEqual(acknowledged(2));
  });

  test("an exchange that is removed is nobody's fault: unavailable, and it works when it is back", async () => {
    const [exchange, name] = [fresh(), await queue()];
    await declareFanout(client, exchange, name);
    const one = await sender({ exchange });
    expect(kinds(await one.send(messages(2), never()))).toEqual(acknowledged(2));
    await client.exchangeDelete({ exchange });
    expect(new Set(kinds(await one.send(messages(50), never())))).toEqual(new Set(["unavailable"]));
    await declareFanout(client, exchange, name);
    await eventually(async () => {
      expect(kinds(await one.send(messages(2, { from: 2 }), never()))).toEqual(acknowledged(2));
      return true;
    });
  });

  test("an exchange that one event names and nobody has made refuses this event alone", async () => {
    const name = await queue();
    const exchange = ({ id }: { id: string }) => (id === "message-7" ? `${name}-none` : "amq.topic");
    await client.queueBind({ queue: name, exchange: "amq.topic", routingKey: name });
    const one = await sender({ exchange, routingKey: name });
    const wanted = messages(20).map(({ event }) => (event.id === "message-7" ? "refused" : "acknowledged"));
    expect(kinds(await one.send(messages(20), never()))).toEqual(wanted);
  });

  test("messages that close the channel are found among many, also when calls overlap, and the order stays", async () => {
    const name = await queue();
    const one = await sender({ queue: name });
    const poisoned = new Set([3, 150, 151, 290]);
    const all: Outgoing[] = messages(300).map((message, i) => (poisoned.has(i) ? tooLarge(i) : message));
    const sent = await Promise.all([0, 100, 200].map((from) => one.send(all.slice(from, from + 100), never())));
    // Of calls that overlap, each finds its own.
    expect(kinds(sent.flat())).toEqual(all.map((_, i) => (poisoned.has(i) ? "refused" : "acknowledged")));
    const wanted = idsOf(all.filter((_, i) => !poisoned.has(i)));
    const first = new Set(namesOf(await takeAll(await receiver(name))));
    expect([...first]).toEqual(wanted);
  });

  // They were sent again to find the one, also where a relay works at most once: RabbitMQ had taken most of them, and they were there twice.
  test("where nothing may be there twice, what was on its way when a message closed the channel is not sent again", async () => {
    const name = await queue();
    const one = await rabbitmq({ url: rabbit.url, queue: name }).openSender({ ...opening("sender"), once: true });
    open.push(one);
    const sent = await one.send([...messages(50), tooLarge(50), ...messages(50, { from: 51 })], never());
    // Nobody knows of these, and of the one itself; RabbitMQ took what came before it, whether it said so or not.
    const unclear = { kind: "failed", error: { message: expect.stringContaining("does not say which") } };
    for (const one of sent.slice(50)) expect(one).toMatchObject(unclear);
    expect(kinds(await one.send([tooLarge(150)], never()))).toEqual(["refused"]);
    expect(kinds(await one.send(messages(3, { from: 200 }), never()))).toEqual(acknowledged(3));
    const there = namesOf(await takeAll(await receiver(name)));
    expect([...new Set(there)]).toEqual(there);
    expect(there).toEqual([...idsOf(messages(50)), ...idsOf(messages(3, { from: 200 }))]);
  });

  test("memory is short: unavailable when the signal fires, nothing is lost, and it goes on when the alarm is over", async () => {
    const name = await queue();
    const one = await sender({ queue: name });
    const alarm = "{{resource_limit, memory, node()}, []}";
    rabbit.control("eval", `rabbit_alarm:set_alarm(${alarm}).`);
    const stop = new AbortController();
    const sending = one.send(messages(3), stop.signal);
    await eventually(() => rabbit.control("list_connections", "state").includes("block"));
    stop.abort();
    expect(kinds(await sending)).toEqual(unavailable(3));
    rabbit.control("eval", `rabbit_alarm:clear_alarm({resource_limit, memory, node()}).`);
    await eventually(async () => {
      expect(kinds(await one.send(messages(3), AbortSignal.timeout(5_000)))).toEqual(acknowledged(3));
      return true;
    });
    expect(new Set(namesOf(await takeAll(await receiver(name))))).toEqual(new Set(idsOf(messages(3))));
  });

  test("an acknowledgement stands for its messages alone, whatever was handed out before", async () => {
    const name = await queue();
    await (await sender({ queue: name })).send(messages(9), never());
    const first = await receiver(name);
    const before = await received(first, 4);
    await first.acknowledge(before.slice(0, 2));
    const after = await received(first, 5);
    await first.acknowledge(after);
    await first.close();
    const second = await receiver(name);
    expect(namesOf(await take(second, 2))).toEqual(["message-2", "message-3"]);
    await expectNothing(second);
    await expect(second.acknowledge(before)).rejects.toThrow("was not received here");
  });

  test("a queue that is removed under its reader is told", async () => {
    const name = await queue();
    const one = await receiver(name);
    await (await sender({ queue: name })).send(messages(1), never());
    await received(one, 1);
    await client.queueDelete({ queue: name });
    const waiting = one.receive({ max: 10, waitMs: 60_000, signal: never() });
    await expect(waiting).rejects.toThrow("ended the consumer");
  });

  test("a quorum queue is a queue", async () => {
    const name = await queue({ "x-queue-type": "quorum" });
    expect(kinds(await (await sender({ queue: name })).send(messages(100), never()))).toEqual(acknowledged(100));
    const first = await receiver(name);
    await received(first, 10);
    await first.close();
    expect(namesOf(await take(await receiver(name), 100))).toEqual(idsOf(messages(100)));
  });

  test("killed in mid-batch: what has no answer is sent again, everything is there in order, and only such messages twice", async () => {
    const name = await queue();
    await rabbit.settled?.();
    const one = await sender({ queue: name });
    const early = await one.send(messages(500), never());
    const sending = one.send(messages(5_000, { from: 500 }), never());
    await rabbit.kill();
    const sent = [...early, ...(await sending)];
    await rabbit.restart();
    const unanswered = messages(5_500).filter((_, i) => sent[i]?.kind !== "acknowledged");
    expect(kinds(await one.send(unanswered, never()))).toEqual(unanswered.map(() => "acknowledged"));
    const again = new Set(idsOf(unanswered));
    const ids = namesOf(await takeAll(await receiver(name))).map((id) => id ?? "");
    expect([...new Set(ids)].sort(byNumber)).toEqual(idsOf(messages(5_500)));
    const times = new Map<string, number>();
    for (const id of ids) times.set(id, (times.get(id) ?? 0) + 1);
    for (const [id, count] of times) expect([id, count <= (again.has(id) ? 2 : 1)]).toEqual([id, true]);
    // Those that were acknowledged at once stand in their order, and so do those that were sent again.
    const firstTime = (id: string) => !again.has(id);
    expect(ids.filter(firstTime)).toEqual(idsOf(messages(5_500)).filter(firstTime));
    expect(ids.slice(-unanswered.length)).toEqual(idsOf(unanswered));
  });

  test("the brokers of the guide are what it says, and show no password", () => {
    expect([guide.out.where, guide.inward.where]).toEqual([
      "rabbit.internal:5672 exchange facts",
      "rabbit.internal:5672 queue shipping",
    ]);
  });

  test("options that do not go together are refused", () => {
    const refused = (options: Omit<RabbitMqOptions, "url">) => () => rabbitmq({ url: "amqp://127.0.0.1", ...options });
    expect(refused({ routingKey: "a" })).toThrow("rabbitmq.exchange is missing");
    expect(refused({ tls: {} })).toThrow("Write amqps://");
    expect(refused({ exchange: "ä".repeat(128) })).toThrow("255 bytes");
    expect(() => rabbitmq({ url: "amqp://127.0.0.1/a/b" })).toThrow("virtual host");
  });
});

twoServices({
  name: "RabbitMQ",
  service,
  way: (url, queue) => ({ kind: "rabbitmq", options: { url, queue, timeoutMs: 10_000 } }),
  prepare: async (url, destination) => declare({ url, destination }),
  deaths: 1,
});

brokerConformance({
  name: "RabbitMQ",
  features: rabbitmqFeatures,
  service,
  // Without its limit a message that is too large is found by sending its neighbours again, which is tested above.
  make: ({ url, destination, timeoutMs }) => rabbitmq({ url, queue: destination, timeoutMs, maxMessageBytes }),
  prepare: declare,
  unreadable: unreadable("amqp"),
  headers: "any",
  tellsUnsent: true,
  tooLargeBytes,
});

/** One with both doors: it takes seconds to start. */
let doors: (OwnService & Controlled) | undefined;
brokerDoors({
  name: "RabbitMQ",
  schemes: ["amqp", "amqps"],
  certificate,
  plain: async (options) => {
    const started = await startService("rabbitmq", { tls: await certificate, ...options });
    doors ??= started as OwnService & Controlled;
    return started;
  },
  tls: async () => doors?.url.replace(String(doors.port), String(doors.tlsPort)) ?? "",
  // Both doors lead to the same queue.
  prepare: async (url) => (url.startsWith("amqps:") ? undefined : declare({ url, destination: "door" })),
  make: (url, tls) => rabbitmq({ url, queue: "door", ...(tls && { tls }) }),
});

async function clientOf(url: string): Promise<Connection> {
  const { Connection } = await import("rabbitmq-client");
  const connection = new Connection(url);
  // It is told of channels that were closed over a queue, which is what some tests are about.
  connection.on("error", () => undefined);
  await connection.onConnect();
  return connection;
}

async function declare({ url, destination }: Pick<Place, "url" | "destination">): Promise<void> {
  const connection = await clientOf(url);
  await connection.queueDeclare({ queue: destination, durable: true });
  await connection.close();
}

async function declareFanout(client: Connection, exchange: string, queue: string): Promise<void> {
  await client.exchangeDeclare({ exchange, type: "fanout" });
  await client.queueBind({ queue, exchange });
}

async function publish(client: Connection, envelope: Envelope, body: string): Promise<void> {
  const channel = await client.acquire();
  await channel.basicPublish(envelope, Buffer.from(body));
  await channel.close();
}

function keyByParity({ id }: { readonly id: string }): string {
  return Number(id.split("-")[1]) % 2 === 0 ? "conformance.counted.even" : "odd";
}

function tooLarge(n: number): Outgoing {
  return { event: eventOf(n, { data: JSON.stringify("x".repeat(tooLargeBytes)) }), key: null };
}

function acknowledged(count: number): readonly string[] {
  return Array.from({ length: count }, () => "acknowledged");
}

function unavailable(count: number): readonly string[] {
  return Array.from({ length: count }, () => "unavailable");
}

function namesOf(taken: readonly Incoming[]): readonly (string | undefined)[] {
  return taken.map(({ id }) => id);
}

function byNumber(one = "", other = ""): number {
  return Number(one.split("-")[1]) - Number(other.split("-")[1]);
}

/** Without acknowledging. */
async function received(receiver: Receiver, count: number): Promise<readonly Incoming[]> {
  const taken: Incoming[] = [];
  while (taken.length < count) {
    taken.push(...(await receiver.receive({ max: count - taken.length, waitMs: 60_000, signal: never() })));
  }
  return taken;
}

/** All that is there, copies included. */
async function takeAll(receiver: Receiver): Promise<readonly Incoming[]> {
  const taken: Incoming[] = [];
  for (;;) {
    const next = await receiver.receive({ max: 500, waitMs: 500, signal: never() });
    if (next.length === 0) return taken;
    await receiver.acknowledge(next);
    taken.push(...next);
  }
}
