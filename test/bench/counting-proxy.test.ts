import { Client } from "pg";
import { afterEach, beforeEach, expect, test } from "vitest";
import { type CountingProxy, MessageReader, openCountingProxy } from "../../bench/counting-proxy.js";
import { adminUrl } from "../support/server.js";

let proxy: CountingProxy;
let client: Client;
beforeEach(async () => {
  proxy = await openCountingProxy(await adminUrl());
  client = new Client({ connectionString: proxy.url });
  client.on("error", () => undefined);
  await client.connect();
});
afterEach(async () => {
  await client.end();
  await proxy.close();
});

test("the proxy counts every statement that ends: of the simple and the extended protocol, several in one message, empty ones, failed ones", async () => {
  expect(proxy.statements()).toBe(0);
  await client.query("select 1");
  expect(proxy.statements()).toBe(1);
  await client.query("select $1::int", [1]);
  expect(proxy.statements()).toBe(2);
  await client.query("begin; select 1; commit");
  expect(proxy.statements()).toBe(5);
  await client.query("");
  expect(proxy.statements()).toBe(6);
  await expect(client.query("select 1 / 0")).rejects.toThrow("division by zero");
  expect(proxy.statements()).toBe(7);
});

test("a statement with many rows counts once, whatever the pieces in which its answer arrives", async () => {
  await client.query("select repeat('C', 10000) from generate_series(1, 500)");
  expect(proxy.statements()).toBe(1);
});

test("the types of messages are read right wherever the stream is cut", () => {
  const message = (type: string, body: string) => {
    const head = Buffer.alloc(5);
    head.write(type);
    head.writeInt32BE(4 + body.length, 1);
    return Buffer.concat([head, Buffer.from(body)]);
  };
  const stream = Buffer.concat([message("C", "SELECT 1\0"), message("Z", "I"), message("n", ""), message("E", "CCC")]);
  for (const size of [1, 2, 3, 5, 7, stream.length]) {
    const types: string[] = [];
    const reader = new MessageReader((type) => types.push(type));
    for (let at = 0; at < stream.length; at += size) reader.read(stream.subarray(at, at + size));
    expect(types, `pieces of ${size}`).toEqual(["C", "Z", "n", "E"]);
  }
});
