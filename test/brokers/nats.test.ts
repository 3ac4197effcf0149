/**
 * Goal: beside the rules of every broker, what JetStream alone can do: know a message already, be full, be gone, send again what is being worked on; and the
 * order when a reader dies in the middle of a batch.
 * Method: the real server; readers die by their connection, which is cut.
 */
import { randomBytes } from "node:crypto";
import type { JetStreamManager, StreamConfig } from "@nats-io/jetstream";
import type { NatsConnection } from "@nats-io/transport-node";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { Receiver, Sender } from "../../src/brokers/broker.js";
import { type NatsOptions, nats, natsFeatures } from "../../src/brokers/nats/index.js";
import { ConfigurationError } from "../../src/core/errors.js";
import * as guide from "../docs/examples/nats.js";
import { makeCertificate } from "../support/certificate.js";
import { eventually } from "../support/eventually.js";
import { type OwnService, startService } from "../support/services.js";
import { openTcpProxy } from "../support/tcp-proxy.js";
import { brokerConformance } from "./conformance.js";
import { brokerDoors } from "./doors.js";
import {
  acknowledged,
  clientOf,
  consumerOf,
  makeStream,
  managerOf,
  namesOf,
  opening,
  received,
  unavailable,
} from "./nats-scene.js";
import { eventOf, expectNothing, idsOf, kinds, messages, never, take } from "./scene.js";
import { twoServices } from "./two-services.js";
import { unreadable } from "./unreadable.js";

const certificate = makeCertificate();

describe("NATS alone", () => {
  let service: OwnService;
  let client: NatsConnection;
  let manager: JetStreamManager;
  const open: { close(): Promise<void> }[] = [];
  beforeAll(async () => {
    service = await startService("nats");
    client = await clientOf(service.url);
    manager = await managerOf(client);
  });
  afterAll(async () => {
    await Promise.all(open.map((one) => one.close()));
    await client?.close();
  });

  const fresh = () => `own${randomBytes(6).toString("hex")}`;
  async function stream(over: Partial<StreamConfig> = {}): Promise<string> {
    const name = fresh();
    await manager.streams.add({ name, subjects: [`${name}.>`], ...over });
    return name;
  }
  async function sender(name: string, options: Partial<NatsOptions> = {}): Promise<Sender> {
    const broker = nats({ url: service.url, stream: name, subject: `${name}.placed`, ...options });
    const opened = await broker.openSender(opening("sender"));
    open.push(opened);
    return opened;
  }
  async function receiver(name: string, options: Partial<NatsOptions> = {}): Promise<Receiver> {
    const opened = await nats({ url: service.url, stream: name, ...options }).openReceiver(opening("receiver"));
    open.push(opened);
    return opened;
  }

  test("what the stream has already is acknowledged as a duplicate", async () => {
    const one = await sender(await stream());
    expect(await one.send(messages(2), never())).toEqual([{ kind: "acknowledged" }, { kind: "acknowledged" }]);
    const again = await one.send(messages(3, { from: 1 }), never());
    expect(again.map((sent) => "duplicate" in sent && sent.duplicate)).toEqual([true, false, false]);
  });

  // The id alone was what the stream knew a message by: all of the second and third sender's was acknowledged and dropped.
  test("an event that goes to a second subject of the stream, or comes from another source with the same id, is no duplicate", async () => {
    const name = await stream();
    const [placed, billed] = [await sender(name), await sender(name, { subject: `${name}.billed` })];
    const other = messages(2).map(({ event, key }) => ({ key, event: { ...event, source: "urn:another ä" } }));
    for (const sent of [await placed.send(messages(2), never()), await billed.send(messages(2), never())])
      expect(sent).toEqual([{ kind: "acknowledged" }, { kind: "acknowledged" }]);
    expect(await placed.send(other, never())).toEqual([{ kind: "acknowledged" }, { kind: "acknowledged" }]);
    expect((await manager.streams.info(name)).state.messages).toBe(6);
  });

  test("a sequence that a stream gives once more, since it was made anew, is another place; what comes again has the same", async () => {
    const name = await stream();
    const placeOfFirst = async () => {
      client.publish(`${name}.foreign`, "without an id");
      const places: (string | undefined)[] = [];
      for (const _time of [1, 2]) {
        const reader = await receiver(name);
        const [one] = await eventually(async () => {
          const some = await reader.receive({ max: 1, waitMs: 1_000, signal: never() });
          return some.length > 0 && some;
        });
        places.push(one?.position);
        await reader.close();
      }
      expect(places[1]).toBe(places[0]);
      return places[0];
    };
    const before = await placeOfFirst();
    await manager.streams.delete(name);
    await manager.streams.add({ name, subjects: [`${name}.>`] });
    const after = await placeOfFirst();
    expect([before, after]).toEqual(Array(2).fill(expect.stringMatching(`^${name}/1@[0-9]{19}$`)));
    expect(after).not.toBe(before);
  });

  test("a subject that the stream does not take is noticed at start, or refuses the event that names it", async () => {
    const name = await stream();
    const elsewhere = sender(name, { subject: "elsewhere.placed" });
    await expect(elsewhere).rejects.toMatchObject({ code: "PH_BROKER_DESTINATION" });
    const subjects = [`${name}.placed`, "elsewhere.placed", `${name}.with space`, `${name}.*`, `${name}.paid.late`];
    const subject = ({ id }: { id: string }) => {
      if (id === "message-5") throw new Error("no subject");
      return subjects[Number(id.split("-")[1])] ?? "";
    };
    const sent = await (await sender(name, { subject })).send(messages(6), never());
    expect(kinds(sent)).toEqual(["acknowledged", "refused", "refused", "refused", "acknowledged", "refused"]);
  });

  test("on the wire: attributes percent-encoded, the id for the stream, and no orders of a producer to the stream", async () => {
    const name = await stream({ allow_rollup_hdrs: true, deny_purge: false });
    const one = await sender(name);
    const event = eventOf(1, { subject: "ä 1", headers: { "Nats-Rollup": "all", plain: "yes" } });
    await one.send([...messages(1), { event, key: null }], never());
    const stored = await manager.streams.getMessage(name, { seq: 2 });
    const headers = Object.fromEntries([...(stored?.header ?? [])].map(([key, values]) => [key, values.join()]));
    expect(headers).toMatchObject({
      "ce-id": "message-1",
      "ce-subject": "%C3%A4%201",
      "Nats-Msg-Id": `message-1 ${name}.placed ${event.source}`,
      plain: "yes",
    });
    expect(headers).toMatchObject({ "ce-datacontenttype": "application/json", "Nats-Expected-Stream": name });
    expect(headers).not.toHaveProperty("Nats-Rollup");
    expect((await manager.streams.info(name)).state.messages).toBe(2);
  });

  test("a full stream makes everything unavailable, and takes it when there is room", async () => {
    const name = await stream({ max_msgs: 3, discard: "new" });
    const one = await sender(name);
    expect(kinds(await one.send(messages(5), never()))).toEqual([...acknowledged(3), ...unavailable(2)]);
    await manager.streams.purge(name);
    expect(kinds(await one.send(messages(2, { from: 3 }), never()))).toEqual(acknowledged(2));
  });

  test("a message that is too large for the stream is refused alone", async () => {
    const one = await sender(await stream({ max_msg_size: 1_000 }));
    const large = { event: eventOf(1, { data: JSON.stringify("x".repeat(1_000)) }), key: null };
    const sent = await one.send([...messages(1), large, ...messages(1, { from: 2 })], never());
    expect(kinds(sent)).toEqual(["acknowledged", "refused", "acknowledged"]);
  });

  // It was told as an outage: "the broker is away".
  test("a stream that is removed, or takes the subject no more, is told with what to do, and it works when it is back", async () => {
    const name = await stream();
    const one = await sender(name);
    const expectTold = async (text: string) => {
      const sent = await one.send(messages(3), never());
      const error = { code: "PH_BROKER_DESTINATION", message: expect.stringContaining(text) };
      expect(sent).toEqual(Array(3).fill({ kind: "unavailable", error: expect.objectContaining(error) }));
    };
    await manager.streams.delete(name);
    await expectTold(`has no stream "${name}" for this account. Make it there`);
    // Somebody else's, by then: its answer is another one.
    const other = await stream({ subjects: [`${name}.>`] });
    await expectTold(`has no stream "${name}" for this account. Make it there`);
    await manager.streams.delete(other);
    await manager.streams.add({ name, subjects: [`${name}.late`] });
    await expectTold(`does not take the subject ${name}.placed; it takes ${name}.late`);
    await manager.streams.update(name, { subjects: [`${name}.>`] });
    expect(kinds(await one.send(messages(3), never()))).toEqual(acknowledged(3));
  });

  // It had asked for the subjects once, when it connected: every message of one that the stream took no more counted as an outage, and held up all the others.
  test("of a function of subjects, one that the stream takes no more refuses its messages alone", async () => {
    const name = await stream({ subjects: ["once", "always"].map((part) => `${fresh()}.${part}`) });
    const [once = "", always = ""] = (await manager.streams.info(name)).config.subjects;
    const one = await sender(name, { subject: ({ id }) => (id === "message-0" ? once : always) });
    await manager.streams.update(name, { subjects: [always] });
    const kindsOf = async () => kinds(await one.send(messages(2), never()));
    expect([await kindsOf(), await kindsOf()]).toEqual([
      ["unavailable", "acknowledged"],
      ["refused", "acknowledged"],
    ]);
  });

  test("a subject that the user may not publish to is told at once", async () => {
    const permissions = '{ publish: { deny: ["closed.>"] } }';
    const users = `{ users: [{ user: limited, password: "p@ss/word", permissions: ${permissions} }] }`;
    const other = await startService("nats", { settings: { authorization: users } });
    const url = other.url.replace("posthorn", "limited");
    const admin = await clientOf(url);
    await (await managerOf(admin)).streams.add({ name: "closed", subjects: ["closed.>", "free.>"] });
    const subject = ({ id }: { id: string }) => (id === "message-1" ? "closed.placed" : "free.placed");
    const one = await nats({ url, stream: "closed", subject }).openSender(opening("sender"));
    expect(kinds(await one.send(messages(3), never()))).toEqual(["acknowledged", "failed", "acknowledged"]);
    await one.close();
    await admin.close();
    await other.remove();
  });

  test("when a reader dies in mid-batch the next one begins where it was, in order, whatever came meanwhile", async () => {
    const name = await stream();
    const one = await sender(name);
    await one.send(messages(30), never());
    const network = await openTcpProxy(service.url);
    open.push(network);
    const dying = await nats({ url: network.through(service.url), stream: name }).openReceiver(opening("receiver"));
    const first = await received(dying, 10);
    await dying.acknowledge(first.slice(0, 4));
    // Another 20 lie ahead in it by now, and die with it.
    network.cut();
    await dying.close();
    await one.send(messages(20, { from: 30 }), never());
    const next = await receiver(name);
    expect(namesOf(await received(next, 7))).toEqual(idsOf(messages(7, { from: 4 })));
    await next.close();
    const last = await receiver(name);
    expect(namesOf(await take(last, 46, { max: 9 }))).toEqual(idsOf(messages(46, { from: 4 })));
    await expectNothing(last);
    await eventually(async () => (await consumerOf(manager, name)).num_ack_pending === 0);
  });

  test("what a dead reader has left and the stream has lost is not waited for without end", async () => {
    const name = await stream();
    await (await sender(name)).send(messages(10), never());
    const dying = await receiver(name);
    await received(dying, 10);
    await dying.close();
    await manager.streams.deleteMessage(name, 3);
    expect(namesOf(await take(await receiver(name), 9))).toEqual(
      idsOf(messages(10)).filter((id) => id !== "message-2"),
    );
  });

  // The stream went on with the first that was left, and nothing was told.
  test("what a stream has removed before its consumer was given it is told, with how many", async () => {
    const name = await stream({ max_msgs: 4 });
    const out = await sender(name);
    const notices: string[] = [];
    const opened = () =>
      nats({ url: service.url, stream: name }).openReceiver({
        ...opening("receiver"),
        onNotice: (error) => void notices.push(String(error)),
      });
    // A new consumer has missed nothing.
    await out.send(messages(5), never());
    const first = await opened();
    await take(first, 4);
    await first.close();
    // Else the server may give the next ones to the reader that has just gone.
    await eventually(async () => (await consumerOf(manager, name)).num_waiting === 0);
    await out.send(messages(10, { from: 5 }), never());
    const second = await opened();
    expect(namesOf(await take(second, 4))).toEqual(idsOf(messages(4, { from: 11 })));
    const told = (count: number, from: number) =>
      expect.stringContaining(`: ${count} messages, from ${from} on, were removed from the stream before the consumer`);
    await eventually(() => notices.length > 0);
    // What was read before it was removed is nobody's loss.
    await manager.streams.purge(name);
    await out.send(messages(2, { from: 15 }), never());
    await take(second, 2);
    await second.close();
    expect(notices).toEqual([told(6, 6)]);
  });

  test("a batch that takes longer than the stream waits is received once", async () => {
    const name = await stream();
    await manager.consumers.add(name, { durable_name: "slow", ack_policy: "explicit", ack_wait: 200_000_000 });
    await (await sender(name)).send(messages(5), never());
    const one = await receiver(name, { consumer: "slow" });
    const batch = await received(one, 5);
    await eventually(async () => (await manager.consumers.info(name, "slow")).num_redelivered === 5);
    await expectNothing(one);
    await one.acknowledge(batch);
    expect((await manager.consumers.info(name, "slow")).num_ack_pending).toBe(0);
    await expectNothing(one);
  });

  test("an acknowledgement stands for its messages alone, and a work queue keeps the others", async () => {
    const name = await stream({ retention: "workqueue" });
    await (await sender(name)).send(messages(6), never());
    const one = await receiver(name);
    const batch = await received(one, 6);
    await one.acknowledge(batch.slice(2, 4));
    const { state } = await manager.streams.info(name);
    expect(state.messages).toBe(4);
    await expect(one.acknowledge(batch)).rejects.toThrow("was not received here");
    await one.close();
    expect(namesOf(await take(await receiver(name), 4))).toEqual(["message-0", "message-1", "message-4", "message-5"]);
  });

  test("a consumer that is removed under its reader is told", async () => {
    const name = await stream();
    const one = await receiver(name);
    await (await sender(name)).send(messages(1), never());
    await one.acknowledge(await received(one, 1));
    await manager.consumers.delete(name, "posthorn-receiver@shop");
    await expect(one.receive({ max: 10, waitMs: 60_000, signal: never() })).rejects.toThrow();
  });

  test("a consumer that was removed since this process read from it is made again, and that is told; the whole stream came again without a word", async () => {
    const name = await stream();
    const notices: string[] = [];
    const open = async (again: boolean) => {
      const onNotice = (error: unknown) => void notices.push(String(error));
      const broker = nats({ url: (await service).url, stream: name });
      const one = await broker.openReceiver({ ...opening("receiver"), again, onNotice });
      await one.close();
    };
    await open(false);
    await open(true);
    expect(notices).toEqual([]);
    await manager.consumers.delete(name, "posthorn-receiver@shop");
    await open(true);
    expect(notices).toEqual([
      expect.stringContaining(`had lost the consumer posthorn-receiver@shop of the stream ${name}; it was made again`),
    ]);
  });

  test("a consumer of another kind is refused, and one of another subject", async () => {
    const name = await stream();
    await manager.consumers.add(name, { durable_name: "pushed", deliver_subject: "somewhere", ack_policy: "explicit" });
    await manager.consumers.add(name, { durable_name: "careless", ack_policy: "all" });
    // It was taken: each message came empty, was acknowledged, and what it had said was gone.
    await manager.consumers.add(name, { durable_name: "empty", ack_policy: "explicit", headers_only: true });
    await manager.consumers.add(name, { durable_name: "paid", ack_policy: "explicit", filter_subject: `${name}.paid` });
    for (const options of [
      { consumer: "pushed" },
      { consumer: "careless" },
      { consumer: "empty" },
      { consumer: "paid", subject: `${name}.x` },
    ]) {
      const error = await receiver(name, options).catch((thrown: unknown) => thrown);
      expect(error).toBeInstanceOf(ConfigurationError);
    }
    await receiver(name, { consumer: "paid", subject: `${name}.paid` });
  });

  // They had one consumer, named after the intake alone, and each got a part.
  test("two services whose intakes have one name get all messages of a stream, each of them", async () => {
    const name = await stream();
    await (await sender(name)).send(messages(20), never());
    const broker = nats({ url: service.url, stream: name });
    for (const of of ["shop", "shipping"]) {
      const one = await broker.openReceiver(opening("orders", of));
      open.push(one);
      expect(namesOf(await take(one, 20))).toEqual(idsOf(messages(20)));
    }
  });

  // It was taken over: what the other one had in its hands was handed back, and both were given a part of the rest.
  test("a consumer that another service or intake has made is refused with both names, and keeps what it has handed out", async () => {
    const name = await stream();
    await (await sender(name)).send(messages(10), never());
    const broker = nats({ url: service.url, stream: name, consumer: "shared" });
    const own = await broker.openReceiver(opening("orders"));
    open.push(own);
    const batch = await received(own, 10);
    for (const foreign of [opening("orders", "shipping"), opening("returns")]) {
      const error = await broker.openReceiver(foreign).catch((thrown: unknown) => thrown);
      expect(error).toBeInstanceOf(ConfigurationError);
      expect(error).toMatchObject({ code: "PH_BROKER_DESTINATION" });
      expect(String(error)).toContain('made by the intake "orders" of the service "shop"');
      expect(String(error)).toContain(
        "or none: one that is not there yet is made, and begins at the start of the stream",
      );
      expect(String(error)).toContain(`the intake "${foreign.name}" of the service "${foreign.service}" would take`);
    }
    const { num_ack_pending, num_redelivered } = await manager.consumers.info(name, "shared");
    expect([num_ack_pending, num_redelivered]).toEqual([10, 0]);
    await own.acknowledge(batch);
    await own.close();
    // The way out that the error names.
    const { config } = await manager.consumers.info(name, "shared");
    const description = 'posthorn {"service":"shipping","intake":"orders"}';
    await manager.consumers.update(name, "shared", { ...config, description });
    open.push(await broker.openReceiver(opening("orders", "shipping")));
  });

  test("a consumer that was made by hand is read by any service, and stays nobody's", async () => {
    const name = await stream();
    await manager.consumers.add(name, { durable_name: "hand", ack_policy: "explicit", description: "for the shop" });
    const broker = nats({ url: service.url, stream: name, consumer: "hand" });
    for (const of of ["shop", "shipping"]) await (await broker.openReceiver(opening("orders", of))).close();
    expect((await manager.consumers.info(name, "hand")).config.description).toBe("for the shop");
  });

  // The server ended each of its pulls, which ask for longer, and nothing ever came in.
  test("a consumer that bounds how long a pull may wait is asked for no longer", async () => {
    const name = await stream();
    const bound = { durable_name: "hasty", ack_policy: "explicit", max_expires: 1_000_000_000 } as const;
    await manager.consumers.add(name, bound);
    const one = await receiver(name, { consumer: "hasty" });
    await expectNothing(one, 2_500);
    await (await sender(name)).send(messages(3), never());
    expect(namesOf(await take(one, 3))).toEqual(idsOf(messages(3)));
  });

  test("a consumer that was made by hand to begin at the end leaves out what was in the stream before", async () => {
    const name = await stream();
    await (await sender(name)).send(messages(3), never());
    await manager.consumers.add(name, { durable_name: "hand", ack_policy: "explicit", deliver_policy: "new" });
    await (await sender(name)).send(messages(2, { from: 4 }), never());
    const one = await receiver(name, { consumer: "hand" });
    expect(namesOf(await take(one, 2))).toEqual(idsOf(messages(2, { from: 4 })));
  });

  test("an intake of some subjects gets these, and its name may have what NATS does not allow in one", async () => {
    const name = await stream();
    const subject = ({ id }: { id: string }) => `${name}.${Number(id.split("-")[1]) % 2 === 0 ? "even" : "odd"}`;
    await (await sender(name, { subject })).send(messages(6), never());
    const broker = nats({ url: service.url, stream: name, subject: `${name}.odd` });
    const one = await broker.openReceiver(opening("a.b > c"));
    open.push(one);
    expect(namesOf(await take(one, 3))).toEqual(["message-1", "message-3", "message-5"]);
  });

  test("killed in mid-batch: what has no answer is sent again, and everything is there once and in order", async () => {
    const name = await stream();
    const one = await sender(name);
    const early = await one.send(messages(500), never());
    const sending = one.send(messages(5_000, { from: 500 }), never());
    await service.kill();
    const sent = [...early, ...(await sending)];
    await service.restart();
    const unanswered = messages(5_500).filter((_, i) => sent[i]?.kind !== "acknowledged");
    const again = await eventually(async () => {
      const answer = await one.send(unanswered, never());
      return answer.every(({ kind }) => kind === "acknowledged");
    });
    expect(again).toBe(true);
    const last = await receiver(name);
    expect(namesOf(await take(last, 5_500))).toEqual(idsOf(messages(5_500)));
    await expectNothing(last);
  });

  test("the brokers of the guide are what it says, and show no password", () => {
    expect([guide.out.where, guide.inward.where]).toEqual(Array(2).fill("nats.internal:4222 stream FACTS"));
  });

  test("options that do not go together are refused", async () => {
    const url = "nats://127.0.0.1";
    expect(() => nats({ url, stream: "a.b" })).toThrow("nats.stream must be a name");
    expect(() => nats({ url, stream: "a", tls: {} })).toThrow("Write tls://");
    expect(() => nats({ url: "nats://u:p@127.0.0.1", stream: "a", token: "t" })).toThrow("Give one of them");
    expect(() => nats({ url, stream: "a", subject: "a..b" })).toThrow("nats.subject cannot be");
    await expect(nats({ url, stream: "a" }).openSender(opening("x"))).rejects.toThrow("nats.subject is missing");
    await expect(nats({ url, stream: "a", subject: "a.*" }).openSender(opening("x"))).rejects.toThrow(
      "it has a wildcard",
    );
    await expect(nats({ url, stream: "a", subject: () => "a" }).openReceiver(opening("x"))).rejects.toThrow(
      "is a function",
    );
  });
});

brokerConformance({
  name: "NATS JetStream",
  features: natsFeatures,
  service: () => startService("nats", { settings: { max_payload: "400KB" } }),
  make: ({ url, destination, timeoutMs }) =>
    nats({ url, stream: destination, subject: `${destination}.placed`, timeoutMs }),
  prepare: makeStream,
  unreadable: unreadable("nats"),
  headers: "one line",
  tellsUnsent: true,
  tooLargeBytes: 500_000,
});

brokerDoors({
  name: "NATS JetStream",
  schemes: ["nats", "tls"],
  certificate,
  plain: (options) => startService("nats", options),
  tls: async (tls) => (await startService("nats", { tls })).url,
  prepare: (url, ca) => makeStream({ url, destination: "door" }, ca),
  make: (url, tls) => nats({ url, stream: "door", subject: "door.placed", ...(tls && { tls }) }),
  upgrades: true,
});

twoServices({
  name: "NATS JetStream",
  service: () => startService("nats"),
  way: (url, stream) => {
    const options = { url, stream, subject: `${stream}.all`, timeoutMs: 10_000 };
    return { kind: "nats", options, reading: { ackWaitMs: 3_000 } };
  },
  prepare: async (url, destination) => makeStream({ url, destination }),
});
