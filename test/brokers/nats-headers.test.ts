/** Headers of NATS are read from their block, and say what the client's own reading of it says. */
import { type Msg, MsgHdrsImpl } from "@nats-io/transport-node";
import { describe, expect, test } from "vitest";
import { headersIn } from "../../src/brokers/nats/header-block.js";

const body = Buffer.from('{"n":1}');

/** As the client gives it: the block and the body in one piece. `hidden`: as a client that keeps it to itself. */
function message(block: string, { hidden = false } = {}): Msg {
  const bytes = Buffer.from(block);
  const inside = hidden ? {} : { _msg: { hdr: bytes.length }, _rdata: Buffer.concat([bytes, body]) };
  return {
    ...inside,
    get headers() {
      return MsgHdrsImpl.decode(bytes);
    },
  } as unknown as Msg;
}

const blockOf = (...lines: readonly string[]) => ["NATS/1.0", ...lines, "", ""].join("\r\n");

const blocks: Readonly<Record<string, string>> = {
  event: blockOf("ce-id: 1", "ce-source: urn:shop", "ce-datacontenttype: application/json", "Nats-Msg-Id: 1"),
  "several values": blockOf("a: 1", "a: 2", "A: 3", "Nats-Msg-Id: first", "Nats-Msg-Id: second"),
  "no blanks, and many": blockOf("a:1", "b:   2  ", "c:"),
  "letters outside of ASCII, and colons": blockOf("a: ä: 😀", "b: :"),
  "names that objects have": blockOf("__proto__: 1", "constructor: 2", "toString: 3", "ce-id: 4"),
  "orders to the stream": blockOf("Nats-Rollup: all", "nats-expected-stream: s", "natsy: yes"),
  "a line that is none": blockOf("no colon", "a: 1"),
  "a status": "NATS/1.0 100 Idle Heartbeat\r\nNats-Last-Consumer: 1\r\n\r\n",
  "no header": blockOf(),
};

describe.each(Object.entries(blocks))("%s", (_, block) => {
  test("is read as the client reads it", () => {
    expect(headersIn(message(block))).toEqual(headersIn(message(block, { hidden: true })));
  });
});

test("names are in lower case, values without blanks around them, and what is meant for the stream is left out", () => {
  const block = blockOf("CE-Id: 17 ", "Nats-Rollup: all", "Nats-Msg-Id: m-1", "Content-Type: text/plain");
  expect(headersIn(message(block))).toEqual({ headers: { "ce-id": "17", "content-type": "text/plain" }, id: "m-1" });
});

test("the body is no part of them, and the client is not asked where the block is plain", () => {
  const plain = message(blockOf("a: 1"));
  Object.defineProperty(plain, "headers", {
    get: () => {
      throw new Error("asked");
    },
  });
  expect(headersIn(plain)).toEqual({ headers: { a: "1" }, id: undefined });
});
