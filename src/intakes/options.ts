/** The options of `post.intake`, as types and as data. */
import type { Broker } from "../brokers/broker.js";
import { checkBroker, isBroker } from "../brokers/is-broker.js";
import { type AnyContract, isContract } from "../contracts/contract.js";
import type { EventTypes } from "../contracts/event-types.js";
import { readableVersions } from "../contracts/upcast.js";
import { ConfigurationError, WrongKindError } from "../core/errors.js";
import { limits } from "../core/limits.js";
import { checkName } from "../core/names.js";
import { checkOptions, type Fields, type OptionsOf } from "../core/options.js";
import { quote, show } from "../core/show.js";
import { policyFields } from "../policies/policy.js";
import { checkTypes, refuseStrangers, typesWords } from "./types.js";

/** A message as the broker carries it. */
export interface ForeignMessage {
  /** Names in lower case. */
  readonly headers: Readonly<Record<string, string>>;
  readonly contentType: string | undefined;
  readonly body: Uint8Array;
  /** The body as text. Errors: where it is not UTF-8. */
  text(): string;
  /** The body read as JSON. Errors: where it is none. */
  json(): unknown;
  /** The broker's own key of the message. */
  readonly key: string | undefined;
  /** The id that its sender gave it in the broker's own way. */
  readonly id: string | undefined;
  /** Its place in the broker. */
  readonly position: string | undefined;
}

/** What a message that is no CloudEvent says. */
export interface ForeignReading {
  /** Of a contract of `into`. */
  readonly name: string;
  readonly payload: unknown;
  /** Unique at its sender, the same when it is sent again. Without it the broker's own id or position is taken. */
  readonly id?: string;
  /** Kept beside the payload. */
  readonly headers?: Readonly<Record<string, string>>;
}

export interface IntakeOptions {
  /** Where messages are taken from. */
  readonly from: Broker;
  /** What they may be: commands and events. The type of a message is the name of its contract, or one that `types` names. */
  readonly into: readonly AnyContract<"command" | "event">[];
  /**
   * Contracts of `into` by the types that mean them, exactly: `{ "com.acme.order.placed": OrderPlaced }`. For events of others, whose types are no names of
   * contracts. Goes before `typePrefix`, which holds for all other types.
   */
  readonly types?: Readonly<Record<string, AnyContract<"command" | "event">>>;
  /** What stands before the name of the contract in the type of a message: `com.example.shop.`. A type without it fits no contract. */
  readonly typePrefix?: string;
  /**
   * What becomes of a message whose type none of the contracts has: "invalid" keeps it in the list of invalid messages, "skip" passes over it.
   *
   * Default "invalid".
   */
  readonly otherTypes?: "invalid" | "skip";
  /** Reads a message that is no CloudEvent. `null` passes over it; what it throws makes the message invalid. Synchronous and pure. */
  readonly read?: (message: ForeignMessage) => ForeignReading | null;
  /** The record of what was taken in. */
  readonly inbox?: {
    /**
     * How long a message that comes again is recognised. Longer than the broker can keep a message before it delivers it again, retention and
     * time outs included.
     *
     * Default 604800000. Range 60000 to 315360000000.
     */
    readonly keepMs?: number;
  };
  /**
   * Messages that one transaction takes in at most. Too small and each costs more, too large and the first waits for the last.
   *
   * Default 1000. Range 1 to 1000.
   */
  readonly batchSize?: number;
  readonly alerts?: {
    /**
     * An alert says it when the intake has not been connected for so long, for whatever reason.
     *
     * Default 60000. Range 1000 to 315360000000.
     */
    readonly awayMs?: number;
    /**
     * An alert says it when so many messages were refused, with no pause of 15 minutes in between, that look like those of a sender who means this intake:
     * a webhook that is signed with another secret. Too small and each stray request raises it, too large and nobody notices.
     *
     * Default 3. Range 1 to 1000000000000.
     */
    readonly refused?: number;
    /**
     * An alert says it when there are so many invalid messages in the list of this intake.
     *
     * Default 1. Range 1 to 1000000000000.
     */
    readonly invalid?: number;
  };
}

/** A declared way in. */
export interface Intake {
  readonly name: string;
}

const contractWords = "a list of commands and events";

export const intakeFields = {
  from: {
    type: "custom",
    doc: "The broker that messages are taken from",
    words: "what mqtt(), kafka() and the like return",
    required: true,
    check: checkSource,
  },
  into: {
    type: "custom",
    doc: "The contracts that messages may be of; the type of a message is the name of its contract",
    words: contractWords,
    required: true,
    check: checkContracts,
  },
  types: {
    type: "custom",
    doc: "Contracts by the types that mean them, exactly, for events whose types are no names of contracts; goes before typePrefix",
    words: typesWords,
    check: checkTypes,
  },
  typePrefix: {
    type: "string",
    doc: "What stands before the name of the contract in the type of a message; a type without it fits no contract",
    maxLength: 200,
    default: "",
  },
  otherTypes: {
    type: "choice",
    doc: "What becomes of a message whose type none of the contracts has: it is kept in the list of invalid messages, or passed over",
    values: ["invalid", "skip"],
    default: "invalid",
  },
  read: {
    type: "custom",
    doc: "Reads a message that is no CloudEvent; without it such a message is invalid",
    words: "a function of the message that returns { name, payload, id, headers }, or null to pass over it",
    check: checkRead,
  },
  inbox: {
    type: "object",
    doc: "The record of what was taken in",
    fields: {
      keepMs: {
        type: "duration",
        doc: "How long a message that comes again is recognised; too small and what the broker delivers late is written twice, too large and it takes space",
        min: 60_000,
        max: limits.durationMs,
        default: 604_800_000,
      },
    },
  },
  batchSize: {
    type: "integer",
    doc: "Messages that one transaction takes in at most; too small and each costs more, too large and the first waits for the last",
    min: 1,
    max: limits.batchSize,
    default: limits.batchSize,
  },
  alerts: {
    type: "object",
    doc: "When somebody is to be told",
    fields: {
      awayMs: {
        type: "duration",
        doc: "An alert says it when the intake has not been connected for so long; too small and each restart of the broker raises it, too large and nobody notices",
        min: 1_000,
        max: limits.durationMs,
        default: 60_000,
      },
      refused: {
        type: "integer",
        doc: "An alert says it when so many messages were refused, with no pause of 15 minutes in between, that look like those of a sender who means this intake: a webhook that is signed with another secret. Too small and each stray request raises it, too large and nobody notices",
        min: 1,
        max: limits.count,
        default: 3,
      },
      invalid: {
        type: "integer",
        doc: "An alert says it when there are so many invalid messages in the list of this intake",
        min: 1,
        max: limits.count,
        default: 1,
      },
    },
  },
} as const satisfies Fields;

type Read = NonNullable<IntakeOptions["read"]>;

/** Checked. */
export interface IntakeDeclaration {
  readonly name: string;
  readonly service: string;
  readonly broker: Broker;
  readonly contracts: readonly AnyContract[];
  readonly types: EventTypes;
  readonly typePrefix: string;
  readonly skipsOthers: boolean;
  readonly read: Read | undefined;
  readonly keepMs: number;
  readonly batchSize: number;
  readonly alerts: OptionsOf<typeof intakeFields.alerts.fields>;
}

const keepDefault = checkOptions({}, intakeFields.inbox.fields, "inbox").keepMs;
const alertsDefault = checkOptions({}, intakeFields.alerts.fields, "alerts");

const ofARelay = "belongs to a relay, which sends to a broker: post.relay(…).";
/** An intake is the way in; what is said of the way out, or of the handling of what came in, leads there. */
const elsewhere: Readonly<Record<string, string>> = {
  to: `An intake reads \`from\` a broker, \`into\` contracts; \`to\` ${ofARelay}`,
  topic: "What comes in goes into the topics and queues of its contracts: an intake names those, as `into`.",
  queue: "What comes in goes into the topics and queues of its contracts: an intake names those, as `into`.",
  ...Object.fromEntries(
    ["mode", "source", "lossy", "sendTimeoutMs", "startFrom"].map((name) => [name, `\`${name}\` ${ofARelay}`]),
  ),
  ...Object.fromEntries(
    Object.keys(policyFields).map((name) => [
      name,
      `An intake only writes what comes in; \`${name}\` belongs to the queue or subscription that handles it.`,
    ]),
  ),
};

/** Errors: `ConfigurationError`, `WrongKindError`. */
export function checkIntake(given: unknown, options: unknown, service: string): IntakeDeclaration {
  const name = checkName(given, "intake");
  const path = `intake(${quote(name)})`;
  const checked = checkOptions(options, intakeFields, path, { elsewhere });
  const types: EventTypes = checked.types ?? new Map();
  refuseStrangers(types, checked.into, path);
  return {
    name,
    service,
    broker: checked.from,
    contracts: checked.into,
    types,
    typePrefix: checked.typePrefix,
    skipsOthers: checked.otherTypes === "skip",
    read: checked.read,
    keepMs: checked.inbox?.keepMs ?? keepDefault,
    batchSize: checked.batchSize,
    alerts: checked.alerts ?? alertsDefault,
  };
}

/** Errors: `ConfigurationError` where two would share what the other side gives to one reader. */
export function refuseShared(second: IntakeDeclaration, others: Iterable<IntakeDeclaration>): void {
  const { name, broker } = second;
  const by = broker.readsBy?.(second);
  if (by === undefined) return;
  for (const first of others) {
    if (first.broker.kind !== broker.kind || first.broker.readsBy?.(first) !== by) continue;
    const message = `intake(${quote(name)}) would read by ${by}, as intake(${quote(first.name)}) does: each message would come to one of the two only. Give this one a reader of its own, or take everything in by one intake, \`into\` the contracts of both.`;
    throw new ConfigurationError("PH_DECLARED_TWICE", message, { name, other: first.name, readsBy: by });
  }
}

function checkSource(value: unknown, path: string): Broker {
  const isPlace = typeof value === "object" && value !== null && ("topic" in value || "queue" in value);
  if (isPlace && !isBroker(value)) {
    const message = `${path} is a topic or a queue, which a relay reads: post.relay(…). An intake reads from a broker, as mqtt(), kafka() and the others make it.`;
    throw new ConfigurationError("PH_OPTION_INVALID", message, { path });
  }
  const broker = checkBroker(value, path);
  if (broker.features.receives) return broker;
  const message = `${path} is a broker that nothing can be received from (${broker.kind}). Use it as the end of a relay, or take another.`;
  throw new ConfigurationError("PH_OPTION_INVALID", message, { path, broker: broker.kind });
}

function checkContracts(value: unknown, path: string): readonly AnyContract[] {
  if (!Array.isArray(value)) {
    throw new ConfigurationError("PH_OPTION_INVALID", `${path} must be ${contractWords}, got ${show(value)}.`, {
      path,
    });
  }
  if (value.length === 0) {
    const message = `${path} is empty: nothing that comes could be taken in. Name the contracts that messages may be of.`;
    throw new ConfigurationError("PH_OPTION_INVALID", message, { path });
  }
  const contracts = [...value].map((contract, i) => checkContract(contract, `${path}[${i}]`));
  const seen = new Set<string>();
  for (const contract of contracts) {
    for (const version of readableVersions(contract)) {
      const id = `${contract.name} ${version}`;
      if (seen.has(id)) {
        const message = `${path} names version ${version} of ${contract.name} twice. Name each once.`;
        throw new ConfigurationError("PH_DECLARED_TWICE", message, { path, contract: contract.name });
      }
      seen.add(id);
    }
  }
  return contracts;
}

function checkContract(value: unknown, path: string): AnyContract {
  if (!isContract(value)) {
    const message = `${path} is no contract: ${show(value)}. Define one with command("…", { … }) or event("…", { … }) and pass what it returns.`;
    throw new WrongKindError("PH_WRONG_KIND", message, { path });
  }
  if (value.kind !== "query") return value;
  const message = `${path} is the query ${value.name}: a query is answered at once and never stored, so none can be taken in. Take in a command or an event.`;
  throw new WrongKindError("PH_WRONG_KIND", message, { path, name: value.name, kind: value.kind });
}

function checkRead(value: unknown, path: string): Read {
  if (typeof value === "function") return (message) => value(message);
  throw new ConfigurationError("PH_OPTION_INVALID", `${path} must be a function, got ${show(value)}.`, { path });
}
