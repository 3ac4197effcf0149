/**
 * Goal: what src/brokers/sqs promises holds on a server that speaks the protocol of SQS.
 * Method: the conformance suite on both kinds of queue, and what only SQS has: attributes, limits of a batch, messages that are hidden for a time.
 */
import { CreateQueueCommand, SQSClient } from "@aws-sdk/client-sqs";
import { sqs, sqsFeatures, sqsFifoFeatures } from "../../src/brokers/sqs/index.js";
import { startService } from "../support/services.js";
import { brokerConformance } from "./conformance.js";
import { unreadable } from "./unreadable.js";

async function makeQueue(url: string, queue: string): Promise<void> {
  const { host, username, password } = new URL(url);
  const credentials = { accessKeyId: username, secretAccessKey: password };
  const client = new SQSClient({ endpoint: `http://${host}`, region: "elasticmq", credentials });
  const attributes = queue.endsWith(".fifo") ? { FifoQueue: "true" } : {};
  try {
    await client.send(new CreateQueueCommand({ QueueName: queue, Attributes: attributes }));
  } finally {
    client.destroy();
  }
}

for (const [name, suffix, features] of [
  ["SQS, a standard queue, ElasticMQ", "", sqsFeatures],
  ["SQS, a FIFO queue, ElasticMQ", ".fifo", sqsFifoFeatures],
] as const) {
  brokerConformance({
    name,
    features,
    modes: ["structured"],
    service: () => startService("elasticmq"),
    make: ({ url, destination, timeoutMs }) =>
      sqs({ url, queue: `${destination}${suffix}`, timeoutMs, visibilityMs: 5_000, pollMs: 1_000 }),
    prepare: ({ url, destination }) => makeQueue(url, `${destination}${suffix}`),
    unreadable: unreadable("http"),
    headers: "any",
    tooLargeBytes: 300_000,
    share: 0.1,
  });
}
