/**
 * What `send` may say beside the payload: when it begins at the earliest and at the latest, how urgent it is, and what counts as the same
 * request. Checked here, so that the caller sees what is wrong; decided in SQL, on the clock of the database.
 */
import { ConfigurationError, ContractViolationError } from "../core/errors.js";
import { limits } from "../core/limits.js";
import type { Fields, OptionsOf } from "../core/options.js";
import { show } from "../core/show.js";
import type { Extras } from "../store/publish.js";

const wait = { type: "duration", max: limits.durationMs } as const;

/** The options of dedupe, as data. */
const dedupeFields = {
  key: {
    type: "custom",
    doc: "What two requests have in common that are the same, within their contract",
    words: "a string, or a function of the payload as it was said that returns one",
    required: true,
    check: (value: unknown, path: string): string | ((payload: unknown) => unknown) =>
      typeof value === "function" ? (payload) => value(payload) : checkKey(value, path),
  },
  mode: {
    type: "choice",
    doc: "What becomes of a further request: dropped, collapsed into one at the end of the window or after a pause, put in place of the one that waits, or kept once more after the one that runs",
    values: ["drop", "throttle", "debounce", "replace", "once-more"],
    required: true,
  },
  windowMs: {
    ...wait,
    min: 1,
    doc: "For drop, throttle and debounce, required: how long a request stands for further ones; too small and repetitions get through, too large and new requests are taken for old ones",
  },
  maxWaitMs: {
    ...wait,
    min: 1,
    doc: "For debounce: the longest wait since the first request; without it a steady stream is never run",
  },
} as const satisfies Fields;

/** The options of `send` beside its headers, as data. */
export const extraOptions = {
  delayMs: { ...wait, min: 0, doc: "Begin no earlier than after this time" },
  runAt: {
    type: "custom",
    doc: "Begin no earlier than at this time of the database's clock; one in the past means now",
    words: "a Date, at most 10 years from now",
    check: checkRunAt,
  },
  expiresInMs: {
    ...wait,
    min: 1,
    doc: "Begin no run after this time, retries included; one that runs then is not stopped. Too small and a short backlog loses messages",
  },
  priority: {
    type: "integer",
    doc: "The class of urgency, 0 for most; higher ones are handled first, and waiting 30 seconds counts as one class more",
    min: -2,
    max: 2,
  },
  dedupe: { type: "object", doc: "Recognise the same request", fields: dedupeFields },
} as const satisfies Fields;

type Given = OptionsOf<typeof extraOptions>;
type GivenDedupe = NonNullable<Given["dedupe"]>;

/** What one message has beside its payload, which may decide about its key. */
export type ExtrasOf = (payload: unknown) => Extras;

/** What was said beside the payloads of one call; undefined when it was nothing. `path` is what the options are of, like "send()". */
export function encodeExtras(given: Given, contract: string, path: string): ExtrasOf | undefined {
  checkRelations(given, path);
  const { delayMs = 0, runAt, expiresInMs, priority = 0 } = given;
  const { dedupe } = given;
  if (delayMs === 0 && runAt === undefined && expiresInMs === undefined && priority === 0 && dedupe === undefined) {
    return undefined;
  }
  const common = {
    json: JSON.stringify({
      ...(delayMs === 0 ? {} : { delayMs }),
      ...(runAt === undefined ? {} : { runAt: runAt.toISOString() }),
      ...(expiresInMs === undefined ? {} : { expiresInMs }),
      ...(priority === 0 ? {} : { priority }),
      ...(dedupe === undefined ? {} : { dedupe: { ...dedupe, key: undefined } }),
    }),
    priority,
    waits: delayMs > 0 || runAt !== undefined || (dedupe !== undefined && dedupe.mode !== "drop"),
  };
  const none: Extras = { ...common, dedupeKey: undefined, dropWithinMs: undefined, once: undefined };
  if (dedupe === undefined) return () => none;
  const alone = dedupe.mode === "drop" && !common.waits && expiresInMs === undefined && priority === 0;
  const dropWithinMs = alone ? dedupe.windowMs : undefined;
  return (payload) => {
    const key = keyOf(dedupe, payload, path);
    return { ...common, dedupeKey: key, dropWithinMs, once: `${contract}\0${key}` };
  };
}

function checkRelations({ delayMs, runAt, expiresInMs, dedupe }: Given, path: string): void {
  const refuse = (option: string, message: string): never => {
    throw new ConfigurationError("PH_OPTION_INVALID", message, { path: `${path}.${option}` });
  };
  if (delayMs !== undefined && runAt !== undefined) refuse("runAt", `${path} takes delayMs or runAt, not both.`);
  if (expiresInMs !== undefined && delayMs !== undefined && expiresInMs <= delayMs) {
    const message = `${path}.expiresInMs (${expiresInMs}) must be longer than ${path}.delayMs (${delayMs}): it would expire before it may begin.`;
    refuse("expiresInMs", message);
  }
  if (dedupe === undefined) return;
  const { mode, windowMs, maxWaitMs } = dedupe;
  const windowed = mode === "drop" || mode === "throttle" || mode === "debounce";
  if (windowed && windowMs === undefined) {
    refuse("dedupe.windowMs", `${path}.dedupe lacks the option windowMs, which the mode "${mode}" needs.`);
  }
  if (!windowed && windowMs !== undefined) {
    refuse(
      "dedupe.windowMs",
      `${path}.dedupe.windowMs does not go with the mode "${mode}", which has no window. Leave it out.`,
    );
  }
  if (mode !== "debounce" && maxWaitMs !== undefined) {
    refuse(
      "dedupe.maxWaitMs",
      `${path}.dedupe.maxWaitMs goes with the mode "debounce" alone, not with "${mode}". Leave it out.`,
    );
  }
  if (maxWaitMs !== undefined && windowMs !== undefined && maxWaitMs < windowMs) {
    refuse(
      "dedupe.maxWaitMs",
      `${path}.dedupe.maxWaitMs (${maxWaitMs}) must not be shorter than windowMs (${windowMs}).`,
    );
  }
  const timed = delayMs !== undefined ? "delayMs" : runAt !== undefined ? "runAt" : undefined;
  if (timed !== undefined && mode !== "drop" && mode !== "replace") {
    refuse(
      timed,
      `${path}.${timed} does not go with dedupe of the mode "${mode}", which says itself when the message begins.`,
    );
  }
}

function keyOf({ key }: GivenDedupe, payload: unknown, path: string): string {
  return typeof key === "string" ? key : checkKey(keyFrom(key, payload, path), `${path}.dedupe.key`);
}

function keyFrom(key: (payload: unknown) => unknown, payload: unknown, path: string): unknown {
  try {
    return key(payload);
  } catch (cause) {
    const message = `The function ${path}.dedupe.key threw; nothing was written.`;
    throw new ContractViolationError("PH_SCHEMA_FAILED", message, { path: `${path}.dedupe.key` }, cause);
  }
}

function checkKey(value: unknown, path: string): string {
  const bytes = typeof value === "string" ? Buffer.byteLength(value) : 0;
  if (
    typeof value === "string" &&
    bytes > 0 &&
    bytes <= limits.keyBytes &&
    value.isWellFormed() &&
    !value.includes("\0")
  ) {
    return value;
  }
  const message = `${path} must be a string of 1 to ${limits.keyBytes} bytes without NUL and half characters, got ${show(value)}.`;
  throw new ConfigurationError("PH_OPTION_INVALID", message, { path });
}

function checkRunAt(value: unknown, path: string): Date {
  const at = value instanceof Date ? value.getTime() : Number.NaN;
  // Years before 0 are no times of a message; a Date could hold them.
  if (at >= 0 && at <= Date.now() + limits.durationMs) return new Date(at);
  const shown = value instanceof Date && !Number.isNaN(at) ? value.toISOString() : show(value);
  const message = `${path} must be a Date from 1970 on and at most 10 years from now, got ${shown}.`;
  throw new ConfigurationError("PH_OPTION_INVALID", message, { path });
}
