/** `webhookIntake()`: webhooks as the beginning of an intake, by a web-standard handler that is mounted where requests come in. */
import { ConfigurationError } from "../../core/errors.js";
import { limits } from "../../core/limits.js";
import { checkOptions, type Fields } from "../../core/options.js";
import { show } from "../../core/show.js";
import type { Broker, BrokerFeatures } from "../broker.js";
import { Door } from "./door.js";
import type { Key } from "./keys.js";
import { toleranceField, verifyFields } from "./verify.js";
import { Waiting } from "./waiting.js";
import { webhookStyle } from "./webhook.js";

export const webhookIntakeFields = {
  verify: {
    type: "choice",
    values: ["standard", "none"],
    default: "standard",
    doc: "`none` takes whatever is posted, for a place that only known senders can reach",
  },
  secrets: {
    type: "custom",
    words: verifyFields.secrets.words,
    doc: verifyFields.secrets.doc,
    check: verifyFields.secrets.check,
  },
  toleranceMs: toleranceField,
  path: {
    type: "custom",
    words: "a path that begins with /",
    doc: "Only requests to this path are webhooks, and others are answered 404; without it the framework decides",
    check: readPath,
  },
  unsignedAttributes: {
    type: "choice",
    values: ["refuse", "accept"],
    default: "refuse",
    doc: "Whether events in binary mode are taken from a verified sender: their attributes are headers, which no signature covers",
  },
  maxBytes: {
    type: "integer",
    min: 1,
    max: limits.webhookBytes,
    unit: "bytes",
    default: 1_179_648,
    doc: "The largest body that is taken; a larger one is answered 413 as soon as it is seen",
  },
  bodyTimeoutMs: {
    type: "duration",
    min: 100,
    max: 120_000,
    default: 10_000,
    doc: "How long the body of a request may take to arrive; too short refuses slow lines, too long lets slow senders hold connections",
  },
  commitTimeoutMs: {
    type: "duration",
    min: 100,
    max: 120_000,
    default: 10_000,
    doc: "How long a webhook may wait for its commit; then the answer is 503, and its sender sends it again. Shorter than the patience of the senders, which is 15 to 30 seconds for most",
  },
  maxPending: {
    type: "integer",
    min: 1,
    max: 100_000,
    default: 1_000,
    doc: "Webhooks that wait for their commit at once; more are answered 503",
  },
  maxPendingBytes: {
    type: "integer",
    min: 1,
    max: 4_294_967_296,
    unit: "bytes",
    default: 67_108_864,
    doc: "Bytes of the bodies that wait for their commit at once, and as many again of those that are still being read; more are answered 503",
  },
  retryAfterMs: {
    type: "duration",
    min: 1_000,
    max: 3_600_000,
    default: 5_000,
    doc: "When a sender that was answered 503 is asked to come again; sent in whole seconds",
  },
} as const satisfies Fields;

export interface WebhookIntakeOptions {
  /** `whsec_…` (shared) or `whpk_…` (ed25519). Required unless `verify` is "none". */
  readonly secrets?: readonly string[];
  readonly verify?: "standard" | "none";
  readonly toleranceMs?: number;
  readonly path?: string;
  readonly unsignedAttributes?: "refuse" | "accept";
  readonly maxBytes?: number;
  readonly bodyTimeoutMs?: number;
  readonly commitTimeoutMs?: number;
  readonly maxPending?: number;
  readonly maxPendingBytes?: number;
  readonly retryAfterMs?: number;
}

export const webhookIntakeFeatures: BrokerFeatures = {
  acknowledges: true,
  sends: false,
  receives: true,
  pushed: true,
  order: "key",
  deduplicates: false,
  checksDestination: false,
  stablePosition: false,
  mode: "structured",
};

/** A place for webhooks, for an intake. */
export interface WebhookIntake extends Broker {
  /** Takes a request and answers it. Needs no `this`: `export const POST = hooks.fetch`. */
  readonly fetch: (request: Request) => Promise<Response>;
}

/**
 * Webhooks as the beginning of an intake. Mount `fetch` where they are posted to.
 *
 * Delivery: a webhook is answered 204 once the intake has committed it, and otherwise 503, so that its sender keeps it.
 * Duplicates: `webhook-id` is the id of the message; one that comes again is acknowledged and not written again, whatever its body is.
 * Order: as their bodies arrive, in one process. Every process that runs the intake takes in what comes to it, and none waits for another.
 * Errors: `ConfigurationError`. What is refused is told to the log of whoever declares the intake, counted in `post.intakes()`, and an alert says it.
 * Limits: size and time of a body, and what waits at once.
 */
export function webhookIntake(options: WebhookIntakeOptions): WebhookIntake {
  const { verify, secrets, maxPending, maxPendingBytes, ...rest } = checkOptions(
    options,
    webhookIntakeFields,
    "webhookIntake()",
  );
  const waiting = new Waiting({ maxPending, maxPendingBytes });
  made += 1;
  const where = rest.path === undefined ? "its fetch handler" : `its fetch handler at ${rest.path}`;
  const itself = `webhookIntake() number ${made} of this process, ${where}`;
  const door = new Door({ ...rest, keys: keysFor(verify, secrets), maxReadingBytes: maxPendingBytes }, waiting);
  return {
    kind: "webhooks",
    where,
    features: webhookIntakeFeatures,
    style: webhookStyle,
    fetch: (request) => door.enter(request),
    onRefused: (listener) => door.onRefused(listener),
    openReceiver: async () => waiting.receiver(),
    readsBy: () => itself,
    openSender: async () => {
      throw new ConfigurationError(
        "PH_OPTION_INVALID",
        "webhookIntake() only receives. To send webhooks, give the relay a webhook().",
      );
    },
  };
}

/** So that two with one path, or none, are told apart. */
let made = 0;

/** Undefined: nothing is verified. */
function keysFor(verify: "standard" | "none", secrets: readonly Key[] | undefined): readonly Key[] | undefined {
  if (verify === "none") {
    if (secrets === undefined) return undefined;
    throw new ConfigurationError(
      "PH_OPTION_INVALID",
      'webhookIntake() has secrets, and verify: "none". Leave one of them out.',
    );
  }
  if (secrets !== undefined) return secrets;
  throw new ConfigurationError(
    "PH_OPTION_MISSING",
    'webhookIntake() lacks the option secrets. Without it everybody could post; say verify: "none" if that is wanted.',
    { missing: ["secrets"] },
  );
}

function readPath(value: unknown, path: string): string {
  const plain = typeof value === "string" && value.length <= limits.webhookUrlLength && value.startsWith("/");
  if (plain && URL.canParse(value, "http://x") && new URL(value, "http://x").pathname === value) return value;
  throw new ConfigurationError(
    "PH_OPTION_INVALID",
    `${path} must be a path as it stands in a URL, from its / on and without a query, got ${show(value)}.`,
    { path },
  );
}
