/** The entry `posthorn/mqtt`: an MQTT broker as the end of a relay or the beginning of an intake. Its client is the package mqtt. */

import { randomBytes } from "node:crypto";
import { ConfigurationError } from "../../core/errors.js";
import { hostAndPort } from "../address.js";
import type { Broker, OpenOptions } from "../broker.js";
import { oneWayOf } from "../one-way.js";
import { readerName } from "../party.js";
import { patienceOf } from "../patience.js";
import { mqttFeatures } from "./features.js";
import { type MqttOptions, readSettings, type Settings } from "./options.js";
import { mqttStyle } from "./packet.js";
import { openMqttReceiver } from "./receiver.js";
import { openMqttSender } from "./sender.js";
import { topicProblem } from "./text.js";

export { mqttFeatures } from "./features.js";
export type { MqttOptions, MqttTls, Topic } from "./options.js";

/**
 * An MQTT broker, version 5 or 3.1.1, by TCP or TLS; everything at QoS 1.
 *
 * Delivery: a message counts as sent when the broker has acknowledged it, and as received when the intake has stored it. A broker keeps what it has
 * acknowledged as well as it is set up to, and only for those who had subscribed before.
 * Order: within one topic, in the order in which it was sent.
 * Duplicates: MQTT does not find them; the CloudEvent carries the id by which an intake does.
 * Errors: `ConfigurationError` for options, at once. Nothing is loaded or opened before it is used.
 * Limits: what the broker announces, the largest packet and how many are on their way. No header has a control character.
 */
export function mqtt(options: MqttOptions): Broker {
  const settings = readSettings(options);
  const { where, topic, version, clientId, address } = settings;
  return {
    kind: "mqtt",
    where,
    features: version === 5 ? mqttFeatures : { ...mqttFeatures, mode: "structured" },
    style: mqttStyle,
    ...patienceOf(options),
    oneWay: oneWayOf("mqtt", options, { relay: ["maxPacketBytes"], intake: ["sessionMs"] }),
    openSender: async (open) => {
      refuseForSender(settings, open);
      return openMqttSender(settings, clientId ?? `posthorn-${open.name}-${randomBytes(6).toString("hex")}`, open);
    },
    openReceiver: async (open) => {
      if (typeof topic !== "string") {
        return refuse("mqtt.topic is a function; an intake subscribes to one topic, which may have wildcards.");
      }
      return openMqttReceiver(settings, topic, clientId ?? readerName(open), open);
    },
    readsBy: (party) => `the session of the client "${clientId ?? readerName(party)}" at ${hostAndPort(address)}`,
  };
}

function refuseForSender({ topic, version }: Settings, { mode }: OpenOptions): void {
  const problem = typeof topic === "string" ? topicProblem(topic, { wildcards: false }) : undefined;
  if (problem !== undefined) refuse(`mqtt.topic cannot be published to: ${problem}.`);
  if (version === 4 && mode === "binary") {
    refuse('The mode "binary" needs MQTT 5: version 3.1.1 has no properties for attributes. Use "structured".');
  }
}

function refuse(message: string): never {
  throw new ConfigurationError("PH_OPTION_INVALID", message, { path: "mqtt" });
}
