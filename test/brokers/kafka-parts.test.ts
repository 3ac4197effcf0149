/** What of src/brokers/kafka needs no broker: the choice of a partition, positions, records, and options. The rest is in kafka.test.ts. */
import { inspect } from "node:util";
import { expect, test } from "vitest";
import { Held } from "../../src/brokers/kafka/held.js";
import { kafka } from "../../src/brokers/kafka/index.js";
import { murmur2, partitionOf } from "../../src/brokers/kafka/partition.js";
import { readInto } from "../../src/brokers/kafka/records.js";
import { secret } from "./scene.js";

/** From the tests of Kafka's own client, org.apache.kafka.common.utils.UtilsTest. */
test.each([
  ["21", -973932308],
  ["foobar", -790332482],
  ["a-little-bit-long-string", -985981536],
  ["a-little-bit-longer-string", -1486304829],
  ["lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971],
  ["abc", 479470107],
])("the hash of %j is the one of Kafka's own client", (text, hash) => {
  expect(murmur2(Buffer.from(text))).toBe(hash);
});

test("a key has the partition that Kafka's own client gives it, also where its hash is negative", () => {
  expect(partitionOf(Buffer.from("21"), 3)).toBe((-973932308 & 0x7fffffff) % 3);
});

const batch = (
  firstOffset: bigint,
  count: number,
  over: { attributes?: number; producerId?: bigint; key?: Buffer; epoch?: number } = {},
) => ({
  attributes: 0,
  firstOffset,
  lastOffsetDelta: count - 1,
  producerId: 1n,
  partitionLeaderEpoch: over.epoch ?? 0,
  ...over,
  records: Array.from({ length: count }, (_, i) => ({
    offsetDelta: i,
    key: over.key ?? null,
    value: Buffer.from("{}"),
    headers: [],
  })),
});
const marker = (firstOffset: bigint, type: number, producerId: bigint) =>
  batch(firstOffset, 1, { attributes: 0x30, producerId, key: Buffer.from([0, 0, 0, type]) });
const orders = { topic: "orders", topicId: "id-1" };
const positions = (held: Held) => held.give(100).map(({ position }) => position);

test("a batch that began before the position is read from the position on", () => {
  const held = new Held(2, 3n);
  readInto(held, orders, { records: [batch(0n, 5)] });
  expect(positions(held)).toEqual(["orders/2/3@id-1.0", "orders/2/4@id-1.0"]);
  expect(held.position).toBe(5n);
});

test("an offset that is given once more, by a topic made anew or a partition that has lost its end, is another place", () => {
  const places = [orders, { ...orders, topicId: "id-2" }].flatMap((topic) =>
    [0, 1].map((epoch) => {
      const held = new Held(0, 0n);
      readInto(held, topic, { records: [batch(0n, 1, { epoch })] });
      return positions(held)[0];
    }),
  );
  expect(places).toEqual(["orders/0/0@id-1.0", "orders/0/0@id-1.1", "orders/0/0@id-2.0", "orders/0/0@id-2.1"]);
});

test("what was rolled back and the marks of transactions are not seen, and the position moves over them", () => {
  const held = new Held(0, 0n);
  const transactional = { attributes: 0x10 };
  readInto(held, orders, {
    records: [
      batch(0n, 2, { ...transactional, producerId: 7n }),
      batch(2n, 1, { ...transactional, producerId: 8n }),
      marker(3n, 0, 7n),
      batch(4n, 1, { ...transactional, producerId: 7n }),
      marker(5n, 1, 7n),
      marker(6n, 1, 8n),
    ],
    abortedTransactions: [{ producerId: 7n, firstOffset: 0n }],
  });
  expect(positions(held)).toEqual(["orders/0/2@id-1.0", "orders/0/4@id-1.0"]);
  expect(held.position).toBe(7n);
});

test("a position is committed up to the first message that was not acknowledged", () => {
  const held = new Held(0, 10n);
  readInto(held, orders, { records: [batch(10n, 6)] });
  held.give(6);
  held.acknowledge(new Set([10n, 11n]));
  expect(held.commitable).toBe(12n);
  held.acknowledge(new Set([13n, 14n, 15n]));
  expect(held.commitable).toBe(12n);
  held.committed = 12n;
  expect(held.commitable).toBeUndefined();
  held.acknowledge(new Set([12n]));
  expect(held.commitable).toBe(16n);
});

test.each([
  ["a server of another kind", { url: ["kafka://one:1", "kafkas://two:2"] }, "PH_BROKER_ADDRESS"],
  ["another user for another server", { url: ["kafka://a:b@one:1", "kafka://c:d@two:2"] }, "PH_BROKER_ADDRESS"],
  ["an empty list", { url: [] }, "PH_OPTION_INVALID"],
  ["TLS without its scheme", { url: "kafka://one", tls: {} }, "PH_OPTION_INVALID"],
  ["a mechanism without a user", { url: "kafka://one", mechanism: "SCRAM-SHA-512" }, "PH_OPTION_INVALID"],
  ["OAUTHBEARER without a token", { url: "kafka://one", mechanism: "OAUTHBEARER" }, "PH_OPTION_INVALID"],
  ["a token beside another mechanism", { url: "kafka://a:b@one", mechanism: "PLAIN", token: "t" }, "PH_OPTION_INVALID"],
] as const)("%s is refused", (_, options, code) => {
  expect(() => kafka({ topic: "orders", ...options })).toThrow(expect.objectContaining({ code }));
});

test("a receiver needs a group, and where it is tells all servers and no password", async () => {
  const broker = kafka({ url: [`kafka://u:${secret}@one:1`, `kafka://u:${secret}@two`], topic: "orders" });
  expect(broker.where).toBe("one:1,two:9092/orders");
  const open = { name: "orders", service: "shop", signal: AbortSignal.abort(), onTrouble: () => {} };
  const error: unknown = await broker.openReceiver(open).then(
    () => undefined,
    (reason: unknown) => reason,
  );
  expect(error).toMatchObject({ code: "PH_OPTION_MISSING" });
  expect(inspect(error)).not.toContain(secret);
});

// It was told as an outage: the broker was asked again and again for what it never has.
test("a topic that Kafka never allows is refused where it is written", () => {
  for (const topic of ["", ".", "..", "a b", "orders/eu", "straße", "x".repeat(250)]) {
    expect(() => kafka({ url: "kafka://127.0.0.1", topic })).toThrow("kafka.topic must be 1 to 249 letters");
  }
  for (const topic of ["orders", "a.b_c-D9", "...", "x".repeat(249)]) kafka({ url: "kafka://127.0.0.1", topic });
});
