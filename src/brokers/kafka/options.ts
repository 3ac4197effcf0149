/** The options of `kafka({ … })`, checked. */
import { ConfigurationError } from "../../core/errors.js";
import { checkOptions, type Fields, type OptionsOf } from "../../core/options.js";
import type { Secrets } from "../../core/secrets.js";
import { show } from "../../core/show.js";
import { type Address, hostAndPort, readAddress, secretsOf } from "../address.js";
import { type TlsOptions, tlsFields } from "../tls.js";

/** A token, or what fetches one whenever a connection needs it. */
export type KafkaToken = string | (() => string | Promise<string>);

const mechanisms = ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER"] as const;
type Mechanism = (typeof mechanisms)[number];

/** What Kafka allows in the name of a topic. */
const topicWords = "1 to 249 letters from A to Z, digits, dots, hyphens and underscores, and neither . nor ..";

export const kafkaFields = {
  url: {
    type: "custom",
    doc: "`kafka://user:password@host:9092`, or `kafkas://` for TLS; user, password and port may be left out. A list of them names several servers of one cluster to begin with",
    words: "a URL, or a list of URLs",
    required: true,
    check: checkUrls,
  },
  topic: {
    type: "custom",
    doc: "What a relay sends to and an intake reads: a topic that exists",
    words: topicWords,
    required: true,
    check: checkTopic,
  },
  group: {
    type: "string",
    doc: "The consumer group whose position an intake moves. Two services with one group each get a part of the messages",
    maxLength: 255,
  },
  fromBeginning: {
    type: "boolean",
    doc: "Where a group without a position begins: at the oldest message that there is, or at the end as it is when an intake is first opened",
    default: false,
  },
  mechanism: {
    type: "choice",
    doc: "The mechanism of SASL. Without it: PLAIN for a user, OAUTHBEARER for a token",
    values: mechanisms,
  },
  token: {
    type: "custom",
    doc: "The token for OAUTHBEARER, or a function that gives one for each connection",
    words: "a string, or a function that returns one or a promise of one",
    check: checkToken,
  },
  batchBytes: {
    type: "integer",
    doc: "Bytes in one batch for one partition; too few and each message costs more, more than the broker's `message.max.bytes` and batches are divided after it has refused one",
    min: 1_000,
    max: 100_000_000,
    default: 500_000,
  },
  sessionTimeoutMs: {
    type: "duration",
    doc: "How long an intake may say nothing before the broker gives its partitions to others; the broker has bounds of its own, 6 seconds to 30 minutes unless it is set up otherwise. Too short and a pause divides the group anew, too long and a crash holds up its partitions for so long",
    min: 500,
    max: 1_800_000,
    default: 10_000,
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
    doc: "For `kafkas://`, beside what Node knows by itself. A certificate that does not fit is an error always",
    fields: tlsFields,
  },
} as const satisfies Fields;

type Checked = OptionsOf<typeof kafkaFields>;

export interface KafkaOptions {
  readonly url: string | readonly string[];
  readonly topic: string;
  readonly group?: string;
  readonly fromBeginning?: boolean;
  readonly mechanism?: Mechanism;
  readonly token?: KafkaToken;
  readonly batchBytes?: number;
  readonly sessionTimeoutMs?: number;
  readonly timeoutMs?: number;
  readonly tls?: TlsOptions;
}

/** What the rest works with. */
export interface Settings extends Omit<Checked, "url" | "tls" | "mechanism" | "token"> {
  readonly servers: readonly { readonly host: string; readonly port: number }[];
  /** Host, port and topic. */
  readonly where: string;
  /** Undefined: without TLS. */
  readonly tls: TlsOptions | undefined;
  readonly sasl: Sasl | undefined;
  /** What must not be seen. */
  readonly secrets: Secrets;
}

export interface Sasl {
  readonly mechanism: Mechanism;
  readonly username?: string;
  readonly password?: string;
  readonly token?: KafkaToken;
}

/** Errors: `ConfigurationError`. */
export function readSettings(options: KafkaOptions): Settings {
  const { url: addresses, tls, mechanism, token, ...others } = checkOptions(options, kafkaFields, "kafka");
  const [{ scheme, username, password }] = addresses;
  if (tls !== undefined && scheme !== "kafkas") {
    refuse("kafka.tls", "is for an address that begins with kafkas://.");
  }
  const secrets = secretsOf({ username, password }, tls, typeof token === "string" ? token : undefined);
  return {
    ...others,
    servers: addresses.map(({ host, port }) => ({ host, port })),
    where: `${addresses.map(hostAndPort).join(",")}/${others.topic}`,
    tls: scheme === "kafkas" ? (tls ?? {}) : undefined,
    sasl: saslOf(
      mechanisms.find((one) => one === mechanism),
      { username, password, token: remembered(token, secrets) },
    ),
    secrets,
  };
}

/** One that is fetched is as secret as one that is given. */
function remembered(token: KafkaToken | undefined, secrets: Secrets): KafkaToken | undefined {
  if (typeof token !== "function") return token;
  return async () => {
    const fetched = await token();
    secrets.learn(fetched);
    return fetched;
  };
}

interface Credentials {
  readonly username: string | undefined;
  readonly password: string | undefined;
  readonly token: KafkaToken | undefined;
}

function saslOf(wanted: Mechanism | undefined, { username, password, token }: Credentials): Sasl | undefined {
  const usual = token !== undefined ? "OAUTHBEARER" : username !== undefined ? "PLAIN" : undefined;
  const mechanism = wanted ?? usual;
  if (mechanism === undefined) return undefined;
  if (mechanism === "OAUTHBEARER") {
    if (token === undefined) return refuse("kafka.token", "is needed for OAUTHBEARER.");
    if (username !== undefined) return refuse("kafka.token", "is given and the URL has a user. Give one of them.");
    return { mechanism, token };
  }
  if (token !== undefined) return refuse("kafka.token", `is for OAUTHBEARER, and the mechanism is ${mechanism}.`);
  if (username === undefined || password === undefined) {
    return refuse("kafka.url", `needs a user and a password for ${mechanism}.`);
  }
  return { mechanism, username, password };
}

function checkUrls(value: unknown, path: string): readonly [Address, ...Address[]] {
  const given: readonly unknown[] = Array.isArray(value) ? value : [value];
  const addresses = given.map((one) => {
    if (typeof one === "string") return readAddress(one, path, { kafka: 9_092, kafkas: 9_093 });
    return refuse(path, `must be a URL, or a list of URLs; got ${show(one)}.`);
  });
  const [first, ...others] = addresses;
  if (first === undefined) return refuse(path, "is an empty list. Name one server at least.");
  const differs = ({ scheme, username, password }: Address) =>
    scheme !== first.scheme || username !== first.username || password !== first.password;
  if (others.some(differs)) {
    const message = `${path} names servers of one cluster with different schemes, users or passwords. Give all the same.`;
    throw new ConfigurationError("PH_BROKER_ADDRESS", message, { path });
  }
  return [first, ...others];
}

function checkTopic(value: unknown, path: string): string {
  if (typeof value === "string" && /^(?!\.{1,2}$)[A-Za-z0-9._-]{1,249}$/.test(value)) return value;
  return refuse(path, `must be ${topicWords}; got ${show(value)}.`);
}

function checkToken(value: unknown, path: string): KafkaToken {
  if (typeof value === "string" && value !== "") return value;
  if (typeof value === "function") return async () => String(await value());
  return refuse(path, "must be a string, or a function that returns one. It is not shown here.");
}

function refuse(path: string, problem: string): never {
  throw new ConfigurationError("PH_OPTION_INVALID", `${path} ${problem}`, { path });
}
