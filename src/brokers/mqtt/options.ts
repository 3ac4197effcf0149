/** The options of `mqtt({ … })`, checked. */
import { ConfigurationError } from "../../core/errors.js";
import { checkOptions, type Fields, type OptionsOf } from "../../core/options.js";
import type { Secrets } from "../../core/secrets.js";
import { quote, show } from "../../core/show.js";
import { type Address, hostAndPort, readAddress, secretsOf } from "../address.js";
import type { CloudEvent } from "../envelope.js";
import { type TlsOptions, tlsFields } from "../tls.js";
import { topicProblem } from "./text.js";

/** A topic, or the function that tells it for each event. */
export type Topic = string | ((event: CloudEvent) => string);

/** For a certificate that Node does not accept by itself, or one of the client's own. One that does not fit is an error always. */
export type MqttTls = TlsOptions;

export const mqttFields = {
  url: {
    type: "string",
    doc: "`mqtt://user:password@host:1883`, or `mqtts://` for TLS; user, password and port may be left out",
    maxLength: 2_000,
    required: true,
    secret: true,
  },
  topic: {
    type: "custom",
    doc: "What a relay publishes to: a topic, or a function that tells it for each event; what an intake subscribes to: a topic, which may have the wildcards `+` and `#`",
    words: "a topic, or a function of the event",
    required: true,
    check: checkTopic,
  },
  version: {
    type: "choice",
    doc: "The version of MQTT; 3.1.1 has no properties, so each event is one JSON body, and a broker cannot say that it refuses a message",
    values: ["5", "3.1.1"],
    default: "5",
  },
  clientId: {
    type: "string",
    doc: "The name by which the broker knows the connection, and an intake its session; of two connections with one name the broker closes the older, so it is not for a relay that runs in several processes. Without it: `posthorn-<intake>@<service>`, and a name of its own for each connection of a relay",
    maxLength: 256,
  },
  sessionMs: {
    type: "duration",
    doc: "How long the broker keeps for an intake what comes while it is not connected; too short and an outage loses messages, too long and the broker fills up for an intake that was removed. With version 3.1.1 the broker decides",
    min: 1_000,
    max: 31_536_000_000,
    default: 604_800_000,
  },
  maxInFlight: {
    type: "integer",
    doc: "Messages on their way without an acknowledgement, in each direction; too few and each waits for the ones before it, too many and a lost connection repeats more. The broker may allow fewer",
    min: 1,
    max: 65_535,
    default: 1_000,
  },
  maxPacketBytes: {
    type: "integer",
    doc: "The largest packet that is sent, in bytes; a message that makes a larger one is refused. Without it: what the broker announces, which it can do with version 5",
    min: 256,
    max: 268_435_460,
  },
  timeoutMs: {
    type: "duration",
    doc: "How long the broker may say nothing while something waits for its answer; too short and a slow broker counts as away, too long and a dead connection goes unnoticed for so long",
    min: 100,
    max: 600_000,
    default: 15_000,
  },
  tls: {
    type: "object",
    doc: "For `mqtts://`, beside what Node knows by itself. A certificate that does not fit is an error always",
    fields: tlsFields,
  },
} as const satisfies Fields;

export interface MqttOptions {
  readonly url: string;
  readonly topic: Topic;
  readonly version?: "5" | "3.1.1";
  readonly clientId?: string;
  readonly sessionMs?: number;
  readonly maxInFlight?: number;
  readonly maxPacketBytes?: number;
  readonly timeoutMs?: number;
  readonly tls?: MqttTls;
}

/** What the rest works with. */
export interface Settings extends Omit<OptionsOf<typeof mqttFields>, "url" | "version"> {
  readonly address: Address;
  readonly version: 4 | 5;
  /** Host, port and topic. */
  readonly where: string;
  /** What no error may hold. */
  readonly secrets: Secrets;
}

export function readSettings(options: MqttOptions): Settings {
  const { url, version, ...others } = checkOptions(options, mqttFields, "mqtt");
  const address = readAddress(url, "mqtt.url", { mqtt: 1_883, mqtts: 8_883 });
  if (others.tls !== undefined && address.scheme !== "mqtts") {
    const message = "mqtt.tls is for an address that begins with mqtts://.";
    throw new ConfigurationError("PH_OPTION_INVALID", message, { path: "mqtt.tls" });
  }
  const topic = typeof others.topic === "string" ? others.topic : "(a topic for each event)";
  return {
    ...others,
    address,
    version: version === "5" ? 5 : 4,
    where: `${hostAndPort(address)}/${topic}`,
    secrets: secretsOf(address, others.tls),
  };
}

function checkTopic(value: unknown, path: string): Topic {
  if (typeof value === "function") return (event) => String(value(event));
  const problem = typeof value === "string" ? topicProblem(value, { wildcards: true }) : `it is ${show(value)}`;
  if (typeof value === "string" && problem === undefined) return value;
  const got = typeof value === "string" ? `, not ${quote(value)}` : "";
  const message = `${path} must be a topic, or a function that tells it for each event${got}; ${problem}.`;
  throw new ConfigurationError("PH_OPTION_INVALID", message, { path });
}
