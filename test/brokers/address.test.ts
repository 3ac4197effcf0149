/** What an address that cannot be used is told: the reason that leads to the mend, and nothing of the address. */
import { expect, test } from "vitest";
import { readAddress } from "../../src/brokers/address.js";
import { kafka } from "../../src/brokers/kafka/index.js";
import { mqtt } from "../../src/brokers/mqtt/index.js";
import { nats } from "../../src/brokers/nats/index.js";
import { rabbitmq } from "../../src/brokers/rabbitmq/index.js";
import { redis } from "../../src/brokers/redis/index.js";
import { sqs } from "../../src/brokers/sqs/index.js";
import { newWebhookSecret, webhook } from "../../src/brokers/webhooks/index.js";
import { thrown } from "../core/thrown.js";

const secret = "hunter2";
const range = /port out of range: ports go from 1 to 65535/;
const encode = /percent-encoded/;
const noScheme = /does not begin with a scheme and :\/\//;
const noHost = /names no host/;

const unusable: readonly (readonly [given: string, reason: RegExp])[] = [
  ["", /is empty/],
  ["  ", /is empty/],
  ["hunter2", noScheme],
  ["hunter2:6379", noScheme],
  ["127.0.0.1:6379", noScheme],
  ["//hunter2:6379", noScheme],
  ["redis:hunter2", noScheme],
  ["redis://u:hunter2@h:99999", range],
  ["redis://u:hunter2@h:65536", range],
  ["redis://u:hunter2@h:0", range],
  ["redis://[::1]:99999", range],
  ["redis://u:hunter2@h:123456789012345678901234567890", range],
  ["redis://u:hunter2/w@h:1", encode],
  ["redis://u:99999/hunter2@h:1", encode],
  ["redis://u:p#hunter2@h", encode],
  ["redis://u:p?hunter2@h", encode],
  ["redis://u:hunter2%@h:1", encode],
  ["redis://h:hunter2", /a port that is no number, or .*percent-encoded/],
  ["redis://", noHost],
  ["redis:///", noHost],
  ["redis://:6379", noHost],
  ["redis://u:hunter2@", noHost],
  ["redis://u:hunter2@:1", noHost],
  ["redis://ho st:1", /a space in its host/],
  ["redis://u:hunter2@a:1,b:2", /names several hosts/],
  ["redis://a,hunter2", /names several hosts/],
  ["redis://::1:6379", /IPv6 address stands in \[ and \]/],
  ["redis://[::1", /IPv6 address stands in \[ and \]/],
  ["redis://[hunter2]:1", /host that cannot be read/],
  ["redis://h<hunter2>:1", /host that cannot be read/],
  ["amqp://u:hunter2@h", /the scheme "amqp"; known are redis, rediss/],
  ["redis://u:hunter2@h/2", /more than a host, a port and who connects/],
];

test.each(unusable)("%j is told why, how it is written, and nothing of it", (given, reason) => {
  const error = thrown(() => readAddress(given, "redis.url", { redis: 6_379, rediss: 6_379 }));
  expect(error).toMatchObject({ code: "PH_BROKER_ADDRESS" });
  expect(error.message).toMatch(reason);
  expect(error.message).toMatch(/^redis\.url .*\. Write it as redis:\/\/user:password@host:6379\.$/);
  expect(error.message).not.toContain(secret);
  if (reason === range) expect(error.message).not.toMatch(encode);
});

test("the lowest and the highest port, none, and white space around it are fine", () => {
  const of = (given: string) => readAddress(given, "redis.url", { redis: 6_379 }).port;
  expect([of("redis://h:1"), of("redis://h:65535"), of("redis://h"), of("redis://h:"), of(" redis://h:7\n")]).toEqual([
    1, 65_535, 6_379, 6_379, 7,
  ]);
});

test("brokers that read more than an address say the same", () => {
  const post = (url: string) => thrown(() => webhook({ url, secrets: [newWebhookSecret()] })).message;
  expect(post("https://u:hunter2@partner.example:99999/hunter2")).toMatch(range);
  expect(post("https://partner.example:0/hunter2")).toMatch(range);
  expect(post("partner.example/hunter2")).toMatch(noScheme);
  expect(post("localhost:3000/hunter2")).toMatch(noScheme);
  expect(post("https:///")).toMatch(noHost);
  expect(post("https://a b/hunter2")).toMatch(/a space in its host/);
  const queue = (url: string) => thrown(() => rabbitmq({ url, queue: "orders" })).message;
  expect(queue("amqp://u:hunter2@h:99999/shop")).toMatch(range);
  expect(queue("hunter2:5672")).toMatch(noScheme);
  for (const url of ["https://partner.example:99999/hunter2", "hunter2"]) expect(post(url)).not.toContain(secret);
});

/** Made badly: the error is thrown before there is a relay or an intake that could be named. */
const bad: readonly (readonly [make: () => unknown, says: RegExp])[] = [
  [() => nats({ url: "nats://h", stream: "s", subject: "a..b" }), /^nats\.subject .*"a\.\.b": it is empty, or a part/],
  [() => nats({ url: "nats://h", stream: "a.b" }), /^nats\.stream .*"a\.b"/],
  [() => nats({ url: "http://h", stream: "s" }), /^nats\.url .*"http".* nats, tls/],
  [() => mqtt({ url: "mqtt://h", topic: "a/#/b" }), /^mqtt\.topic .*"a\/#\/b"/],
  [() => sqs({ queue: "a b" }), /^sqs\.queue .*"a b"/],
  [() => kafka({ url: "kafka://h", topic: "a b" }), /^kafka\.topic .*"a b"/],
  [() => rabbitmq({ url: "amqp://h", queue: "q", timeoutMs: 1 }), /^rabbitmq\.timeoutMs .*the number 1\./],
  [() => redis({ url: "redis://h", stream: "s", database: -1 }), /^redis\.database .*the number -1/],
  [() => webhook({ url: "ftp://partner.example", sign: "none" }), /^webhook\(\)\.url .*ftp:/],
  [
    () => webhook({ url: "http://partner.example", sign: "none" }),
    /^webhook\(\)\.url: http:\/\/partner\.example is posted/,
  ],
];

// Some said neither which function had been called nor what it was given.
test.each(bad)(
  "an option that a function of a broker refuses is named with the function and its value: %#",
  (make, says) => {
    expect(thrown(make).message).toMatch(says);
  },
);
