/**
 * Goal: what src/brokers/kafka promises holds on a real broker.
 * Method: the conformance suite, and what only Kafka has: partitions, groups that are divided anew, offsets, limits of a topic.
 */
import { randomBytes } from "node:crypto";
import { readFile } from "node:fs/promises";
import { Admin, Producer } from "@platformatic/kafka";
import { afterEach, describe, expect, test } from "vitest";
import type { Incoming, Receiver } from "../../src/brokers/broker.js";
import { kafka, kafkaFeatures } from "../../src/brokers/kafka/index.js";
import { type Certificate, makeCertificate } from "../support/certificate.js";
import { eventually } from "../support/eventually.js";
import { type OwnService, startService } from "../support/services.js";
import { openTcpProxy, type TcpProxy } from "../support/tcp-proxy.js";
import { brokerConformance, type Network } from "./conformance.js";
import { brokerDoors } from "./doors.js";
import { eventOf, expectNothing, idsOf, kinds, messages, never, take } from "./scene.js";
import { twoServices } from "./two-services.js";
import { unreadable } from "./unreadable.js";

interface Kafka extends OwnService {
  readonly network: Network;
}

/** A client connects to the address that the broker tells it: the broker has a second listener, whose address is the proxy's. */
async function startKafka(settings: Readonly<Record<string, string>> = {}): Promise<Kafka> {
  let proxy: TcpProxy | undefined;
  const behind = async (port: number) => {
    proxy = await openTcpProxy(`kafka://127.0.0.1:${port}`);
    return Number(new URL(proxy.through("kafka://127.0.0.1:1")).port);
  };
  const service = await startService("kafka", { settings, behind });
  if (proxy === undefined) throw new Error("the service did not ask for a proxy");
  return { ...service, network: proxy };
}

function baseOf(url: string) {
  const { hostname: host, port } = new URL(url);
  return { clientId: "tests", bootstrapBrokers: [{ host, port: Number(port) }] };
}

async function administering(url: string, act: (admin: Admin) => Promise<unknown>): Promise<void> {
  const admin = new Admin(baseOf(url));
  try {
    await act(admin);
  } finally {
    await admin.close();
  }
}

function makeTopic(url: string, topic: string, partitions = 3, configs: Readonly<Record<string, string>> = {}) {
  const given = Object.entries(configs).map(([name, value]) => ({ name, value }));
  return administering(url, (admin) =>
    admin.createTopics({ topics: [topic], partitions, replicas: 1, configs: given }),
  );
}

/** One for all of this file. The suite ends only what it has started itself. */
let running: Promise<Kafka> | undefined;
function kafkaOnce(): Promise<Kafka> {
  running ??= startKafka();
  return running;
}

brokerConformance({
  name: "Kafka",
  features: kafkaFeatures,
  service: async () => {
    const { remove: _, ...service } = await kafkaOnce();
    return service;
  },
  network: async () => (await kafkaOnce()).network,
  make: ({ url, destination, timeoutMs }) =>
    kafka({
      url,
      topic: destination,
      group: `${destination}-group`,
      timeoutMs,
      sessionTimeoutMs: 3_000,
    }),
  prepare: ({ url, destination }) => makeTopic(url, destination, 3),
  unreadable: unreadable("kafka"),
  headers: "any",
  tooLargeBytes: 1_048_576,
});

twoServices({
  name: "Kafka",
  service: kafkaOnce,
  way: (url, topic) => {
    const reading = { group: `${topic}-group`, fromBeginning: true, sessionTimeoutMs: 3_000 };
    return { kind: "kafka", options: { url, topic, timeoutMs: 10_000 }, reading };
  },
  prepare: (url, topic) => makeTopic(url, topic),
  deaths: 1,
});

describe("Kafka beside the suite", () => {
  test("a batch above the limit of the topic is divided, and only what is larger alone is refused", async () => {
    const { sender, receiver } = await place({ configs: { "max.message.bytes": "10000" }, fromBeginning: true });
    const small = messages(60, { keys: 4 }).map((one) => ({
      ...one,
      event: { ...one.event, data: `"${"x".repeat(1_000)}"` },
    }));
    const large = { event: eventOf(60, { data: `"${"x".repeat(20_000)}"` }), key: "key-0" };
    const sent = await (await sender()).send([...small.slice(0, 20), large, ...small.slice(20)], never());
    expect(sent.filter(({ kind }) => kind === "refused")).toEqual([sent[20]]);
    expect(sent.filter(({ kind }) => kind === "acknowledged")).toHaveLength(60);
    const reader = await receiver();
    expectOrderOfKeys(await take(reader, 60), idsOf(small));
    await expectNothing(reader);
  });

  test("a connection that is cut and comes back is no reason to write anything twice", async () => {
    const { sender, receiver } = await place({ fromBeginning: true, proxied: true });
    const { network } = await kafkaOnce();
    const sending = (await sender()).send(messages(2_000, { keys: 7 }), never());
    network.cut();
    expect(new Set(kinds(await sending))).toEqual(new Set(["acknowledged"]));
    const reader = await receiver();
    expectOrderOfKeys(await take(reader, 2_000), idsOf(messages(2_000)));
    await expectNothing(reader);
  });

  test("a group that is divided while messages are held: each goes on in its order, and nothing is lost or skipped", async () => {
    const { sender, receiver } = await place({ partitions: 4, fromBeginning: true });
    await (await sender()).send(messages(400, { keys: 40 }), never());
    const first = await receiver();
    const held: Incoming[] = [];
    while (held.length < 400) held.push(...(await first.receive({ max: 500, waitMs: 1_000, signal: never() })));
    const second = await receiver();
    // It holds all, and knows by now that half of the partitions are somebody else's.
    await first.acknowledge(held);
    const gone: Incoming[] = [];
    const places = () => new Set(gone.map(partitionIn));
    while (places().size < 2) gone.push(...(await second.receive({ max: 500, waitMs: 1_000, signal: never() })));
    const expected = held.filter((one) => places().has(partitionIn(one)));
    while (gone.length < expected.length)
      gone.push(...(await second.receive({ max: 500, waitMs: 1_000, signal: never() })));
    for (const partition of places()) {
      const of = (all: readonly Incoming[]) =>
        all.filter((one) => partitionIn(one) === partition).map((one) => one.position);
      expect(of(gone)).toEqual(of(held));
    }
    await second.acknowledge(gone);
    await Promise.all([first.close(), second.close()]);
    await expectNothing(await receiver());
  });

  test("what lies between acknowledged messages and was not acknowledged comes again, with all behind it", async () => {
    const { sender, receiver } = await place({ partitions: 1, fromBeginning: true });
    await (await sender()).send(messages(9), never());
    const first = await receiver();
    const some = await taking(first, 4);
    await first.acknowledge(some.slice(0, 2));
    await first.acknowledge(await taking(first, 5));
    await first.close();
    const again = await take(await receiver(), 7);
    expect(again.map((one) => one.headers.ce_id)).toEqual(idsOf(messages(7, { from: 2 })));
  });

  test("a group without a position begins at the end as it was when it was first opened, not when it first had a message", async () => {
    const { sender, receiver } = await place({});
    await (await sender()).send(messages(3, { keys: 3 }), never());
    await (await receiver()).close();
    await (await sender()).send(messages(3, { from: 3, keys: 3 }), never());
    const arrived = await take(await receiver(), 3);
    expect(arrived.map((one) => one.headers.ce_id).sort()).toEqual(idsOf(messages(3, { from: 3 })));
  });

  test("what the topic has thrown away is told, and the oldest that there is comes next", async () => {
    const { url, topic, sender, receiver, trouble } = await place({ partitions: 1, fromBeginning: true });
    await (await sender()).send(messages(10), never());
    const first = await receiver();
    await first.acknowledge((await taking(first, 10)).slice(0, 2));
    await first.close();
    const topics = [{ name: topic, partitions: [{ partition: 0, offset: 6n }] }];
    await administering(url, (admin) => admin.deleteRecords({ topics }));
    const arrived = await take(await receiver(), 4);
    expect(arrived.map((one) => one.headers.ce_id)).toEqual(idsOf(messages(4, { from: 6 })));
    expect(trouble).toEqual([expect.objectContaining({ message: expect.stringContaining("no longer has offset 2") })]);
  });

  test("a topic that was made anew under a reader is read from its beginning, and its offsets are other places", async () => {
    const { url, topic, sender, receiver } = await place({ partitions: 1, fromBeginning: true });
    await (await sender()).send(messages(4), never());
    let reader = await receiver();
    const before = await taking(reader, 4);
    await reader.acknowledge(before);
    await administering(url, (admin) => admin.deleteTopics({ topics: [topic] }));
    // It is gone a moment later.
    await eventually(() =>
      makeTopic(url, topic, 1).then(
        () => true,
        () => false,
      ),
    );
    await (await sender()).send(messages(6, { from: 4 }), never());
    const after: Incoming[] = [];
    while (after.length < 6) {
      // Where it met the moment without a topic it is lost, and an intake opens it again.
      const some = await reader.receive({ max: 6, waitMs: 1_000, signal: never() }).catch(() => undefined);
      if (some === undefined) await reader.close();
      if (some === undefined) reader = await eventually(() => receiver().catch(() => undefined));
      after.push(...(some ?? []));
    }
    expect(after.map((one) => one.headers.ce_id)).toEqual(idsOf(messages(6, { from: 4 })));
    const places = [...before, ...after].map(({ position }) => position);
    expect(new Set(places).size).toBe(10);
    expect(places.map((one) => one?.split("@")[0])).toEqual(
      [...[0, 1, 2, 3], ...[0, 1, 2, 3, 4, 5]].map((n) => `${topic}/0/${n}`),
    );
  });

  test("what a transaction of somebody else has rolled back is not seen", async () => {
    const { url, topic, sender, receiver } = await place({ partitions: 1, fromBeginning: true });
    const producer = new Producer({ ...baseOf(url), idempotent: true, transactionalId: topic });
    for (const end of ["abort", "commit"] as const) {
      const transaction = await producer.beginTransaction();
      await transaction.send({ messages: [{ topic, partition: 0, value: Buffer.from(end) }] });
      await transaction[end]();
    }
    await producer.close();
    await (await sender()).send(messages(1), never());
    const arrived = await take(await receiver(), 2);
    expect(arrived.map(({ body }) => Buffer.from(body).toString())).toEqual(["commit", messages(1)[0]?.event.data]);
  });
});

brokerDoors({
  name: "Kafka",
  schemes: ["kafka", "kafkas"],
  certificate: makeCertificate(),
  plain: (options) => locked(options),
  tls: async (tls) => (await locked({ tls })).url,
  make: (url, tls) => kafka({ url, topic: "door", group: "door", ...(tls && { tls }) }),
  hangsUp: true,
});

interface Lock {
  readonly port?: number;
  readonly password?: string;
  readonly tls?: Certificate;
}

/** A broker whose second listener wants a password, and TLS where there is a certificate. Its own address is that of this listener. */
async function locked({ port, password = "pa:ss w%rd", tls }: Lock = {}): Promise<OwnService> {
  const map = `PLAINTEXT:PLAINTEXT,PROXIED:${tls ? "SASL_SSL" : "SASL_PLAINTEXT"},CONTROLLER:PLAINTEXT`;
  const listener = "listener.name.proxied";
  const inOneLine = async (file: string) => (await readFile(file, "utf8")).trim().replaceAll("\n", "\\n");
  const settings = {
    "listener.security.protocol.map": map,
    [`${listener}.sasl.enabled.mechanisms`]: "PLAIN",
    [`${listener}.plain.sasl.jaas.config`]: `org.apache.kafka.common.security.plain.PlainLoginModule required user_posthorn="${password}";`,
    ...(tls && {
      [`${listener}.ssl.keystore.type`]: "PEM",
      [`${listener}.ssl.keystore.key`]: await inOneLine(tls.key),
      [`${listener}.ssl.keystore.certificate.chain`]: await inOneLine(tls.cert),
    }),
  };
  const service = await startService("kafka", { settings, ...(port !== undefined && { proxiedPort: port }) });
  await makeTopic(service.url, "door", 1);
  const { proxied } = service as OwnService & { readonly proxied: string };
  const url = proxied.replace("//", `//posthorn:${encodeURIComponent(password)}@`);
  return { ...service, url, port: Number(new URL(url).port) };
}

/** What each test has opened. */
const opened: { close(): Promise<void> }[] = [];
afterEach(async () => {
  await Promise.all(opened.splice(0).map((one) => one.close()));
});

interface PlaceOptions {
  readonly partitions?: number;
  readonly configs?: Readonly<Record<string, string>>;
  readonly fromBeginning?: boolean;
  readonly proxied?: boolean;
}

/** A topic of its own, and what sends to it and receives from it. */
async function place({ partitions = 3, configs = {}, fromBeginning = false, proxied = false }: PlaceOptions) {
  const { url, network } = await kafkaOnce();
  // The suite closes it at its end.
  if (proxied) await network.accept();
  const topic = `beside-${randomBytes(8).toString("hex")}`;
  await makeTopic(url, topic, partitions, configs);
  const trouble: unknown[] = [];
  const address = proxied ? network.through(url) : url;
  const broker = kafka({ url: address, topic, group: `${topic}-group`, fromBeginning, sessionTimeoutMs: 3_000 });
  const options = {
    name: "beside",
    service: "shop",
    signal: never(),
    onTrouble: (error: unknown) => void trouble.push(error),
  };
  return {
    url,
    topic,
    trouble,
    sender: () => broker.openSender(options),
    receiver: () => broker.openReceiver(options),
  };
}

async function taking(receiver: Receiver, count: number): Promise<readonly Incoming[]> {
  const taken: Incoming[] = [];
  while (taken.length < count) {
    taken.push(...(await receiver.receive({ max: count - taken.length, waitMs: 1_000, signal: never() })));
  }
  return taken;
}

function partitionIn({ position = "" }: Incoming): string | undefined {
  return position.split("/")[1];
}

/** Each once, and those of one key in the order of their numbers. */
function expectOrderOfKeys(arrived: readonly Incoming[], ids: readonly string[]): void {
  const idOf = (one: Incoming) => one.headers.ce_id ?? "";
  expect(arrived.map(idOf).sort()).toEqual([...ids].sort());
  for (const key of new Set(arrived.map((one) => one.key))) {
    const of = arrived.filter((one) => one.key === key).map(idOf);
    expect(of).toEqual(ids.filter((id) => of.includes(id)));
  }
}
