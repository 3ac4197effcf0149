/**
 * Goal: whatever the names and values of headers are that a broker gives, they are headers: none is lost, changed, or taken for something that every
 * object has. Method: what each receiver makes of a message as its client gives it; on real brokers they are tested beside it.
 */
import { type Msg, MsgHdrsImpl } from "@nats-io/transport-node";
import type { AsyncMessage } from "rabbitmq-client";
import { describe, expect, test } from "vitest";
import type { Incoming } from "../../src/brokers/broker.js";
import { decode } from "../../src/brokers/envelope.js";
import { Held } from "../../src/brokers/kafka/held.js";
import { readInto } from "../../src/brokers/kafka/records.js";
import { headersIn } from "../../src/brokers/nats/header-block.js";
import { Places } from "../../src/brokers/nats/place.js";
import { incoming as ofRabbitmq } from "../../src/brokers/rabbitmq/message.js";
import { incomingOf as ofRedis, redisStyle } from "../../src/brokers/redis/entry.js";
import { incomingOf as ofSqs } from "../../src/brokers/sqs/message.js";

type Pairs = readonly (readonly [name: string, value: string])[];
const body = Buffer.from('{"n":1}');
const buffers = (pairs: Pairs) => pairs.map(([name, value]) => [Buffer.from(name), Buffer.from(value)] as const);

function ofKafka(headers: readonly (readonly [Buffer, Buffer])[]): Incoming {
  const held = new Held(0, 0n);
  const records = [{ offsetDelta: 0, key: null, value: body, headers }];
  const one = { attributes: 0, firstOffset: 0n, lastOffsetDelta: 0, producerId: 1n, partitionLeaderEpoch: 0, records };
  readInto(held, { topic: "orders", topicId: "id" }, { records: [one] });
  const [incoming] = held.give(1);
  if (incoming === undefined) throw new Error("nothing was read");
  return incoming;
}

function natsHeaders(pairs: Pairs): Incoming["headers"] {
  const block = Buffer.from(`NATS/1.0\r\n${pairs.map(([name, value]) => `${name}: ${value}\r\n`).join("")}\r\n`);
  const message = {
    _msg: { hdr: block.length },
    _rdata: Buffer.concat([block, body]),
    headers: MsgHdrsImpl.decode(block),
  };
  return headersIn(message as unknown as Msg).headers;
}

const receivers: Readonly<Record<string, (pairs: Pairs) => Incoming["headers"]>> = {
  kafka: (pairs) => ofKafka(buffers(pairs)).headers,
  nats: natsHeaders,
  rabbitmq: (pairs) => {
    const message = { headers: Object.fromEntries(pairs) } as unknown as AsyncMessage;
    return ofRabbitmq({ message, body, contentType: undefined }, 1).headers;
  },
  redis: (pairs) => ofRedis({ id: "1-0", fields: buffers([...pairs, ["data", "{}"]]).flat() }, "s").headers,
  "sqs, as attributes": (pairs) => {
    const attributes = pairs.map(([name, value]) => [name, { DataType: "String", StringValue: value }] as const);
    return ofSqs({ MessageAttributes: Object.fromEntries(attributes) }, "q", 1).headers;
  },
};

const odd: Pairs = [
  ["__proto__", "1"],
  ["constructor", "2"],
  ["toString", "3"],
  ["hasownproperty", "4"],
  ["plain", "5"],
];

describe.each(Object.entries(receivers))("%s", (_, read) => {
  test("names that every object has are names of headers, whatever came before them", () => {
    for (const pairs of [odd, odd.toReversed(), odd.slice(0, 1), odd]) {
      const headers = read(pairs);
      const expected = pairs.map(([name, value]) => [name.toLowerCase(), value]);
      expect(Object.entries(headers).sort()).toEqual(expected.sort());
      expect(Object.getPrototypeOf(headers)).toBe(Object.prototype);
    }
  });

  test("letters outside of ASCII arrive as they were sent, and the next message has its own values and names", () => {
    const first: Pairs = [
      ["a", "ä 😀"],
      ["b", "x\u00a0y"],
    ];
    const second: Pairs = [
      ["a", "ü"],
      ["c", "z"],
    ];
    expect([read(first), read(second), read(first)]).toEqual(
      [first, second, first].map((one) => Object.fromEntries(one)),
    );
  });
});

test("an entry of Redis that somebody else wrote with a field called __proto__ has it in its headers and in its payload", () => {
  const fields = buffers([
    ["__proto__", "evil"],
    ["n", "1"],
  ]).flat();
  const { headers, body: all } = ofRedis({ id: "1-0", fields }, "s");
  expect(Object.entries(headers)).toEqual([
    ["__proto__", "evil"],
    ["n", "1"],
  ]);
  expect(Buffer.from(all).toString()).toBe('{"__proto__":"evil","n":"1"}');
});

test("a plain header called __proto__ stays one in the event that is read", () => {
  const fields = buffers([
    ["ce_specversion", "1.0"],
    ["ce_id", "1"],
    ["ce_source", "urn:s"],
    ["ce_type", "T"],
    ["header___proto__", "evil"],
    ["data", "{}"],
  ]).flat();
  const decoded = decode(ofRedis({ id: "1-0", fields }, "s"), redisStyle);
  expect(decoded).toMatchObject({ ok: true, event: { id: "1", extensions: {} } });
  expect(decoded?.ok === true && Object.entries(decoded.event.headers)).toEqual([["__proto__", "evil"]]);
});

test("an extension may be called like what every object has, and is there twice only where it is", () => {
  const event = { "ce-specversion": "1.0", "ce-id": "1", "ce-source": "urn:s", "ce-type": "T", "ce-constructor": "x" };
  const style = { prefix: "ce-", percent: false, alsoReads: ["cloudEvents:"] };
  const read = (headers: Readonly<Record<string, string>>) => decode({ headers, contentType: undefined, body }, style);
  expect(read(event)).toMatchObject({ ok: true, event: { extensions: { constructor: "x" } } });
  expect(read({ ...event, "cloudEvents:constructor": "y" })).toMatchObject({
    problem: expect.stringContaining("twice"),
  });
  expect(read({ ...event, "cloudEvents:id": "2" })).toMatchObject({
    problem: expect.stringContaining("id is there twice"),
  });
  expect(read({ ...event, "cloudEvents:id": "1" })).toMatchObject({ ok: true });
});

test("bytes of a header that are no text are replaced, and hold up nothing", () => {
  const odd = [Buffer.from([0xff, 0x61]), Buffer.from([0xc3, 0x28])] as const;
  expect(ofKafka([odd]).headers).toEqual({ "\ufffda": "\ufffd(" });
  expect(ofRedis({ id: "1-0", fields: [...odd, Buffer.from("data"), body] }, "s").headers).toEqual({
    "\ufffda": "\ufffd(",
  });
});

test("the place of a message of NATS is read from both forms of its reply, and what is no such reply has none", () => {
  const places = new Places();
  const read = { sequence: 17, deliveries: 2, storedAt: "1700000000000000001" };
  for (const begin of ["$JS.ACK.orders.c", "$JS.ACK.hub.hash.orders.c", "$JS.ACK.orders.c", "$JS.ACK.other.d"])
    expect(places.of(`${begin}.2.17.5.1700000000000000001.0`)).toEqual(read);
  expect(places.of("$JS.ACK.hub.hash.orders.c.2.17.5.1700000000000000001.0.token")).toEqual(read);
  for (const reply of [
    "",
    "_INBOX.1.2",
    "$JS.ACK.orders.c.2",
    "$JS.ACK.orders.c.2.x.5.1.0",
    "$JS.FC.orders.c.2.17.5.1.0",
  ])
    expect(places.of(reply)).toBeUndefined();
});
