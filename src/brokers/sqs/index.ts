/** The entry `posthorn/sqs`: a queue of Amazon SQS as the end of a relay or the beginning of an intake. Its client is the package @aws-sdk/client-sqs. */
import type { Broker, BrokerFeatures } from "../broker.js";
import { oneWayOf } from "../one-way.js";
import { patienceOf } from "../patience.js";
import { sqsStyle } from "./message.js";
import { readSettings, type SqsOptions } from "./options.js";
import { openSqsReceiver } from "./receiver.js";
import { openSqsSender } from "./sender.js";

export type { TlsOptions } from "../tls.js";
export type { SqsCredentials, SqsOptions } from "./options.js";

/** Of a standard queue. */
export const sqsFeatures: BrokerFeatures = {
  acknowledges: true,
  sends: true,
  receives: true,
  order: "none",
  deduplicates: false,
  checksDestination: true,
  stablePosition: true,
  mode: "structured",
};

/** Of a queue whose name ends in `.fifo`. */
export const sqsFifoFeatures: BrokerFeatures = { ...sqsFeatures, order: "key", deduplicates: true };

/**
 * A queue of Amazon SQS, or of a server that speaks its protocol.
 *
 * Delivery: a message counts as sent when SQS has answered for it, and as received when the intake has stored it.
 * Order: none in a standard queue; that of each key in a FIFO queue, unless SQS fails with one message of a batch by itself.
 * Duplicates: a FIFO queue drops what was sent twice with one id within five minutes; a standard queue repeats now and then by itself.
 * Errors: `ConfigurationError` for options, at once. Nothing is loaded or opened before it is used.
 * Limits: the largest message of the queue, 256 KiB or what it is set up to. An event is one JSON body.
 */
export function sqs(options: SqsOptions): Broker {
  const settings = readSettings(options);
  return {
    kind: "sqs",
    where: settings.where,
    features: settings.isFifo ? sqsFifoFeatures : sqsFeatures,
    style: sqsStyle,
    ...patienceOf(options),
    oneWay: oneWayOf("sqs", options, { relay: [], intake: ["visibilityMs", "pollMs"] }),
    openSender: (open) => openSqsSender(settings, open),
    openReceiver: (open) => openSqsReceiver(settings, open),
    readsBy: () =>
      `the queue ${settings.where}${settings.owner === undefined ? "" : ` of the account ${settings.owner}`}`,
  };
}
