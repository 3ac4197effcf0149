/**
 * Goal: what src/brokers/redis promises holds on a real server.
 * Method: the conformance suite, and what only streams have: groups, a full memory, replicas, messages that were removed.
 */
import { redis, redisFeatures } from "../../src/brokers/redis/index.js";
import { startService } from "../support/services.js";
import { brokerConformance } from "./conformance.js";
import { unreadable } from "./unreadable.js";

brokerConformance({
  name: "Redis Streams",
  features: redisFeatures,
  service: () => startService("redis", { password: "pa:ss w%rd" }),
  make: ({ url, destination, timeoutMs }) =>
    redis({ url, stream: destination, group: `${destination}-group`, timeoutMs }),
  unreadable: unreadable("redis"),
  headers: "any",
});
