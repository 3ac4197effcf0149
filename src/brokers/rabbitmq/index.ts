/** The entry `posthorn/rabbitmq`: RabbitMQ, by AMQP 0-9-1, as the end of a relay or the beginning of an intake. Its client is the package rabbitmq-client. */
import { hostAndPort } from "../address.js";
import type { Broker, BrokerFeatures } from "../broker.js";
import { oneWayOf } from "../one-way.js";
import { patienceOf } from "../patience.js";
import { style } from "./message.js";
import { type RabbitMqOptions, readSettings, type Settings } from "./options.js";
import { openRabbitMqReceiver } from "./receiver.js";
import { openRabbitMqSender } from "./sender.js";

export type { TlsOptions } from "../tls.js";
export type { Named, RabbitMqOptions } from "./options.js";

export const rabbitmqFeatures: BrokerFeatures = {
  acknowledges: true,
  sends: true,
  receives: true,
  // Of one queue with one consumer.
  order: "destination",
  deduplicates: false,
  checksDestination: true,
  // Messages in a queue have no number.
  stablePosition: false,
  mode: "binary",
};

/**
 * RabbitMQ, by TCP or TLS.
 *
 * Delivery: every message is persistent and mandatory, and counts as sent when the broker has confirmed it. One that no queue is bound for is refused.
 * Order: of one queue with one consumer. A full queue that rejects messages (`overflow: reject-publish`) may take a later one of the same batch.
 * Duplicates: RabbitMQ does not find them; the message id is the same whenever a message is sent again.
 * Errors: `ConfigurationError` for options, at once. Nothing is loaded or opened before it is used.
 * Limits: names and ids of 255 bytes, headers of 30 kB, and the broker's `max_message_size`.
 */
export function rabbitmq(options: RabbitMqOptions): Broker {
  const settings = readSettings(options);
  return {
    kind: "rabbitmq",
    where: settings.where,
    features: rabbitmqFeatures,
    style,
    ...patienceOf(options),
    oneWay: oneWayOf("rabbitmq", options, {
      relay: ["exchange", "routingKey", "maxMessageBytes"],
      // A relay sends to the queue where no exchange is named.
      intake: options.exchange === undefined ? [] : ["queue"],
    }),
    openSender: (open) => openRabbitMqSender(settings, open),
    openReceiver: (open) => openRabbitMqReceiver(settings, open),
    readsBy: () => readsBy(settings),
  };
}

function readsBy({ queue, vhost, address }: Settings): string | undefined {
  return queue === undefined ? undefined : `the queue "${queue}" of ${hostAndPort(address)}, virtual host ${vhost}`;
}
