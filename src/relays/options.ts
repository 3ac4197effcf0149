/**
 * What a relay is told: where its messages come from, where they go, and the six decisions of its policy.
 *
 * What cannot be kept is refused here, with the reason: an effect at a broker does not commit with a transaction of this database, order that the
 * broker does not keep is none, and a broker that does not acknowledge loses messages.
 */

import type { Broker } from "../brokers/broker.js";
import type { EnvelopeMode } from "../brokers/envelope.js";
import { checkBroker, isBroker } from "../brokers/is-broker.js";
import type { AnyContract } from "../contracts/contract.js";
import { ConfigurationError } from "../core/errors.js";
import { limits } from "../core/limits.js";
import { checkName } from "../core/names.js";
import { checkOptions, type Fields } from "../core/options.js";
import { quote, show } from "../core/show.js";
import { suggestion } from "../core/suggest.js";
import { noBacklogLimitField } from "../policies/flow.js";
import {
  type CheckedPolicy,
  checkPolicy,
  decisions,
  type Policy,
  policyFields,
  type QueuePolicy,
  type RelayedTo,
  type StartFrom,
  subscriptionFields,
  whereLength,
} from "../policies/policy.js";
import { checkTypes, RelayTypes, typesWords } from "./types.js";

/** Where the messages come from: a topic, whose subscription the relay is, or a queue, whose one receiver it is. */
export type RelayFrom = { readonly topic: string } | { readonly queue: string };

/** An effect at a broker cannot commit with a transaction of this database. */
export type RelayIdempotency = "handler" | "at-most-once";

export interface RelayOptions<I extends RelayIdempotency = RelayIdempotency> extends Policy<I> {
  readonly from: RelayFrom;
  /** Where they go: `mqtt({ … })`, `kafka({ … })` and so on. */
  readonly to: Broker;
  /** Of a topic: where a relay begins that is new. Default "now". */
  readonly startFrom?: StartFrom;
  /**
   * Messages that are on their way at once in one process. Too few and the broker waits for us; too many and memory holds them all: with payloads of a
   * megabyte a gigabyte.
   *
   * Default 1000. Range 1 to 10000.
   */
  readonly concurrency?: number;
  /**
   * The most messages of one call. Too few and each costs a round trip; too many and a failing call takes more with it.
   *
   * Default 500. Range 1 to 1000.
   */
  readonly batchSize?: number;
  /**
   * How long the broker may take to acknowledge; then it counts as away. Too short and a slow one is never done, too long and a silent one is noticed
   * late. At most half of `visibilityTimeoutMs`, so that no run ends before it is known what became of it.
   *
   * No less than the `timeoutMs` that the broker was told.
   *
   * Default: half of `visibilityTimeoutMs`, at most 10000, for webhooks 20000, or as long as the broker's `timeoutMs` needs. Range 1 to 3600000.
   */
  readonly sendTimeoutMs?: number;
  /** The `source` of the CloudEvents, a URI-reference. Default `urn:posthorn:<service>`. */
  readonly source?: string;
  /** What stands before the name of the contract in their `type`: "com.example.shop." Default: nothing. */
  readonly typePrefix?: string;
  /**
   * Contracts by the types under which they go out, for receivers whose types are no names of contracts: `{ "com.acme.order.placed": OrderPlaced }`. A version of a
   * contract has one type; every other version and contract goes out under `typePrefix` and its name. What an intake is told as `types` may be the same object.
   */
  readonly types?: Readonly<Record<string, AnyContract<"command" | "event">>>;
  /** How they travel: attributes as headers, or everything as one JSON body. Default: what the broker's users expect. */
  readonly mode?: EnvelopeMode;
  /** That messages may be lost on the way to a broker that does not acknowledge. Default false: such a broker is refused. For another it is refused itself. */
  readonly lossy?: boolean;
  /** Of a queue: what a producer meets when too much waits. */
  readonly backlogLimit?: QueuePolicy["backlogLimit"];
}

/** Checked and complete. */
export interface RelaySettings {
  readonly to: Broker;
  readonly batchSize: number;
  readonly sendTimeoutMs: number;
  readonly source: string | undefined;
  readonly types: RelayTypes;
  readonly mode: EnvelopeMode;
  /** Whether the order of keys is kept. */
  readonly ordered: boolean;
  /** A message whose fate is unknown must not be sent again. */
  readonly once: boolean;
  /** For how long the circuit opens where the broker does not say. */
  readonly openMs: number;
}

export interface CheckedRelay {
  readonly kind: "command" | "event";
  readonly channel: string;
  readonly startFrom: StartFrom;
  readonly policy: CheckedPolicy;
  readonly settings: RelaySettings;
}

const longestSendMs = 3_600_000;
/** For one message that is on its way at once. */
const defaultSendMs = 10_000;

/** Tried every second, so that delivery goes on a second after the broker is back. Failures of single messages open it only in numbers. */
export const relayBreaker = Object.freeze({ failures: 20, windowMs: 10_000, openMs: 1_000 });

const { results: _ofHandlers, backlogLimit, ...carried } = policyFields;

const longestSource = 500;
const sourceWords = `a URI-reference of 1 to ${longestSource} letters, as urn:example:shop, https://shop.example or /shop`;
/** RFC 3986: what may stand in one, a scheme before the first colon of the first part, and one fragment. */
const uriReference =
  /^(?:[a-z][a-z0-9+.-]*:|(?![^/?#]*:))(?:[\w.~:/?[\]@!$&'()*+,;=-]|%[0-9a-f]{2})*(?:#(?:[\w.~:/?@!$&'()*+,;=-]|%[0-9a-f]{2})*)?$/i;

const ofAnIntake = "belongs to an intake, which takes in what a broker gives: post.intake(…).";
/** A relay is the way out; what is said of the way in leads there. */
const elsewhere = {
  into: `A relay sends \`to\` a broker; \`into\` ${ofAnIntake}`,
  read: `\`read\` ${ofAnIntake}`,
  otherTypes: `\`otherTypes\` ${ofAnIntake}`,
  inbox: `\`inbox\` ${ofAnIntake}`,
} as const;

export const relayFields = {
  from: {
    type: "custom",
    doc: "Where the messages come from: a topic, or a queue, whose one receiver the relay is",
    words: "{ topic: … } or { queue: … }",
    required: true,
    check: checkFrom,
  },
  to: {
    type: "custom",
    doc: "Where they go",
    words: "a broker, as mqtt(), kafka() and the others make it",
    required: true,
    check: checkBroker,
  },
  ...carried,
  idempotency: {
    type: "custom",
    doc: "What happens when a message is sent twice: the other side drops it by its id, or it must never be",
    words: '"handler" or "at-most-once"',
    required: true,
    check: checkIdempotency,
  },
  startFrom: subscriptionFields.startFrom,
  backlogLimit,
  concurrency: {
    ...policyFields.concurrency,
    doc: "Messages that are on their way at once in one process; too few and the broker waits for us, too many and memory holds them all",
    default: 1_000,
  },
  batchSize: {
    type: "integer",
    doc: "The most messages that are handed to the broker in one call; too few and each costs a round trip, too many and a failing call takes more with it",
    min: 1,
    max: limits.batchSize,
    default: 500,
  },
  sendTimeoutMs: {
    type: "duration",
    doc: "How long the broker may take to acknowledge; then it counts as away. Too short and a slow one is never done, too long and a silent one is noticed late. No less than the timeoutMs of its broker, where that was told one. Without it half of visibilityTimeoutMs, at most 10000, for webhooks 20000, or as long as that timeoutMs needs",
    min: 1,
    max: longestSendMs,
  },
  source: {
    type: "custom",
    doc: "The source of the CloudEvents. Without it urn:posthorn:<service>",
    words: sourceWords,
    check: checkSource,
  },
  typePrefix: {
    type: "string",
    doc: "What stands before the name of the contract in their type; without it nothing",
    maxLength: 200,
  },
  types: {
    type: "custom",
    doc: "Contracts by the types under which they go out; others go out under typePrefix and their name",
    words: typesWords,
    check: checkTypes,
  },
  mode: {
    type: "choice",
    doc: "How they travel: attributes as headers, or everything as one JSON body. Without it what is usual for the broker",
    values: ["binary", "structured"],
  },
  lossy: {
    type: "boolean",
    doc: "That messages may be lost on the way to a broker that does not acknowledge; without it such a broker is refused, and for one that acknowledges there is nothing to allow",
    default: false,
  },
} as const satisfies Fields;

/** Errors: `ConfigurationError` naming every missing decision at once, and for what cannot be kept. */
export function checkRelay(value: unknown, name: string): CheckedRelay {
  const where = `relay(${quote(name)})`;
  const checked = checkOptions(value, relayFields, where, { decisions, elsewhere });
  const { from, to, startFrom, batchSize, sendTimeoutMs, source, typePrefix, types, mode, lossy, ...rest } = checked;
  refuseUnfit(where, to, lossy, rest.ordering !== "none");
  const { kind, channel } = from;
  if (kind === "command" && channel !== name) {
    const message = `${where}.from.queue is ${quote(channel)}: the one receiver of a queue is called as the queue is, in every list and command. Call the relay ${quote(channel)}.`;
    throw refusal(message, `${where}.from.queue`);
  }
  if (kind === "event" && rest.backlogLimit !== undefined) {
    noBacklogLimitField.check(rest.backlogLimit, `${where}.backlogLimit`);
  }
  const policy = checkPolicy({ circuitBreaker: relayBreaker, ...rest }, where);
  return {
    kind,
    channel,
    startFrom: startFrom === "oldest" ? "oldest" : "now",
    policy: Object.freeze({ ...policy, relay: relayedTo(to) }),
    settings: {
      to,
      batchSize,
      sendTimeoutMs: checkTimeout(sendTimeoutMs, policy.visibilityTimeoutMs, to, where),
      source,
      types: new RelayTypes(types ?? new Map(), typePrefix ?? "", from, where),
      ordered: policy.ordering !== "none",
      mode: mode === "binary" || mode === "structured" ? mode : to.features.mode,
      once: policy.idempotency === "at-most-once",
      openMs: policy.circuitBreaker?.openMs ?? relayBreaker.openMs,
    },
  };
}

/** What is kept and shown of a broker, whose names are clean since it was declared. */
export function relayedTo({ kind, where }: Broker): RelayedTo {
  return { broker: kind.slice(0, limits.nameLength), where: where.slice(0, whereLength) };
}

interface Channel {
  readonly kind: "command" | "event";
  readonly channel: string;
}

function checkFrom(value: unknown, path: string): Channel {
  const given = typeof value === "object" && value !== null ? Object.entries(value) : [];
  const [first] = given;
  if (given.length === 1 && first !== undefined) {
    const [what, name] = first;
    if (what === "topic") return { kind: "event", channel: checkName(name, "topic") };
    if (what === "queue") return { kind: "command", channel: checkName(name, "queue") };
  }
  const isWayIn = isBroker(value);
  const got = isWayIn ? "a broker" : show(value);
  const lead = isWayIn
    ? " A relay reads a topic or a queue of this database and sends `to` a broker; what takes messages from a broker is an intake: post.intake(…)."
    : misspelt(given.map(([name]) => name));
  throw refusal(`${path} must be { topic: "…" } or { queue: "…" }; got ${got}.${lead}`, path);
}

const channels = ["topic", "queue"] as const;

/** The first key that is none of the two, with what was meant. */
function misspelt(names: readonly string[]): string {
  const other = names.find((name) => !channels.some((known) => known === name));
  if (other === undefined) return names.length > 1 ? " Name one of them." : "";
  return ` It has an unknown option ${quote(other)}.${suggestion(other, channels)}`;
}

function checkSource(value: unknown, path: string): string {
  const fits = typeof value === "string" && value !== "" && value.length <= longestSource && uriReference.test(value);
  if (fits) return value;
  throw refusal(
    `${path} must be ${sourceWords}; got ${show(value)}. Receivers of CloudEvents may refuse others.`,
    path,
  );
}

function checkIdempotency(value: unknown, path: string): RelayIdempotency {
  if (value === "handler" || value === "at-most-once") return value;
  if (value === "transaction") {
    const message = `${path} cannot be "transaction": the broker takes no part in a transaction of this database, so a message that was sent is not taken back by a rollback. Say "handler" and let the other side drop what comes twice by its id, or "at-most-once".`;
    throw refusal(message, path);
  }
  throw refusal(`${path} must be "handler" or "at-most-once"; got ${show(value)}.`, path);
}

function refuseUnfit(where: string, { kind, features }: Broker, lossy: boolean, ordered: boolean): void {
  if (!features.sends) throw refusal(`${where}.to is a ${kind} broker that nothing can be sent to.`, `${where}.to`);
  if (!features.acknowledges && !lossy) {
    const message = `${where}.to is a ${kind} broker that does not acknowledge what it gets: messages can be lost on the way, and nobody would notice. Choose a way that acknowledges, or say lossy: true.`;
    throw refusal(message, `${where}.to`);
  }
  if (features.acknowledges && lossy) {
    const message = `${where}.lossy is for a broker that does not acknowledge, and this ${kind} broker does: nothing is lost on the way. Leave it out.`;
    throw refusal(message, `${where}.lossy`);
  }
  if (ordered && features.order === "none") {
    const message = `${where}.ordering is per key, and its ${kind} broker keeps no order: what was sent in order would arrive in any. Say ordering: "none", or choose another broker.`;
    throw refusal(message, `${where}.ordering`);
  }
}

function checkTimeout(given: number | undefined, visibilityTimeoutMs: number, to: Broker, where: string): number {
  const most = Math.max(1, Math.floor(visibilityTimeoutMs / 2));
  if (given !== undefined && given > most) {
    const message = `${where}.sendTimeoutMs (${given}) must be at most half of ${where}.visibilityTimeoutMs (${visibilityTimeoutMs}), so that no run ends before it is known what became of its message.`;
    throw refusal(message, `${where}.sendTimeoutMs`);
  }
  const { timeoutMs = 0, atOnce } = to;
  // Where only so many are on their way at once, a message may wait for another one before it is sent.
  const turns = atOnce === undefined ? 1 : 2;
  const sendTimeoutMs = given ?? Math.min(most, Math.max(defaultSendMs, timeoutMs) * turns);
  if (timeoutMs <= sendTimeoutMs) return sendTimeoutMs;
  const gives = given === undefined ? `half of visibilityTimeoutMs, ${visibilityTimeoutMs}` : "its sendTimeoutMs";
  const message = `${where}.to waits ${timeoutMs} ms for an answer, its timeoutMs, and the relay gives up after ${sendTimeoutMs} ms, ${gives}: that time would never be reached. Lower timeoutMs to ${sendTimeoutMs}, or raise sendTimeoutMs to ${timeoutMs} and visibilityTimeoutMs to ${timeoutMs * 2} or more.`;
  throw refusal(message, `${where}.to`);
}

function refusal(message: string, path: string): ConfigurationError {
  return new ConfigurationError("PH_OPTION_INVALID", message, { path });
}
