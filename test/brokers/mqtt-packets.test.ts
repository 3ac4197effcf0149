/**
 * Goal: what the client of `posthorn/mqtt` really sends and when, and what it makes of each answer of a broker.
 * Method: a server that is scripted, because no real broker gives all the answers.
 */
import { afterEach, describe, expect, test } from "vitest";
import type { Incoming } from "../../src/brokers/broker.js";
import { type MqttOptions, mqtt } from "../../src/brokers/mqtt/index.js";
import { readSettings } from "../../src/brokers/mqtt/options.js";
import { publicationOf } from "../../src/brokers/mqtt/packet.js";
import { ConfigurationError } from "../../src/core/errors.js";
import { eventually } from "../support/eventually.js";
import { eventOf, kinds, messages, never } from "./scene.js";
import {
  connack,
  goodbye,
  maximumPacketSize,
  type Packet,
  puback,
  publish,
  receiveMaximum,
  ScriptedMqtt,
  suback,
} from "./scripted-mqtt.js";
import { ownCertificate } from "./webhooks/certificate.js";

type Answers = Partial<Readonly<Record<Packet["kind"], (packet: Packet, server: ScriptedMqtt) => void>>>;

const opened: { close(): Promise<void> }[] = [];
afterEach(async () => {
  for (const one of opened.splice(0).reverse()) await one.close();
});

async function serve(answers: Answers): Promise<ScriptedMqtt> {
  const server: ScriptedMqtt = await ScriptedMqtt.open((packet, socket) => {
    const given = answers[packet.kind];
    if (given !== undefined) given(packet, server);
    else if (packet.kind === "connect") socket.write(connack());
    else if (packet.kind === "publish") socket.write(puback(packet.id));
    else if (packet.kind === "subscribe") socket.write(suback(packet.id, 1));
  });
  opened.push(server);
  return server;
}

const troubles: unknown[] = [];
const open = (name = "test") => ({
  name,
  service: "shop",
  signal: never(),
  onTrouble: (error: unknown) => void troubles.push(error),
});

async function senderOf(server: ScriptedMqtt, options: Partial<MqttOptions> = {}) {
  const sender = await mqtt({ url: server.url, topic: "t", ...options }).openSender(open());
  opened.push(sender);
  return sender;
}

async function receiverOf(server: ScriptedMqtt, options: Partial<MqttOptions> = {}) {
  const receiver = await mqtt({ url: server.url, topic: "t", ...options }).openReceiver(open());
  opened.push(receiver);
  return receiver;
}

describe("the way out", () => {
  test("no more is on its way than the broker allows, nor than the option", async () => {
    for (const { allowed, maxInFlight, most } of [
      { allowed: 3, maxInFlight: 1_000, most: 3 },
      { allowed: 100, maxInFlight: 5, most: 5 },
    ]) {
      const held: number[] = [];
      let peak = 0;
      const server = await serve({
        connect: (_, server) => server.say(connack(receiveMaximum(allowed))),
        publish: ({ id }, server) => {
          held.push(id);
          peak = Math.max(peak, held.length);
          if (held.length === most) server.say(...held.splice(0).map((one) => puback(one)));
        },
      });
      const sender = await senderOf(server, { maxInFlight });
      const sent = await sender.send(messages(most * 10), never());
      expect(new Set(kinds(sent))).toEqual(new Set(["acknowledged"]));
      expect(peak).toBe(most);
    }
  });

  test("a packet of the largest size that the broker announces is sent, and one byte more is refused", async () => {
    const settings = readSettings({ url: "mqtt://h", topic: "t" });
    const extensions = { partitionkey: "ключ", tracestate: "x".repeat(200) };
    const event = eventOf(0, {
      subject: "ä",
      extensions,
      data: JSON.stringify("y".repeat(300)),
      headers: { "x-a": "ü" },
    });
    const fits = publicationOf(event, "binary", settings);
    if (typeof fits === "string") throw new Error(fits);
    const larger = { ...event, data: JSON.stringify("y".repeat(301)) };
    const server = await serve({ connect: (_, server) => server.say(connack(maximumPacketSize(fits.bytes))) });
    const sender = await senderOf(server);
    const sent = await sender.send(
      [event, larger, event].map((one) => ({ event: one, key: null })),
      never(),
    );
    expect(kinds(sent)).toEqual(["acknowledged", "refused", "acknowledged"]);
    expect(sent[1]).toMatchObject({ reason: `its packet has ${fits.bytes + 1} bytes, ${fits.bytes} are allowed` });
    expect(server.of("publish").map(({ bytes }) => bytes.length)).toEqual([fits.bytes, fits.bytes]);
  });

  test.each([
    [0x10, "acknowledged", "acknowledged"],
    [0x80, "failed", "failed"],
    [0x83, "failed", "failed"],
    [0x87, "unavailable", "failed"],
    [0x90, "unavailable", "refused"],
    [0x91, "failed", "failed"],
    [0x97, "unavailable", "unavailable"],
    [0x99, "refused", "refused"],
  ])("the reason %i in a PUBACK: %s with one topic, %s with one for each event", async (reason, one, each) => {
    const server = await serve({ publish: ({ id }, server) => server.say(puback(id, reason)) });
    expect(kinds(await (await senderOf(server)).send(messages(1), never()))).toEqual([one]);
    const byEvent = await senderOf(server, { topic: ({ id }) => `t/${id}` });
    expect(kinds(await byEvent.send(messages(1), never()))).toEqual([each]);
  });

  test("the topic may be told for each event, and one that cannot be told or is none is refused alone", async () => {
    const server = await serve({});
    const topics: Readonly<Record<string, () => string>> = {
      "message-0": () => "a/0",
      "message-1": () => {
        throw new Error("secret");
      },
      "message-2": () => "a/+",
      "message-3": () => "",
      "message-4": () => "a/\u0000",
      "message-5": () => "a/5",
    };
    const sender = await senderOf(server, { topic: ({ id }) => topics[id]?.() ?? "" });
    const sent = await sender.send(messages(6), never());
    expect(kinds(sent)).toEqual(["acknowledged", "refused", "refused", "refused", "refused", "acknowledged"]);
    expect(JSON.stringify(sent)).not.toContain("secret");
    expect(server.of("publish").map(({ topic }) => topic)).toEqual(["a/0", "a/5"]);
  });

  test("an attribute that MQTT cannot carry goes in the JSON body, a header that it cannot carry is refused", async () => {
    const server = await serve({});
    const sender = await senderOf(server);
    const key = eventOf(0, { extensions: { partitionkey: "two\nlines" } });
    const long = eventOf(1, { subject: "x".repeat(70_000) });
    const header = eventOf(2, { headers: { "x-a": "two\nlines" } });
    const sent = await sender.send(
      [key, long, header].map((event) => ({ event, key: null })),
      never(),
    );
    expect(kinds(sent)).toEqual(["acknowledged", "acknowledged", "refused"]);
    for (const { bytes } of server.of("publish")) expect(bytes.includes("application/cloudevents+json")).toBe(true);
    expect(sent[2]).toMatchObject({ reason: expect.stringContaining('"x-a" cannot travel') });
  });

  test("a goodbye of the broker is the reason why what was on its way is unavailable", async () => {
    const server = await serve({ publish: (_, server) => server.say(goodbye(0x8b)) });
    const sender = await senderOf(server);
    const [sent] = await sender.send(messages(1), never());
    expect(sent).toMatchObject({ kind: "unavailable", error: { message: expect.stringContaining("shutting down") } });
    expect(troubles).toEqual([]);
  });

  test("a connection that is lost while nothing is on its way is told, and the next send opens another", async () => {
    const server = await serve({});
    const sender = await senderOf(server);
    server.say(goodbye(0x98));
    await eventually(() => troubles.length > 0);
    expect(String(troubles.splice(0)[0])).toContain("administrative action");
    expect(kinds(await sender.send(messages(1), never()))).toEqual(["acknowledged"]);
    expect(server.of("connect")).toHaveLength(2);
  });
});

describe("the way in", () => {
  const body = (n: number) => JSON.stringify({ n });
  const numbers = (incoming: readonly Incoming[]) =>
    incoming.map(({ body }) => JSON.parse(Buffer.from(body).toString()).n);
  const next = (receiver: Awaited<ReturnType<typeof receiverOf>>, max = 100) =>
    receiver.receive({ max, waitMs: 60_000, signal: never() });

  test("messages keep coming without an acknowledgement, and each is acknowledged when it is said, in that order", async () => {
    const server = await serve({});
    const receiver = await receiverOf(server);
    server.say(publish(7, "t", body(0)), publish(8, "t", body(1)), publish(9, "t", body(2)));
    const taken: Incoming[] = [];
    while (taken.length < 3) taken.push(...(await next(receiver)));
    expect(numbers(taken)).toEqual([0, 1, 2]);
    expect(server.of("puback")).toEqual([]);
    await receiver.acknowledge(taken.slice(0, 2));
    await eventually(() => server.of("puback").length === 2);
    expect(server.of("puback").map(({ id }) => id)).toEqual([7, 8]);
    await receiver.close();
    await eventually(() => server.of("disconnect").length === 1);
    expect(server.of("puback")).toHaveLength(2);
  });

  test("the session outlives the connection, and the broker is told how much may be on its way", async () => {
    const server = await serve({});
    await receiverOf(server, { sessionMs: 90_000, maxInFlight: 300 });
    const [connect] = server.of("connect");
    const bytes = [...(connect?.bytes ?? [])];
    const flags = bytes[9] ?? 0;
    expect(flags & 0b10).toBe(0);
    expect(connect?.bytes.includes(Buffer.from([0x11, 0, 0, 0, 90]))).toBe(true);
    expect(connect?.bytes.includes(Buffer.from(receiveMaximum(300)))).toBe(true);
    expect(connect?.bytes.includes("posthorn-test@shop")).toBe(true);
  });

  test("what waits in a session and comes before the answer to the subscription does not keep it from being heard", async () => {
    const waiting = [1, 2, 3, 4, 5].map((n) => publish(n, "t", body(n)));
    const server = await serve({ subscribe: ({ id }, server) => server.say(...waiting, suback(id, 1)) });
    const receiver = await receiverOf(server, { maxInFlight: 2 });
    const taken: Incoming[] = [];
    while (taken.length < 5) taken.push(...(await next(receiver, 2)));
    expect(numbers(taken)).toEqual([1, 2, 3, 4, 5]);
    await receiver.acknowledge(taken);
    await eventually(() => server.of("puback").length === 5);
  });

  test("a message at QoS 0 is received, and needs no acknowledgement", async () => {
    const server = await serve({});
    const receiver = await receiverOf(server, { maxInFlight: 1 });
    server.say(publish(0, "t", body(0), 0), publish(0, "t", body(1), 0), publish(5, "t", body(2)));
    for (const n of [0, 1, 2]) {
      const one = await next(receiver, 1);
      expect(numbers(one)).toEqual([n]);
      await receiver.acknowledge(one);
    }
    await eventually(() => server.of("puback").length === 1);
    expect(server.of("puback").map(({ id }) => id)).toEqual([5]);
  });

  test("a message that came by another connection is not acknowledged by a number that means another message", async () => {
    const server = await serve({});
    const first = await receiverOf(server);
    server.say(publish(7, "t", body(0)));
    const taken = await next(first);
    await first.close();
    const second = await receiverOf(server);
    await expect(second.acknowledge(taken)).rejects.toThrow("another connection");
    await expect(first.acknowledge(taken)).rejects.toThrow("is lost");
    expect(server.of("puback")).toEqual([]);
  });

  test("an event whose content type is missing tells by its body what it is, as with MQTT 3.1.1", async () => {
    const server = await serve({});
    const receiver = await receiverOf(server);
    server.say(publish(1, "t", ' {"specversion":"1.0"}'), publish(2, "t", '["specversion"]'), publish(3, "t", "{}"));
    const taken: Incoming[] = [];
    while (taken.length < 3) taken.push(...(await next(receiver)));
    expect(taken.map(({ contentType }) => contentType)).toEqual(["application/cloudevents+json", undefined, undefined]);
  });

  test.each([
    [0, "PH_BROKER_DESTINATION", "QoS 0 only"],
    [0x8f, "PH_BROKER_DESTINATION", "topic filter invalid"],
    [0xa2, "PH_BROKER_DESTINATION", "wildcard subscriptions not supported"],
    [0x87, "PH_BROKER_DENIED", "not authorized"],
    [0x80, undefined, "unspecified error"],
  ])("the reason %i in a SUBACK", async (granted, code, words) => {
    const server = await serve({ subscribe: ({ id }, server) => server.say(suback(id, granted)) });
    const error = await receiverOf(server).then(undefined, (thrown: unknown) => thrown);
    expect(String(error)).toContain(words);
    if (code === undefined) expect(error).not.toBeInstanceOf(ConfigurationError);
    else expect(error).toMatchObject({ code });
  });

  test("a broker that says nothing to a subscription is away", async () => {
    const server = await serve({ subscribe: () => undefined });
    await expect(receiverOf(server, { timeoutMs: 1_000 })).rejects.toThrow("said nothing for 1000 ms");
  });
});

describe("options", () => {
  const refused = (options: Partial<MqttOptions>) => {
    try {
      mqtt({ url: "mqtt://h", topic: "t", ...options });
    } catch (error) {
      return error;
    }
    return undefined;
  };

  test.each(["", "a/+b", "a/#/b", "a#", "\u0000", "a\ud800", "x".repeat(65_536)])("%j is no topic", (topic) => {
    expect(refused({ topic })).toMatchObject({ code: "PH_OPTION_INVALID" });
  });

  test("a topic with wildcards is for an intake, a function for a relay, and 3.1.1 for structured mode only", async () => {
    for (const topic of ["a/+/b/#", "+", "#", "$share/group/a"]) expect(refused({ topic })).toBeUndefined();
    const { openSender } = mqtt({ url: "mqtt://h", topic: "a/#" });
    await expect(openSender(open())).rejects.toMatchObject({ code: "PH_OPTION_INVALID" });
    const { openReceiver } = mqtt({ url: "mqtt://h", topic: () => "t" });
    await expect(openReceiver(open())).rejects.toMatchObject({ code: "PH_OPTION_INVALID" });
    const old = mqtt({ url: "mqtt://h", topic: "t", version: "3.1.1" });
    expect(old.features.mode).toBe("structured");
    await expect(old.openSender({ ...open(), mode: "binary" })).rejects.toMatchObject({ code: "PH_OPTION_INVALID" });
  });

  test("options for TLS need TLS, and a secret in them is not repeated", () => {
    const { cert: ca } = ownCertificate(["h"]);
    expect(refused({ tls: { ca } })).toMatchObject({ code: "PH_OPTION_INVALID" });
    expect(refused({ url: "mqtts://h", tls: { ca, servername: "n" } })).toBeUndefined();
    const wrong = refused({ url: "mqtts://h", tls: { passphrase: "hunter2".repeat(20_000) } });
    expect(wrong).toMatchObject({ code: "PH_OPTION_INVALID" });
    expect(String(wrong)).not.toContain("hunter2");
  });
});

describe("a message for which the broker drops the connection", () => {
  /** As a relay does it: what is unavailable is sent again, with what comes after it. */
  async function untilAnswered(sender: Awaited<ReturnType<typeof senderOf>>, count: number) {
    const answers = new Map<string, string>();
    for (let rounds = 0; rounds < 10 && answers.size < count; rounds += 1) {
      const left = messages(count).filter(({ event }) => !answers.has(event.id));
      const sent = await sender.send(left, never());
      for (const [i, { kind }] of sent.entries())
        if (kind !== "unavailable") answers.set(left[i]?.event.id ?? "", kind);
    }
    return answers;
  }

  test("is found, and the others arrive", async () => {
    const server: ScriptedMqtt = await ScriptedMqtt.open((packet, socket) => {
      if (packet.kind === "connect") socket.write(connack());
      if (packet.kind === "publish" && packet.bytes.includes("message-11")) socket.destroy();
      else if (packet.kind === "publish") socket.write(puback(packet.id));
    });
    opened.push(server);
    const sender = await senderOf(server);
    const answers = await untilAnswered(sender, 30);
    expect(answers.size).toBe(30);
    for (const [id, kind] of answers)
      expect(`${id} ${kind}`).toBe(`${id} ${id === "message-11" ? "failed" : "acknowledged"}`);
    // It is known from now on: it takes nobody along, and fails at once.
    const again = await sender.send(messages(30), never());
    expect(kinds(again.slice(0, 12))).toEqual([...Array.from({ length: 11 }, () => "acknowledged"), "failed"]);
  });

  test("is not any message that was on its way when the broker was stopped", async () => {
    let stops = 0;
    const server: ScriptedMqtt = await ScriptedMqtt.open((packet, socket) => {
      if (packet.kind === "connect") socket.write(connack());
      else if (packet.kind === "publish" && stops > 0) {
        stops -= 1;
        socket.destroy();
      } else if (packet.kind === "publish") socket.write(puback(packet.id));
    });
    opened.push(server);
    const sender = await senderOf(server);
    for (const n of [0, 1, 2]) {
      stops = 1;
      expect(kinds(await sender.send(messages(1, { from: n }), never()))).toEqual(["unavailable"]);
      expect(kinds(await sender.send(messages(5, { from: n }), never()))).toEqual(
        messages(5).map(() => "acknowledged"),
      );
    }
  });
});
