/** The code about Kafka in docs/guides/brokers.md. */
import { kafka } from "posthorn/kafka";

export const orders = (url: string) =>
  kafka({
    url, // kafkas://shop:password@one.example, or a list of several servers
    topic: "orders",
  });

export const shipments = (url: string) =>
  kafka({
    url,
    topic: "shipments",
    group: "shop",
    fromBeginning: true,
  });
