/**
 * Runs the schemas: when a message is said, when it arrives, and for results, requests and answers.
 *
 * Everything stays synchronous as long as the schema is; only a schema that returns a promise makes a promise. What is stored is
 * the input as said; a handler and `key` get the output, so transforms and defaults must be pure.
 */
import { ContractViolationError, type ErrorCode } from "../core/errors.js";
import { isWellFormed, toJson, toJsonList } from "../core/json.js";
import { limits } from "../core/limits.js";
import { show } from "../core/show.js";
import { isThenable } from "../core/thenable.js";
import { clause } from "../core/words.js";
import type { AnyContract } from "./contract.js";
import { type Issue, issuesInWords, readIssues } from "./issues.js";
import type { Schema } from "./standard-schema.js";
import { raise } from "./upcast.js";

/** What `send` and `publish` write. */
export interface Prepared {
  readonly json: string;
  readonly key: string | null;
}
/** Many of one contract. */
export interface PreparedList {
  readonly count: number;
  /** The payloads as one JSON list. */
  readonly list: string;
  /** Null where the contract has none. */
  readonly keys: readonly string[] | null;
}
/** A result to store; null where the contract has none. */
export interface PreparedResult {
  readonly json: string | null;
}
export type Received =
  | { readonly ok: true; readonly payload: unknown }
  | { readonly ok: false; readonly issues: readonly Issue[] };
/** The output of a schema, wrapped: the output itself may be a promise-like. */
export interface Checked {
  readonly value: unknown;
}

/** How a schema ended; `code` names the error that a caller gets. */
type Verdict =
  | { readonly ok: true; readonly value: unknown }
  | { readonly ok: false; readonly code: ErrorCode; readonly issues: readonly Issue[]; readonly cause?: unknown };

/**
 * Checks a payload that is about to be said.
 *
 * Errors: `ContractViolationError`, `PayloadTooLargeError`; thrown where the schema is synchronous, else the promise rejects.
 */
export function prepare(contract: AnyContract, payload: unknown): Prepared | Promise<Prepared> {
  const what = `payload of ${contract.name}`;
  const { inside } = contract["~posthorn"];
  const { json, same } = toJson(payload, what);
  return then(run(inside.schema, same ? payload : JSON.parse(json)), (verdict) => {
    const output = accept(verdict, what);
    return { json, key: contract.keyed ? keyOf(contract, output) : null };
  });
}

/** Schemas that have answered with a promise. */
const lateSchemas = new WeakSet<Schema>();

/**
 * The same for many at once, which is quicker. Undefined where each must be looked at by itself, with `prepare`: one may be wrong, or the schema
 * is asynchronous.
 */
export function prepareList(contract: AnyContract, payloads: readonly unknown[]): PreparedList | undefined {
  const { schema } = contract["~posthorn"].inside;
  const list = lateSchemas.has(schema) ? undefined : toJsonList(payloads);
  if (list === undefined) return undefined;
  const keys: string[] | null = contract.keyed ? [] : null;
  for (const payload of payloads) {
    const verdict = run(schema, payload);
    if (verdict instanceof Promise) lateSchemas.add(schema);
    if (verdict instanceof Promise || !verdict.ok) return undefined;
    keys?.push(keyOf(contract, verdict.value));
  }
  return { count: payloads.length, list, keys };
}

/** Checks a payload on arrival, as the version that it was said in. What does not fit is told and not thrown: the message is invalid, and is not retried. */
export function receive(
  contract: AnyContract,
  value: unknown,
  version: number = contract.version,
): Received | Promise<Received> {
  const { schema } = contract["~posthorn"].inside;
  if (version === contract.version) return then(run(schema, value), asReceived);
  const raised = raise(contract, version, value);
  return raised.ok ? then(run(schema, raised.payload), asReceived) : raised;
}

/** Checks what a handler returned before it is stored; a contract without a result stores none. Throws as `prepare` does. */
export function checkResult(contract: AnyContract, value: unknown): PreparedResult | Promise<PreparedResult> {
  const schema = contract["~posthorn"].inside.result;
  if (schema === undefined) return { json: null };
  const what = `result of ${contract.name}`;
  const { json, same } = toJson(value, what);
  return then(run(schema, same ? value : JSON.parse(json)), (verdict) => {
    accept(verdict, what);
    return { json };
  });
}

/** Checks a stored result for the one who waits for it. */
export function receiveResult(contract: AnyContract, value: unknown): Received | Promise<Received> {
  const schema = contract["~posthorn"].inside.result;
  return schema === undefined ? { ok: true, payload: undefined } : then(run(schema, value), asReceived);
}

/** Checks the request of a query. It never leaves the process, so it need not be JSON. */
export function checkRequest(contract: AnyContract<"query">, request: unknown): Checked | Promise<Checked> {
  const what = `request of ${contract.name}`;
  return then(run(contract["~posthorn"].inside.schema, request), (verdict) => ({ value: accept(verdict, what) }));
}

/** Checks the answer of a query. */
export function checkAnswer(contract: AnyContract<"query">, answer: unknown): Checked | Promise<Checked> {
  const schema = contract["~posthorn"].inside.result;
  if (schema === undefined) return { value: answer };
  return then(run(schema, answer), (verdict) => ({ value: accept(verdict, `answer of ${contract.name}`) }));
}

function then<T, R>(value: T | Promise<T>, next: (value: T) => R): R | Promise<R> {
  return value instanceof Promise ? value.then(next) : next(value);
}

function run(schema: Schema, value: unknown): Verdict | Promise<Verdict> {
  try {
    const result = schema["~standard"].validate(value);
    return isThenable(result) ? runLate(result) : judge(result);
  } catch (cause) {
    return failed(cause);
  }
}

/** The timer is cleared either way; a rejection after the time-out is taken by the race and troubles nobody. */
async function runLate(result: PromiseLike<unknown>): Promise<Verdict> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<Verdict>((resolve) => {
    timer = setTimeout(() => resolve(timedOut()), limits.schemaMs);
  });
  try {
    return await Promise.race([Promise.resolve(result).then(judge).catch(failed), late]);
  } finally {
    clearTimeout(timer);
  }
}

function judge(result: unknown): Verdict {
  if (typeof result !== "object" || result === null) {
    return failed(new TypeError(`the schema returned ${show(result)} instead of { value } or { issues }`));
  }
  if ("issues" in result && result.issues)
    return { ok: false, code: "PH_PAYLOAD_INVALID", issues: readIssues(result.issues) };
  return { ok: true, value: "value" in result ? result.value : undefined };
}

function failed(cause: unknown): Verdict {
  const issues = readIssues([{ message: `the schema threw: ${reasonOf(cause)}` }]);
  return { ok: false, code: "PH_SCHEMA_FAILED", issues, cause };
}

/** Never throws: what foreign code throws may be anything. */
function reasonOf(cause: unknown): string {
  try {
    return cause instanceof Error ? String(cause.message) : show(cause);
  } catch {
    return "an error that cannot be read";
  }
}

function timedOut(): Verdict {
  const message = `the schema did not answer within ${limits.schemaMs} ms`;
  return { ok: false, code: "PH_SCHEMA_TIMEOUT", issues: [{ path: "", message }] };
}

function asReceived(verdict: Verdict): Received {
  return verdict.ok ? { ok: true, payload: verdict.value } : { ok: false, issues: verdict.issues };
}

const ways = {
  PH_PAYLOAD_INVALID: "does not fit its schema",
  PH_SCHEMA_FAILED: "could not be checked",
  PH_SCHEMA_TIMEOUT: "could not be checked",
} as const satisfies Partial<Record<ErrorCode, string>>;

function accept(verdict: Verdict, what: string): unknown {
  if (verdict.ok) return verdict.value;
  const { code, issues, cause } = verdict;
  const way = code in ways ? ways[code as keyof typeof ways] : ways.PH_SCHEMA_FAILED;
  throw new ContractViolationError(code, `The ${what} ${way}: ${issuesInWords(issues)}.`, { issues }, cause);
}

/** The key of a message whose contract has one. Errors: `ContractViolationError`. */
export function keyOf(contract: AnyContract, output: unknown): string {
  let key: unknown;
  try {
    key = contract["~posthorn"].inside.key?.(output);
  } catch (cause) {
    throw new ContractViolationError(
      "PH_SCHEMA_FAILED",
      `The key function of ${contract.name} threw: ${clause(reasonOf(cause).slice(0, limits.issueLength))}. It gets the output of the schema; nothing was written.`,
      {},
      cause,
    );
  }
  const wrong = wrongKey(key);
  if (wrong === undefined && typeof key === "string") return key;
  const message = `The key of ${contract.name} must be a string of 1 to ${limits.keyBytes} bytes; its key function returned ${wrong}.`;
  throw new ContractViolationError("PH_KEY_INVALID", message, { maxBytes: limits.keyBytes });
}

function wrongKey(key: unknown): string | undefined {
  if (typeof key !== "string") {
    // An asynchronous key function is refused; its own failure must not surface later as an unhandled rejection.
    if (isThenable(key)) Promise.resolve(key).then(undefined, () => undefined);
    return show(key);
  }
  if (key === "") return "an empty string";
  if (key.includes("\0")) return "a string with a NUL character";
  if (!isWellFormed(key)) return "a string with half of a surrogate pair";
  const bytes = key.length * 3 <= limits.keyBytes ? 0 : new TextEncoder().encode(key).length;
  return bytes > limits.keyBytes ? `one of ${bytes} bytes` : undefined;
}
