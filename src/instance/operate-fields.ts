/** The options of `post.operate`, as data. */
import { ConfigurationError } from "../core/errors.js";
import { limits } from "../core/limits.js";
import type { Fields } from "../core/options.js";
import { show } from "../core/show.js";
import type { Operation, WaitingState } from "../store/operations.js";
import { mostWaiting, type UnendedState, unendedStates } from "../store/waiting.js";

const by = { type: "string", maxLength: 200, required: true, doc: "Who orders it, for the record" } as const;
const reason = { type: "string", maxLength: 500, doc: "Why, for the record" } as const;
const confirm = (what: string) =>
  ({ type: "string", maxLength: 512, required: true, doc: `Repeats ${what}; otherwise nothing is changed` }) as const;
const name = (doc: string) => ({ type: "string", maxLength: limits.nameLength, doc }) as const;

function isFunction(value: unknown): value is (operation: Operation) => void {
  return typeof value === "function";
}

const pace = {
  perSecond: {
    type: "integer",
    min: 1,
    max: 100_000,
    doc: "At most so many messages a second; as fast as it goes without it",
  },
  onProgress: {
    type: "custom",
    doc: "Called after each piece",
    words: "a function that is given the operation",
    check: (value: unknown, path: string) => {
      if (isFunction(value)) return value;
      throw new ConfigurationError("PH_OPTION_INVALID", `${path} must be a function, got ${show(value)}.`, { path });
    },
  },
  signal: {
    type: "custom",
    doc: "Ends it after the piece that is under way; it can be continued",
    words: "an AbortSignal",
    check: (value: unknown, path: string) => {
      if (value instanceof AbortSignal) return value;
      throw new ConfigurationError("PH_OPTION_INVALID", `${path} must be an AbortSignal, got ${show(value)}.`, {
        path,
      });
    },
  },
} as const satisfies Fields;

const states: readonly WaitingState[] = ["queued", "scheduled", "retrying", "parked"];

function checkStates(value: unknown, path: string): readonly WaitingState[] {
  const isState = (one: unknown): one is WaitingState => states.some((state) => state === one);
  if (Array.isArray(value) && value.length > 0 && value.every(isState)) return value;
  throw new ConfigurationError(
    "PH_OPTION_INVALID",
    `${path} must be a list of ${states.join(", ")}, got ${show(value)}.`,
    { path },
  );
}

function checkUnended(value: unknown, path: string): readonly UnendedState[] {
  const isState = (one: unknown): one is UnendedState => unendedStates.some((state) => state === one);
  if (Array.isArray(value) && value.length > 0 && value.every(isState)) return value;
  const message = `${path} must be a list of ${unendedStates.join(", ")}, got ${show(value)}.`;
  throw new ConfigurationError("PH_OPTION_INVALID", message, { path });
}

const date = (doc: string) =>
  ({
    type: "custom",
    doc,
    words: "a Date",
    check: (value: unknown, path: string): Date => {
      if (value instanceof Date && !Number.isNaN(value.getTime())) return value;
      throw new ConfigurationError("PH_OPTION_INVALID", `${path} must be a valid Date, got ${show(value)}.`, { path });
    },
  }) as const;

export const paceFields = pace;
export const resumeFields = { by } as const satisfies Fields;
export const pauseFields = { by, reason } as const satisfies Fields;
export const drainFields = {
  withinMs: {
    type: "duration",
    min: 0,
    max: limits.waitMs,
    default: 600_000,
    doc: "How long to wait; too small and what is only slow looks stuck, too large and what is stuck is noticed late",
  },
  signal: pace.signal,
} as const satisfies Fields;
export const purgeFields = {
  by,
  reason,
  confirm: confirm("the name"),
  states: {
    type: "custom",
    doc: "Which messages; without it all that wait",
    words: `a list of ${states.join(", ")}`,
    check: checkStates,
  },
  ...pace,
} as const satisfies Fields;
export const lettersFields = {
  by,
  reason,
  list: {
    type: "choice",
    values: ["dead-letters", "invalid"],
    required: true,
    doc: "The list that they are taken from",
  },
  subscription: name("Only those of this queue or subscription"),
  contract: name("Only those of this contract"),
  group: { type: "string", maxLength: 32, doc: "Only those whose newest error has this fingerprint" },
  ...pace,
} as const satisfies Fields;
export const replayFields = {
  by,
  reason,
  confirm: confirm("the name"),
  from: { ...date("Messages that were said from then on"), required: true },
  to: date("Messages that were said before then; without it all until now"),
  contract: name("Only messages of this contract"),
  ...pace,
} as const satisfies Fields;
export const eraseFields = {
  by,
  reason,
  confirm: confirm("the key"),
  contract: name("Only messages of this contract"),
  channel: name("Only messages of this queue or topic"),
  ...pace,
} as const satisfies Fields;
export const removeFields = { by, reason, confirm: confirm("the name"), ...pace } as const satisfies Fields;
export const auditFields = {
  limit: { type: "integer", min: 1, max: 1_000, default: 20, doc: "How many, the newest first" },
  unfinished: { type: "boolean", default: false, doc: "Only what runs or was interrupted" },
} as const satisfies Fields;

export const waitingFields = {
  limit: { type: "integer", min: 1, max: mostWaiting, default: 20, doc: "How many, those that were said first" },
  states: {
    type: "custom",
    doc: "Only those of these states; without it all, but not what is scheduled for later",
    words: "a list of states of a message that has not ended",
    check: checkUnended,
  },
} as const satisfies Fields;
