/** `webhook()`: an HTTP endpoint as the end of a relay. */
import { lookup as systemLookup } from "node:dns";
import { isIP, type LookupFunction } from "node:net";
import { ConfigurationError } from "../../core/errors.js";
import { limits } from "../../core/limits.js";
import { checkOptions, type Fields } from "../../core/options.js";
import { show } from "../../core/show.js";
import type { Broker, BrokerFeatures } from "../broker.js";
import type { EnvelopeMode, HeaderStyle } from "../envelope.js";
import { patienceOf } from "../patience.js";
import { certificatesField } from "../pem.js";
import { cleaner } from "./clean.js";
import { endpointOf, guarded, hostOf } from "./endpoint.js";
import { readHeaders } from "./headers.js";
import { type Key, readKeys } from "./keys.js";
import { type Standing, WebhookSender } from "./sender.js";

/** How events are called over HTTP. */
export const webhookStyle: HeaderStyle = { prefix: "ce-", percent: true };

export const webhookFields = {
  url: {
    type: "string",
    maxLength: limits.webhookUrlLength,
    required: true,
    secret: true,
    doc: "Where webhooks are posted to. Only its scheme, host and port are ever shown, and six letters that tell one path and query from another",
  },
  sign: {
    type: "choice",
    values: ["standard", "none"],
    default: "standard",
    doc: "`none` leaves the signature away, for a receiver that knows its senders in another way",
  },
  secrets: {
    type: "custom",
    words: "a list of 1 to 10 keys, whsec_… or whsk_…",
    doc: "The keys that sign; each webhook carries a signature of each, so that the receiver can change keys without a gap",
    check: (value: unknown, path: string): readonly Key[] => readKeys(value, path, "signs"),
  },
  mode: {
    type: "choice",
    values: ["structured", "binary"],
    default: "structured",
    doc: "`structured` puts the whole event into the body, which is what a signature covers; `binary` the payload alone, and the rest into headers, which no signature covers",
  },
  headers: {
    type: "custom",
    words: "an object of strings",
    doc: "Headers that go with each webhook, such as `authorization`. Their values are never shown",
    check: readHeaders,
  },
  allowPrivate: {
    type: "custom",
    words: "a list of host names and addresses",
    doc: "Hosts that may be posted to although they lie inside of a network, as they stand in the url; plain `http:` is allowed to them as well",
    check: readHosts,
  },
  allowHttp: {
    type: "boolean",
    default: false,
    doc: "Whether a webhook may go over the internet in the clear, where anybody between can read it",
  },
  connections: {
    type: "integer",
    min: 1,
    max: 1_000,
    default: 10,
    doc: "Webhooks that are posted at once, each on a connection of its own that is kept open; more are faster and press the receiver harder",
  },
  keepAlive: {
    type: "boolean",
    default: true,
    doc: "Whether connections are kept for the next webhook. One that the receiver closes in this moment costs a second post on a new connection; `false` never posts twice by itself, as a relay wants that is at-most-once, and connects anew for each",
  },
  connectTimeoutMs: {
    type: "duration",
    min: 100,
    max: 120_000,
    default: 5_000,
    doc: "How long it may take to find the host, to connect, and to agree on encryption; too short fails over long distances, too long holds others up while a host is away",
  },
  timeoutMs: {
    type: "duration",
    min: 100,
    max: 600_000,
    default: 20_000,
    doc: "How long a webhook may take as a whole until there is an answer; too short repeats what a slow receiver has done, too long holds others up while it is silent",
  },
  whenGone: {
    type: "choice",
    values: ["wait", "refuse"],
    default: "wait",
    doc: "What becomes of messages once the receiver has answered 410 Gone and is not posted to any more: they wait, or each becomes a dead letter",
  },
  ca: certificatesField(
    "Certificates of authorities in PEM that are trusted in place of those that Node knows: for a receiver with a certificate of its own authority",
  ),
  lookup: {
    type: "custom",
    words: "a function like `lookup` of node:dns",
    doc: "How names are resolved. What it finds is checked all the same",
    check: readLookup,
  },
} as const satisfies Fields;

export interface WebhookOptions {
  /** `https:`; a user and a password in it are sent as basic authorization. */
  readonly url: string;
  /** `whsec_…` (shared) or `whsk_…` (ed25519). Required unless `sign` is "none". */
  readonly secrets?: readonly string[];
  readonly sign?: "standard" | "none";
  readonly mode?: EnvelopeMode;
  readonly headers?: Readonly<Record<string, string>>;
  readonly allowPrivate?: readonly string[];
  readonly allowHttp?: boolean;
  readonly connections?: number;
  readonly keepAlive?: boolean;
  readonly connectTimeoutMs?: number;
  readonly timeoutMs?: number;
  readonly whenGone?: "wait" | "refuse";
  readonly ca?: string;
  readonly lookup?: LookupFunction;
}

export const webhookFeatures: BrokerFeatures = {
  acknowledges: true,
  sends: true,
  receives: false,
  order: "key",
  deduplicates: false,
  checksDestination: false,
  stablePosition: false,
  mode: "structured",
};

/**
 * An HTTP endpoint as the end of a relay: each message is posted to it, signed as Standard Webhooks 1.0.0 asks for.
 *
 * Delivery: at least once. `webhook-id` is the same at each attempt, so that the receiver can tell. 2xx acknowledges; a redirect is a failure and never
 * followed; after 410 nothing is posted any more.
 * Order: of one key, as the relay sends it. Nothing is promised across keys.
 * Errors: `ConfigurationError`; `PH_BROKER_ADDRESS` for an address on the inside of a network that is not in `allowPrivate`.
 * Limits: `connections` at once; no answer is read beyond a few kilobytes. No proxy is taken from the environment.
 */
export function webhook(options: WebhookOptions): Broker {
  const {
    url,
    sign,
    secrets,
    allowPrivate = [],
    allowHttp,
    mode,
    ...rest
  } = checkOptions(options, webhookFields, "webhook()");
  const { connectTimeoutMs, timeoutMs } = rest;
  if (options.connectTimeoutMs !== undefined && connectTimeoutMs > timeoutMs) {
    refuse(
      "webhook().connectTimeoutMs",
      `(${connectTimeoutMs}) must be at most timeoutMs (${timeoutMs}), which ends a post as a whole: it would never be reached`,
    );
  }
  const keys = keysFor(sign, secrets);
  const endpoint = endpointOf(url, { allowPrivate, allowHttp });
  const { lookup = systemLookup as LookupFunction, headers = {}, whenGone, ...sending } = rest;
  const standing: Standing = { gone: false, silentUntil: Number.NEGATIVE_INFINITY };
  const common = { endpoint, keys, headers, style: webhookStyle, lookup: guarded(lookup, endpoint) };
  const clean = cleaner(endpoint.url, headers, keys);
  return {
    kind: "webhooks",
    where: endpoint.where,
    features: { ...webhookFeatures, mode: mode },
    style: webhookStyle,
    atOnce: sending.connections,
    ...patienceOf(options),
    openSender: async (opening) => {
      const sender = new WebhookSender(
        { ...common, ...sending, mode: opening.mode ?? mode, ordered: opening.ordered ?? true, whenGone, clean },
        standing,
      );
      try {
        await sender.look(opening.signal);
        return sender;
      } catch (error) {
        await sender.close();
        throw error;
      }
    },
    openReceiver: async () => {
      throw new ConfigurationError(
        "PH_OPTION_INVALID",
        "webhook() only sends. To receive webhooks, give the intake a webhookIntake().",
      );
    },
  };
}

function keysFor(sign: "standard" | "none", secrets: readonly Key[] | undefined): readonly Key[] {
  if (sign === "none") {
    if (secrets === undefined) return [];
    throw new ConfigurationError(
      "PH_OPTION_INVALID",
      'webhook() has secrets, and sign: "none". Leave one of them out.',
    );
  }
  if (secrets !== undefined) return secrets;
  throw new ConfigurationError(
    "PH_OPTION_MISSING",
    'webhook() lacks the option secrets. Without it nobody can tell who posted; say sign: "none" if that is wanted.',
    { missing: ["secrets"] },
  );
}

function readHosts(value: unknown, path: string): readonly string[] {
  if (!Array.isArray(value)) refuse(path, `must be a list of hosts, got ${show(value)}`);
  return value.map((one: unknown) => {
    const text = typeof one === "string" ? one : "";
    const url = `https://${isIP(text) === 6 ? `[${text}]` : text}`;
    const host = URL.canParse(url) ? hostOf(new URL(url)) : "";
    const named = isIP(host) !== 0 || /^[a-z0-9._-]+$/.test(host);
    const plain = named && text.trim() === text && new URL(url).href === `https://${new URL(url).hostname}/`;
    return plain
      ? host
      : refuse(path, `has ${show(one)}, which is no host: give a name or an address alone, as in the url`);
  });
}

function readLookup(value: unknown, path: string): LookupFunction {
  return typeof value === "function"
    ? (value as LookupFunction)
    : refuse(path, `must be a function, got ${show(value)}`);
}

function refuse(path: string, problem: string): never {
  throw new ConfigurationError("PH_OPTION_INVALID", `${path} ${problem}.`, { path });
}
