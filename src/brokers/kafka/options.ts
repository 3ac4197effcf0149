/** What `kafka()` takes, and what its client is made from. */
import type { ConnectionOptions as TlsOptions } from "node:tls";
import { ConfigurationError } from "../../core/errors.js";
import { checkOptions, type Fields, type OptionsOf } from "../../core/options.js";
import { isPlain, show } from "../../core/show.js";
import { readServerUrl, type ServerUrl } from "../server-url.js";

/** A token, or what fetches one whenever a connection needs it. */
export type KafkaToken = string | (() => string | Promise<string>);

const schemes = { kafka: 9092, kafkas: 9093 };

export const kafkaFields = {
  url: {
    type: "custom",
    required: true,
    doc: 'One server of the cluster, or a list of several to begin with: "kafka://host:9092", or "kafkas://host:9093" for TLS. A user and a password in it are for SASL.',
    words: "a URL such as kafka://host:9092, or a list of them",
    check: checkUrls,
  },
  topic: { type: "string", required: true, maxLength: 249, doc: "The topic. It must exist: no topic is made." },
  group: {
    type: "string",
    maxLength: 255,
    doc: "The consumer group, for receiving. Two services with one group share its messages: each gets a part.",
  },
  fromBeginning: {
    type: "boolean",
    default: false,
    doc: "Where a group without a position begins: true at the oldest message, false at the end as it is when the group is first opened.",
  },
  mechanism: {
    type: "choice",
    values: ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER"],
    doc: "The SASL mechanism. PLAIN if a user is given and nothing else is said.",
  },
  user: { type: "string", maxLength: 1_000, doc: "The user, if it does not stand in the URL." },
  password: {
    type: "string",
    maxLength: 10_000,
    secret: true,
    doc: "The password, if it does not stand in the URL.",
  },
  token: {
    type: "custom",
    doc: "The token for OAUTHBEARER, or a function that returns one, called for each connection.",
    words: "a string, or a function that returns one or a promise of one",
    check: checkToken,
  },
  tls: {
    type: "custom",
    doc: "Options of node:tls: `ca`, `cert`, `key`, `servername`. Given with kafka://, they turn TLS on.",
    words: "an object of node:tls options",
    check: checkTls,
  },
  batchBytes: {
    type: "integer",
    min: 1_000,
    max: 100_000_000,
    unit: "bytes",
    default: 500_000,
    doc: "Bytes of messages in one batch for one partition. Below the broker's message.max.bytes; a batch that the broker finds too large is sent in smaller ones.",
  },
  requestTimeoutMs: {
    type: "duration",
    min: 100,
    max: 600_000,
    default: 15_000,
    doc: "How long the broker may be silent before it counts as away.",
  },
  sessionTimeoutMs: {
    type: "duration",
    min: 500,
    max: 1_800_000,
    default: 10_000,
    doc: "How long a receiver may be silent before the broker gives its partitions to others. The broker has bounds of its own: 6 seconds to 30 minutes unless configured.",
  },
} as const satisfies Fields;

type Checked = OptionsOf<typeof kafkaFields>;

export interface KafkaOptions {
  readonly url: string | readonly string[];
  readonly topic: string;
  readonly group?: string;
  readonly fromBeginning?: boolean;
  readonly mechanism?: "PLAIN" | "SCRAM-SHA-256" | "SCRAM-SHA-512" | "OAUTHBEARER";
  readonly user?: string;
  readonly password?: string;
  readonly token?: KafkaToken;
  readonly tls?: TlsOptions;
  readonly batchBytes?: number;
  readonly requestTimeoutMs?: number;
  readonly sessionTimeoutMs?: number;
}

/** The same, checked and put in order. */
export interface KafkaPlace extends Omit<Checked, "url" | "tls"> {
  readonly servers: readonly { readonly host: string; readonly port: number }[];
  readonly where: string;
  readonly tls: TlsOptions | undefined;
  readonly sasl: KafkaSasl | undefined;
  /** What must not be seen. */
  readonly secrets: readonly string[];
}

export interface KafkaSasl {
  readonly mechanism: NonNullable<KafkaOptions["mechanism"]>;
  readonly username?: string;
  readonly password?: string;
  readonly token?: KafkaToken;
}

/** Errors: `ConfigurationError`. */
export function readKafkaOptions(options: KafkaOptions): KafkaPlace {
  const checked = checkOptions(options, kafkaFields, "kafka");
  const { url: urls, tls, ...rest } = checked;
  const [first] = urls;
  const user = checked.user ?? first?.user;
  const password = checked.password ?? first?.password;
  const sasl = saslOf({ ...checked, user, password });
  const encrypted = tls !== undefined || first?.scheme === "kafkas";
  return {
    ...rest,
    servers: urls.map(({ host, port }) => ({ host, port })),
    where: `${urls.map((one) => one.where).join(",")}/${checked.topic}`,
    tls: encrypted ? { ...tls } : undefined,
    sasl,
    secrets: [password, typeof checked.token === "string" ? checked.token : undefined].filter(
      (one) => one !== undefined,
    ),
  };
}

function saslOf(
  given: Pick<KafkaOptions, "token"> & { mechanism?: string; user: string | undefined; password: string | undefined },
) {
  const { token, user, password } = given;
  const chosen = kafkaFields.mechanism.values.find((one) => one === given.mechanism);
  const mechanism = chosen ?? (token !== undefined ? "OAUTHBEARER" : user !== undefined ? "PLAIN" : undefined);
  if (mechanism === undefined) return undefined;
  const complete = mechanism === "OAUTHBEARER" ? token !== undefined : user !== undefined && password !== undefined;
  if (!complete) {
    const needed = mechanism === "OAUTHBEARER" ? "a token" : "a user and a password";
    throw new ConfigurationError("PH_OPTION_MISSING", `kafka lacks ${needed}, which ${mechanism} needs.`, {
      mechanism,
    });
  }
  return {
    mechanism,
    ...(user !== undefined && { username: user }),
    ...(password !== undefined && { password }),
    ...(token !== undefined && { token }),
  };
}

function checkUrls(value: unknown, path: string): readonly ServerUrl[] {
  const given: readonly unknown[] = Array.isArray(value) ? value : [value];
  const urls = given.map((one) => readServerUrl(one, path, schemes));
  const [first] = urls;
  if (first === undefined) throw new ConfigurationError("PH_BROKER_ADDRESS", `${path} is an empty list.`, { path });
  const same = urls.every((one) => one.scheme === first.scheme && (one.user ?? first.user) === first.user);
  if (same) return urls;
  const message = `${path} names servers of one cluster with different schemes or users. Give all the same.`;
  throw new ConfigurationError("PH_BROKER_ADDRESS", message, { path });
}

function checkToken(value: unknown, path: string): KafkaToken {
  if (typeof value === "string" && value !== "") return value;
  if (typeof value === "function") return async () => String(await value());
  const message = `${path} must be a string, or a function that returns one. It is not shown here.`;
  throw new ConfigurationError("PH_OPTION_INVALID", message, { path });
}

function checkTls(value: unknown, path: string): TlsOptions {
  if (typeof value === "object" && value !== null && isPlain(value)) return value;
  throw new ConfigurationError(
    "PH_OPTION_INVALID",
    `${path} must be an object of node:tls options, got ${show(value)}.`,
    {
      path,
    },
  );
}
