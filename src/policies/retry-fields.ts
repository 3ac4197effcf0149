/** The options of each kind of retry as data, and their check under the name of the policy that holds them. */
import { ConfigurationError } from "../core/errors.js";
import { limits } from "../core/limits.js";
import { checkOptions, type Fields } from "../core/options.js";
import { show } from "../core/show.js";
import {
  type CustomRetry,
  defaultJitter,
  type ExponentialRetry,
  type FixedRetry,
  jitters,
  type Retry,
} from "./retry.js";

const duration = { type: "duration", min: 1, max: limits.durationMs } as const;
const attempts = {
  type: "integer",
  min: 1,
  max: limits.attempts,
  required: true,
  doc: "Runs in all, the first included",
} as const;
const immediate = {
  type: "integer",
  min: 0,
  max: limits.attempts - 1,
  default: 0,
  doc: "Retries that come at once, before the first wait; fewer than attempts",
} as const;

/** The options of each kind of retry, beside its `kind`. */
export const retryFields = {
  exponential: {
    attempts,
    firstMs: {
      ...duration,
      required: true,
      doc: "The wait after the first failure; it doubles after each further one",
    },
    maxMs: { ...duration, required: true, doc: "The longest wait; not smaller than firstMs" },
    jitter: {
      type: "choice",
      values: jitters,
      default: defaultJitter,
      doc: "How waits are spread: over all of each, over its upper half, or not at all; with full, an outage may outlast the attempts in no time",
    },
    immediate,
  },
  fixed: { attempts, delayMs: { ...duration, required: true, doc: "The wait after each failure" }, immediate },
  delays: {
    delaysMs: {
      type: "custom",
      words: `a list of 1 to ${limits.attempts - 1} integers from 0 to ${limits.durationMs} (milliseconds)`,
      required: true,
      doc: "The wait after each failure; there is one attempt more than waits",
      check: checkDelays,
    },
    attempts: { type: "integer", min: 2, max: limits.attempts, doc: "Follows from the list" },
  },
  custom: {
    attempts,
    delayMs: {
      type: "custom",
      words: "a function (attempt, error) => milliseconds",
      required: true,
      doc: "The wait after so many failures, the newest of which is the error",
      check: checkFunction,
    },
  },
  none: { attempts: { ...attempts, max: 1 } },
} as const satisfies Record<Retry["kind"], Fields>;

export const retryWords =
  "retry.exponential({ … }), retry.fixed({ … }), retry.delays([…]), retry.custom({ … }) or retry.none";

export function checkRetry(value: unknown, path: string): Retry {
  if (typeof value === "object" && value !== null && "kind" in value) {
    const { kind, ...options } = value;
    switch (kind) {
      case "exponential":
        return checkExponential(options, path);
      case "fixed":
        return checkImmediate(Object.freeze({ kind, ...checkOptions(options, retryFields.fixed, path) }), path);
      case "delays":
        return checkListed(options, path);
      case "custom":
        return Object.freeze({ kind, ...checkOptions(options, retryFields.custom, path) });
      case "none":
        checkOptions(options, retryFields.none, path);
        return Object.freeze({ kind, attempts: 1 });
    }
  }
  return refuse(path, `must be ${retryWords}; got ${show(value)}.`);
}

function checkExponential(options: object, path: string): Retry {
  const checked = checkOptions(options, retryFields.exponential, path);
  if (checked.maxMs < checked.firstMs) {
    refuse(`${path}.maxMs`, `(${checked.maxMs}) must not be smaller than ${path}.firstMs (${checked.firstMs}).`);
  }
  const jitter = jitters.find((one) => one === checked.jitter) ?? defaultJitter;
  return checkImmediate(Object.freeze({ kind: "exponential", ...checked, jitter }), path);
}

function checkImmediate<R extends ExponentialRetry | FixedRetry>(checked: R, path: string): R {
  const { immediate: atOnce = 0, attempts: runs } = checked;
  if (atOnce < runs) return checked;
  return refuse(`${path}.immediate`, `(${atOnce}) must be smaller than ${path}.attempts (${runs}).`);
}

function checkListed(options: object, path: string): Retry {
  const { delaysMs, attempts: runs } = checkOptions(options, retryFields.delays, path);
  if (runs !== undefined && runs !== delaysMs.length + 1) {
    refuse(`${path}.attempts`, `(${runs}) must be one more than the waits in the list (${delaysMs.length}).`);
  }
  return Object.freeze({ kind: "delays", delaysMs, attempts: delaysMs.length + 1 });
}

function checkDelays(value: unknown, path: string): readonly number[] {
  const { words } = retryFields.delays.delaysMs;
  if (!Array.isArray(value) || value.length < 1 || value.length >= limits.attempts) {
    const got = Array.isArray(value) ? `a list of ${value.length}` : show(value);
    return refuse(path, `must be ${words}, got ${got}.`);
  }
  const list: readonly unknown[] = Array.from(value);
  return Object.freeze(
    list.map((one, i) => {
      const fits = Number.isSafeInteger(one) && !Object.is(one, -0) && Number(one) >= 0;
      if (fits && Number(one) <= limits.durationMs) return Number(one);
      return refuse(
        `${path}[${i}]`,
        `must be an integer from 0 to ${limits.durationMs} (milliseconds), got ${show(one)}.`,
      );
    }),
  );
}

function checkFunction(value: unknown, path: string): CustomRetry["delayMs"] {
  if (isWait(value)) return value;
  return refuse(path, `must be ${retryFields.custom.delayMs.words}, got ${show(value)}.`);
}

/** Whatever it returns is looked at when it is called. */
function isWait(value: unknown): value is CustomRetry["delayMs"] {
  return typeof value === "function";
}

function refuse(path: string, what: string): never {
  throw new ConfigurationError("PH_OPTION_INVALID", `${path} ${what}`, { path });
}
