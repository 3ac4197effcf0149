/** The options of `posthorn()`, `start()` and `stop()`, as data. */
import { ConfigurationError } from "../core/errors.js";
import { limits } from "../core/limits.js";
import type { Logger } from "../core/logger.js";
import { checkName } from "../core/names.js";
import { checkOptions, type Fields } from "../core/options.js";
import { show } from "../core/show.js";
import { databaseDefaults } from "../databases/defaults.js";
import type { DatabaseInput } from "../databases/open.js";
import { isObject, isPgClient, isPglite, isPgPool } from "../databases/shapes.js";
import { checkSchema } from "../store/schema.js";

function checkLogger(value: unknown, path: string): Logger {
  const methods = ["info", "warn", "error"] as const;
  const isLogger = (given: unknown): given is Logger =>
    typeof given === "object" &&
    given !== null &&
    methods.every((method) => method in given && typeof Reflect.get(given, method) === "function");
  if (isLogger(value)) return value;
  const message = `${path} must be an object with the methods info, warn and error, got ${show(value)}.`;
  throw new ConfigurationError("PH_OPTION_INVALID", message, { path });
}

const databaseWords = "a postgres:// URL, embedded:<folder>, a pg.Pool or a PGlite instance";

/** By its form alone: nothing is loaded or opened. A text of another form is not repeated, because it may hold a password. */
function checkDatabase(value: unknown, path: string): DatabaseInput {
  if (typeof value === "string" && /^(postgres(ql)?:\/\/|embedded:)/.test(value)) return value;
  if (isPgPool(value) && isObject(value.options) && Reflect.get(value.options, "binary")) {
    const message = `${path} is a pool with the option binary, which cannot be used: parameters of statements are text. Leave it out.`;
    throw new ConfigurationError("PH_OPTION_INVALID", message, { path });
  }
  if (isPgPool(value) || isPglite(value)) return value;
  const got = typeof value === "string" ? "a text of another form" : show(value);
  const hint = isPgClient(value) ? " A single client cannot serve everybody: pass the pool." : "";
  const message = `${path} must be ${databaseWords}; got ${got}.${hint}`;
  throw new ConfigurationError("PH_OPTION_INVALID", message, { path });
}

/** How long and how much of the log is kept, as data. */
const retentionFields = {
  keepMs: {
    type: "duration",
    doc: "How long messages that have ended stay in the log, for status, why and history; too small and a message that somebody asks about is gone, too large and they take space. maxBytes may end it sooner. A quarter of it is the age at which the log goes on to the next segment",
    min: 60_000,
    max: limits.retentionMs,
    default: 604_800_000,
  },
  maxBytes: {
    type: "integer",
    doc: "Above so many bytes the oldest ended messages of the log go before keepMs is over; never what waits or runs, nor what a topic keeps. A quarter of it is the size at which the log goes on to the next segment",
    min: 67_108_864,
    max: limits.retentionBytes,
    default: 10_737_418_240,
    unit: "bytes",
  },
} as const satisfies Fields;

/** What is kept where nobody says it. */
export const defaultRetention = checkOptions({}, retentionFields, "retention");

export const instanceFields = {
  service: {
    type: "custom",
    doc: "The name of this service: owner of the events that it publishes, shown beside its workers",
    words: "the name of a service",
    required: true,
    check: (value: unknown) => checkName(value, "service"),
  },
  database: {
    type: "custom",
    doc: "Where messages are stored",
    words: databaseWords,
    required: true,
    check: checkDatabase,
  },
  migrate: {
    type: "choice",
    doc: "What to do when the schema is missing or older: migrate it, or refuse. Without it: auto on an embedded database, check on a server",
    values: ["auto", "check"],
  },
  pooler: {
    type: "choice",
    doc: "What stands between here and a PostgreSQL server: none, as for a pooler in session mode, gives each connection a session; transaction, as PgBouncer, Supavisor and Neon do it, does not, so workers poll, and are known to be dead by their heartbeats alone. Without it: none, and a pooler in transaction mode is refused",
    values: ["none", "transaction"],
  },
  schema: {
    type: "custom",
    doc: "The schema of this installation; another name makes another installation in the same database, which shares nothing with the first. Without it: posthorn",
    words: "a name of lower-case letters, digits and _",
    check: checkSchema,
  },
  logger: {
    type: "custom",
    doc: "Where to tell what nobody asked for: failed attempts, invalid messages, dead workers, alerts, lost connections. Without it: warnings and errors to the console, and that what they told of is over (information with the fact `recovered`)",
    words: "an object with info, warn and error, each called with a text and an object of facts",
    check: checkLogger,
  },
  statementTimeoutMs: {
    type: "duration",
    doc: "How long a statement of the library may take; too small and a busy server is given up, too large and a connection that no longer answers goes unnoticed for so long",
    min: 100,
    max: 3_600_000,
    default: databaseDefaults.statementTimeoutMs,
  },
  workerTimeoutMs: {
    type: "duration",
    doc: "Without a heartbeat for so long, a worker of this process counts as dead; too small and a busy process is taken for a dead one, too large and the messages of a stopped one wait",
    min: 1_000,
    max: 600_000,
    default: 15_000,
  },
  causationLimit: {
    type: "integer",
    doc: "How many handlers may lie between a message that a handler says and the message that began it; too small and long chains fail, too large and a ring of handlers goes on for long",
    min: 1,
    max: limits.causationDepthMost,
    default: limits.causationDepth,
  },
  retention: {
    type: "object",
    doc: "What is kept of the log. One for the fleet: the newest start that says it wins, and a process without it leaves what others said",
    fields: retentionFields,
  },
} as const satisfies Fields;

/** The options of `topic()`, as data. */
export const topicFields = {
  keepMs: {
    type: "duration",
    doc: "How long its messages stay readable at least, whatever maxBytes of the log says; without it as long as the log is kept. Too large and they take space: nothing that lies in the same segment goes sooner. Of two that differ the newest start wins",
    min: 60_000,
    max: limits.retentionMs,
  },
  lanes: {
    type: "integer",
    doc: "In how many parts its messages lie, those of a key in one of them; workers claim from several at once. Too few and workers wait for each other, too many and each look costs more. Fixed when the topic is made; another number is refused. Without it the number that it has, one for a new topic",
    min: 1,
    max: limits.lanes,
  },
} as const satisfies Fields;

function checkNames(value: unknown, path: string): readonly string[] {
  if (Array.isArray(value) && value.every((name) => typeof name === "string")) return value;
  throw new ConfigurationError("PH_OPTION_INVALID", `${path} must be a list of names, got ${show(value)}.`, { path });
}

const names = (what: string) =>
  ({
    type: "custom",
    doc: `The ${what} to work on; without any list all`,
    words: "a list of names",
    check: checkNames,
  }) as const;

export const startFields = {
  queues: names("queues"),
  subscriptions: names("subscriptions"),
  intakes: names("intakes"),
  handleSignals: {
    type: "boolean",
    doc: "Whether SIGINT and SIGTERM stop it, and end the process then; a second signal ends it at once",
    default: false,
  },
} as const satisfies Fields;

export const stopFields = {
  graceMs: {
    type: "duration",
    doc: "How long running handlers may take to finish; then their signal fires and their messages are handed back",
    min: 0,
    max: limits.waitMs,
    default: 20_000,
  },
} as const satisfies Fields;
