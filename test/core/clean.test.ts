import { describe, expect, it, test } from "vitest";
import { cleaned, reasonOf } from "../../src/core/clean.js";
import { limits } from "../../src/core/limits.js";

const basic = Buffer.from("me:hunter2").toString("base64");

test.each([
  ["amqp://me:hunter2@host:5672/x", "amqp://host:5672/x"],
  ["nats://hunter2@host:4222", "nats://host:4222"],
  ["redis://:hunter2@host and redis://me:hunter2@other", "redis://host and redis://other"],
  ["amqp://me:hun/ter2?#x@host/vhost", "amqp://host/vhost"],
  ["amqp://me:hunter2@more@host/vhost", "amqp://host/vhost"],
  ["amqp%3A%2F%2Fme%3Ahunter2%40host%3A5672", "amqp%3A%2F%2Fhost%3A5672"],
  ["amqp%253A%252F%252Fme%253Ahunter2%2540host", "amqp%253A%252F%252Fhost"],
  ["cannot reach me:hunter2@host:5672", "cannot reach host:5672"],
  ["cannot reach (me:hunter2%40x@[::1]:5672)", "cannot reach ([::1]:5672)"],
  ["login failed for :hunter2@host", "login failed for host"],
  ["GET /hook?access_token=hunter2&x=1", "GET /hook?access_token=***&x=1"],
  ["GET /hook?token=hunter2&sig=hun%2Fter2", "GET /hook?token=***&sig=***"],
  ['{"clientSecret":"hunter2","x":1}', '{"clientSecret":***,"x":1}'],
  ["x-amz-security-token: hunter2", "x-amz-security-token: ***"],
  ["Credential=AKIAHUNTER2HUNTER2X/2026/eu, Signature=abc", "Credential=***, Signature=***"],
  [`authorization: Basic ${basic}`, "authorization: ***"],
  [`I was given Basic ${basic}`, "I was given Basic ***"],
  ["signed by whsec_aHVudGVyMg== and whsk_aHVudGVyMg==", "signed by *** and ***"],
  ["the key ASIAHUNTER2HUNTER2", "the key ***"],
  ["eyJhbGciOiJIUzI1NiJ9.eyJodW50ZXIyIjoxfQ.c2ln is over", "*** is over"],
])("%s loses what looks like a credential", (text, clean) => {
  expect(cleaned(text)).toBe(clean);
});

test.each([
  "Basic authentication is needed",
  "https://host:443/path?mail=me@there.example",
  "http://host:80/a:b@c",
  "no exchange 'orders' in vhost '/'",
  "127.0.0.1:9092/topic@1",
  "host:5672 queue a@b",
  "mail me@there.example at 12:30",
  "the token expired",
])("%s says nothing secret, and is left as it is", (text) => {
  expect(cleaned(text)).toBe(text);
});

describe("what a foreign error says, before it is kept", () => {
  it("has nothing that PostgreSQL cannot store, also where it was cut in the middle of a letter", () => {
    expect(reasonOf(new Error("no\0way \ud83d"))).toBe("no\ufffdway \ufffd");
    const cut = cleaned(`${"x".repeat(limits.errorBytes - 1)}\u{1f4ef}`);
    expect(cut).toHaveLength(limits.errorBytes);
    expect(cut.endsWith("\ufffd")).toBe(true);
  });
});
