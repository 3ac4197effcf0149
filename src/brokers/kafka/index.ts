/**
 * Apache Kafka, through @platformatic/kafka.
 *
 * Out: acks=all by an idempotent producer, so that what its client repeats by itself is written once; the key of a message decides its partition.
 * In: a consumer group; a position is committed when what lies before it has been acknowledged, and never earlier.
 */
import type { Broker, BrokerFeatures } from "../broker.js";
import { oneWayOf } from "../one-way.js";
import { patienceOf } from "../patience.js";
import { type KafkaOptions, readSettings } from "./options.js";
import { openKafkaReceiver } from "./receiver.js";
import { openKafkaSender } from "./sender.js";

export type { KafkaOptions, KafkaToken } from "./options.js";

export const kafkaFeatures: BrokerFeatures = {
  acknowledges: true,
  sends: true,
  receives: true,
  order: "key",
  deduplicates: false,
  checksDestination: true,
  stablePosition: true,
  mode: "binary",
};

/**
 * A topic of Kafka, as the end of a relay or the beginning of an intake.
 *
 * Errors: `ConfigurationError`.
 */
export function kafka(options: KafkaOptions): Broker {
  const settings = readSettings(options);
  return {
    kind: "kafka",
    where: settings.where,
    features: kafkaFeatures,
    style: { prefix: "ce_", percent: false },
    ...patienceOf(options),
    oneWay: oneWayOf("kafka", options, {
      relay: ["batchBytes"],
      intake: ["group", "fromBeginning", "sessionTimeoutMs"],
    }),
    openSender: (open) => openKafkaSender(settings, open),
    openReceiver: (open) => openKafkaReceiver(settings, open),
    readsBy: () => (settings.group === undefined ? undefined : `the group "${settings.group}" of ${settings.where}`),
  };
}
