/** The entry `posthorn/redis`: a stream of Redis as the end of a relay or the beginning of an intake. Its client is the package ioredis. */
import type { Broker, BrokerFeatures } from "../broker.js";
import { oneWayOf } from "../one-way.js";
import { patienceOf } from "../patience.js";
import { redisStyle } from "./entry.js";
import { type RedisOptions, readSettings, type Settings } from "./options.js";
import { openRedisReceiver } from "./receiver.js";
import { openRedisSender } from "./sender.js";

export type { TlsOptions } from "../tls.js";
export type { RedisOptions } from "./options.js";

export const redisFeatures: BrokerFeatures = {
  acknowledges: true,
  sends: true,
  receives: true,
  order: "destination",
  deduplicates: false,
  checksDestination: false,
  stablePosition: true,
  mode: "binary",
};

/**
 * A stream of Redis 6.2 or newer, or of a server that speaks its language.
 *
 * Delivery: a message counts as sent when Redis has answered, with `replicas` when so many of them have it. What an answer is worth after a crash of Redis
 * is a matter of its `appendfsync`: with `everysec` it can lose the last second. As received it counts when the intake has stored it.
 * Order: that of the stream.
 * Duplicates: Redis does not find them; the CloudEvent carries the id by which an intake does.
 * Errors: `ConfigurationError` for options, at once. Nothing is loaded or opened before it is used.
 */
export function redis(options: RedisOptions): Broker {
  const settings = readSettings(options);
  return {
    kind: "redis",
    where: settings.where,
    features: redisFeatures,
    style: redisStyle,
    ...patienceOf(options),
    oneWay: oneWayOf("redis", options, {
      relay: ["maxLength", "replicas"],
      intake: ["group", "fromBeginning", "idleMs"],
    }),
    openSender: (open) => openRedisSender(settings, open),
    openReceiver: (open) => openRedisReceiver(settings, open),
    readsBy: () => readsBy(settings),
  };
}

function readsBy({ group, where, database }: Settings): string | undefined {
  return group === undefined ? undefined : `the group "${group}" of ${where}, database ${database}`;
}
