/** The entry `posthorn/nats`: a stream of NATS JetStream as the end of a relay or the beginning of an intake. Its clients are the packages of @nats-io. */
import type { Broker, BrokerFeatures, Party } from "../broker.js";
import { oneWayOf } from "../one-way.js";
import { readerName } from "../party.js";
import { patienceOf } from "../patience.js";
import { natsStyle } from "./message.js";
import { type NatsOptions, readSettings, type Settings } from "./options.js";
import { openNatsReceiver } from "./receiver.js";
import { openNatsSender } from "./sender.js";

export type { TlsOptions } from "../tls.js";
export type { NatsOptions, Subject } from "./options.js";

export const natsFeatures: BrokerFeatures = {
  acknowledges: true,
  sends: true,
  receives: true,
  // Of one stream with one reader.
  order: "destination",
  // Within the stream's window of duplicates, two minutes unless it says otherwise.
  deduplicates: true,
  checksDestination: true,
  stablePosition: true,
  mode: "binary",
};

/**
 * A stream of NATS JetStream, by TCP or TLS.
 *
 * Delivery: a message counts as sent when the stream has stored it, and as received when the intake has; the stream confirms the acknowledgement.
 * Order: of one stream with one reader. A full stream that rejects messages (`discard: new`) may take a later one of the same batch.
 * Duplicates: the stream drops what was sent twice with one id within its window of duplicates (`duplicate_window`).
 * Errors: `ConfigurationError` for options, at once. Nothing is loaded or opened before it is used.
 * Limits: what the server and the stream take, headers included. No header has a line break.
 */
export function nats(options: NatsOptions): Broker {
  const settings = readSettings(options);
  return {
    kind: "nats",
    where: settings.where,
    features: natsFeatures,
    style: natsStyle,
    ...patienceOf(options),
    oneWay: oneWayOf("nats", options, { relay: [], intake: ["consumer", "ackWaitMs"] }),
    openSender: (open) => openNatsSender(settings, open),
    openReceiver: (open) => openNatsReceiver(settings, open),
    readsBy: (party) => readsBy(settings, party),
  };
}

function readsBy({ consumer, where, domain }: Settings, party: Party): string {
  return `the consumer "${consumer ?? readerName(party)}" of ${where}${domain === undefined ? "" : `, domain ${domain}`}`;
}
