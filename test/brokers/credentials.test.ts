/** What is given to connect with is used, or refused: nothing of it is passed over in silence. */
import { kafka } from "posthorn/kafka";
import { nats } from "posthorn/nats";
import { redis } from "posthorn/redis";
import { sqs } from "posthorn/sqs";
import { expect, test } from "vitest";

const credentials = { accessKeyId: "id", secretAccessKey: "hunter2" };

test.each([
  [
    "a user of Redis without a password",
    "PH_BROKER_ADDRESS",
    () => redis({ url: "redis://hunter2@host", stream: "s" }),
  ],
  ["half of a key in the URL of SQS", "PH_BROKER_ADDRESS", () => sqs({ queue: "q", url: "http://hunter2@host" })],
  ["the other half of it", "PH_BROKER_ADDRESS", () => sqs({ queue: "q", url: "http://:hunter2@host" })],
  ["two keys for SQS", "PH_OPTION_INVALID", () => sqs({ queue: "q", url: "http://id:hunter2@host", credentials })],
  [
    "a user and a token for Kafka",
    "PH_OPTION_INVALID",
    () => kafka({ url: "kafka://me:hunter2@host", topic: "t", token: "hunter2" }),
  ],
  [
    "a user and a token for NATS",
    "PH_OPTION_INVALID",
    () => nats({ url: "nats://me:hunter2@host", stream: "s", token: "hunter2" }),
  ],
])("%s: refused where it is written, and not shown", (_what, code, make) => {
  expect(make).toThrow(expect.objectContaining({ code, message: expect.not.stringContaining("hunter2") }));
});

test("a function that names the subject of each event says nothing to an intake, so NATS refuses it there", async () => {
  const broker = nats({ url: "nats://127.0.0.1:1", stream: "s", subject: () => "t" });
  const opening = broker.openReceiver({
    name: "in",
    service: "shop",
    signal: new AbortController().signal,
    onTrouble: () => undefined,
  });
  await expect(opening).rejects.toMatchObject({
    code: "PH_OPTION_INVALID",
    message: expect.stringContaining("nats.subject is a function"),
  });
});
