/** The code about SQS in docs/guides/brokers.md. */
import { minutes } from "posthorn";
import { sqs } from "posthorn/sqs";

export const orders = () => sqs({ queue: "orders.fifo", region: "eu-central-1" });

export const shipments = (url: string) =>
  sqs({
    queue: "shipments",
    url, // http://key:secret@127.0.0.1:9324
    visibilityMs: minutes(2),
  });
