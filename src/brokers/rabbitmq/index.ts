/** RabbitMQ, by AMQP 0-9-1. */
import type { Broker, BrokerFeatures } from "../broker.js";
import { style } from "./message.js";
import { checkRabbitMq, type RabbitMqOptions } from "./options.js";
import { openRabbitMqReceiver } from "./receiver.js";
import { openRabbitMqSender } from "./sender.js";

export type { RabbitMqOptions };

const features: BrokerFeatures = {
  acknowledges: true,
  sends: true,
  receives: true,
  order: "destination",
  deduplicates: false,
  checksDestination: true,
  stablePosition: false,
  mode: "binary",
};

/**
 * RabbitMQ as the end of a relay or the beginning of an intake. The package `rabbitmq-client` is loaded when it is used.
 *
 * Delivery: every message is persistent and mandatory, and is confirmed by the broker. One that no queue is bound for is refused.
 * Order: of one queue with one consumer. A queue that is full and rejects what is sent to it (`reject-publish`) may take a later message of a batch.
 * Duplicates: after a lost connection messages are sent again, with the same message id.
 * Errors: `ConfigurationError`.
 */
export function rabbitmq(options: RabbitMqOptions): Broker {
  const settings = checkRabbitMq(options);
  return {
    kind: "rabbitmq",
    where: `${settings.url.where}${destinationOf(settings)}`,
    features,
    style,
    openSender: (open) => openRabbitMqSender(settings, open),
    openReceiver: (open) => openRabbitMqReceiver(settings, open),
  };
}

function destinationOf({ exchange, queue }: Pick<RabbitMqOptions, "exchange" | "queue">): string {
  const names = [
    exchange === undefined ? [] : [typeof exchange === "string" ? `exchange ${exchange}` : "exchange by event"],
    queue === undefined ? [] : [`queue ${queue}`],
  ].flat();
  return names.length === 0 ? "" : ` (${names.join(", ")})`;
}
