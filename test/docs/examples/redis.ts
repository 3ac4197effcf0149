/** The code about Redis Streams in docs/guides/brokers.md. */
import { redis } from "posthorn/redis";

export const orders = (url: string) =>
  redis({
    url, // rediss://:password@redis.example
    stream: "orders",
    replicas: 1,
  });

export const shipments = (url: string) =>
  redis({
    url,
    stream: "shipments",
    group: "shop",
  });
