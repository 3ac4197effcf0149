/** The options of `redis({ … })`, checked. */
import { ConfigurationError } from "../../core/errors.js";
import { checkOptions, type Fields, type OptionsOf } from "../../core/options.js";
import type { Secrets } from "../../core/secrets.js";
import { type Address, hostAndPort, readAddress, secretsOf } from "../address.js";
import { type TlsOptions, tlsFields } from "../tls.js";

export const redisFields = {
  url: {
    type: "string",
    doc: "`redis://user:password@host:6379`, or `rediss://` for TLS; user, password and port may be left out",
    maxLength: 2_000,
    required: true,
    secret: true,
  },
  stream: {
    type: "string",
    doc: "The key of the stream that a relay appends to and an intake reads; the first message makes it",
    maxLength: 1_000,
    required: true,
  },
  group: {
    type: "string",
    doc: "The consumer group whose position an intake moves; it is made where it is not there. Two services with one group each get a part of the messages",
    maxLength: 1_000,
  },
  fromBeginning: {
    type: "boolean",
    doc: "Where a group begins that is made: at the oldest message that there is, or at the end",
    default: false,
  },
  database: {
    type: "integer",
    doc: "The number of the database",
    min: 0,
    max: 1_000_000,
    default: 0,
  },
  maxLength: {
    type: "integer",
    doc: "About how many messages the stream keeps; Redis drops the oldest beyond it, also those that nobody has read. Without it: all, until somebody trims the stream",
    min: 1,
    max: 1_000_000_000_000,
  },
  replicas: {
    type: "integer",
    doc: "How many replicas must have a message before it counts as sent; too few and a failover loses what it had not copied, more than there are and nothing is ever sent",
    min: 0,
    max: 100,
    default: 0,
  },
  idleMs: {
    type: "duration",
    doc: "After how long an intake takes over what another consumer of its group was given and never acknowledged; too short and it takes what is still worked on",
    min: 1_000,
    max: 86_400_000,
    default: 60_000,
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
    doc: "For `rediss://`, beside what Node knows by itself. A certificate that does not fit is an error always",
    fields: tlsFields,
  },
} as const satisfies Fields;

export interface RedisOptions {
  readonly url: string;
  readonly stream: string;
  readonly group?: string;
  readonly fromBeginning?: boolean;
  readonly database?: number;
  readonly maxLength?: number;
  readonly replicas?: number;
  readonly idleMs?: number;
  readonly timeoutMs?: number;
  readonly tls?: TlsOptions;
}

/** What the rest works with. */
export interface Settings extends Omit<OptionsOf<typeof redisFields>, "url" | "tls"> {
  readonly address: Address;
  /** Host, port and stream. */
  readonly where: string;
  /** Undefined: without TLS. */
  readonly tls: TlsOptions | undefined;
  /** What must not be seen. */
  readonly secrets: Secrets;
}

/** Errors: `ConfigurationError`. */
export function readSettings(options: RedisOptions): Settings {
  const { url, tls, ...others } = checkOptions(options, redisFields, "redis");
  const address = readAddress(url, "redis.url", { redis: 6_379, rediss: 6_379 });
  if (address.username !== undefined && address.password === undefined) {
    const message =
      "redis.url has a user and no password, which Redis does not take. A password alone is written as redis://:password@host.";
    throw new ConfigurationError("PH_BROKER_ADDRESS", message, { path: "redis.url" });
  }
  const encrypted = address.scheme === "rediss";
  if (tls !== undefined && !encrypted) {
    const message = "redis.tls is for an address that begins with rediss://.";
    throw new ConfigurationError("PH_OPTION_INVALID", message, { path: "redis.tls" });
  }
  return {
    ...others,
    address,
    where: `${hostAndPort(address)}/${others.stream}`,
    tls: encrypted ? (tls ?? {}) : undefined,
    secrets: secretsOf(address, tls),
  };
}
