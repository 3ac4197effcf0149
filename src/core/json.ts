/**
 * Turns a payload into the JSON that is stored, and refuses what JSON would change in silence.
 *
 * One walk over the value, then JSON.stringify. The walk never builds a path before something is wrong, and it counts a
 * lower bound of the bytes, so that a value that shares its parts millions of times ends at the size limit and not never.
 * Characters are checked in the finished text: JSON writes a lone surrogate or a NUL as an escape that is quick to look for.
 *
 * Not carried and not refused: properties that JSON does not look at (not enumerable, symbol keys, names on arrays), and
 * properties that are undefined.
 */
import { ContractViolationError, PayloadTooLargeError } from "./errors.js";
import { limits } from "./limits.js";
import { isPlain, quote, show } from "./show.js";

export interface Json {
  readonly json: string;
  /** Whether reading the text back gives a value equal to the one that was passed. */
  readonly same: boolean;
}

/** Stops the walk; carries no stack and never leaves this file. */
class Fault {
  readonly reason: string;
  readonly key: string | number | undefined;
  constructor(reason: string, key: string | number | undefined) {
    this.reason = reason;
    this.key = key;
  }
}

interface Walk {
  readonly path: (string | number)[];
  readonly ancestors: object[];
  /** The property that is being read, for getters that throw. */
  reading: string | undefined;
  /** A lower bound of the JSON's bytes. */
  bytes: number;
  /** Properties that were undefined. */
  dropped: number;
  same: boolean;
  /** Whether to stop at once where JSON changes something, before any toJSON() is called. */
  readonly strict: boolean;
}

/**
 * Writes a value as JSON.
 *
 * Errors: `ContractViolationError` PH_PAYLOAD_NOT_JSON with the path, `PayloadTooLargeError`.
 * Limits: `payloadBytes`, `payloadDepth`.
 */
export function toJson(value: unknown, what: string): Json {
  const walk = newWalk(false);
  const json = write(value, walk, what);
  const bytes = bytesAtMost(json);
  if (bytes > limits.payloadBytes) throw tooLarge(bytes, what);
  if (hasEscapes(json)) checkText(JSON.parse(json), [], what);
  return { json, same: walk.same };
}

/**
 * Writes values as one JSON list, in half the time that one by one takes: most of it is the beginning and end of JSON.stringify.
 * Undefined where they must be looked at one by one: one may be refused, or JSON changes one, or all together are too large for one.
 */
export function toJsonList(values: readonly unknown[]): string | undefined {
  const walk = newWalk(true);
  try {
    visitItems(values, walk);
    if (walk.bytes > limits.payloadBytes) return undefined;
    const json = JSON.stringify(values);
    return hasEscapes(json) || bytesAtMost(json) > limits.payloadBytes ? undefined : json;
  } catch {
    return undefined;
  }
}

function newWalk(strict: boolean): Walk {
  return { path: [], ancestors: [], reading: undefined, bytes: 0, dropped: 0, same: true, strict };
}

/** The bytes, or a number that the limit allows: a letter takes at most three, so most payloads need no count. */
function bytesAtMost(json: string): number {
  return json.length * 3 <= limits.payloadBytes ? json.length : new TextEncoder().encode(json).length;
}

/** Whether there may be what PostgreSQL cannot store. */
function hasEscapes(json: string): boolean {
  return json.includes("\\u0000") || json.includes("\\ud");
}

function write(value: unknown, walk: Walk, what: string): string {
  let json: string | undefined;
  try {
    visit(value, undefined, walk);
    if (walk.bytes <= limits.payloadBytes) json = JSON.stringify(value);
  } catch (cause) {
    throw refusal(cause, walk, what);
  }
  if (json !== undefined) return json;
  // Nothing is written where the walk has stopped, or for a toJSON() that returns something else the second time.
  throw walk.bytes > limits.payloadBytes ? tooLarge(walk.bytes, what) : notJson("changes while it is read", [], what);
}

/** Returns nothing: what is wrong is thrown as a Fault, what is merely changed is noted in `same`. */
function visit(value: unknown, key: string | number | undefined, walk: Walk): void {
  switch (typeof value) {
    case "string":
      walk.bytes += value.length + 2;
      return;
    case "number":
      if (!Number.isFinite(value)) throw new Fault(`is ${value}`, key);
      if (value === 0 && Object.is(value, -0)) change(walk);
      walk.bytes += 1;
      return;
    case "boolean":
      walk.bytes += 4;
      return;
    case "object":
      if (value === null) walk.bytes += 4;
      else visitObject(value, key, walk);
      return;
    case "undefined":
      throw new Fault("is undefined", key);
    default:
      throw new Fault(`is ${show(value)}`, key);
  }
}

function visitObject(value: object, key: string | number | undefined, walk: Walk): void {
  if (key !== undefined) walk.path.push(key);
  if (walk.ancestors.push(value) > limits.payloadDepth) throw tooDeep(walk);
  let content: unknown = value;
  if ("toJSON" in value && typeof value.toJSON === "function") {
    change(walk);
    if (value instanceof Date && Number.isNaN(value.getTime())) throw new Fault("is an invalid date", undefined);
    content = value.toJSON(key === undefined ? "" : String(key));
  }
  if (typeof content !== "object" || content === null) visit(content, undefined, walk);
  else if (Array.isArray(content)) visitItems(content, walk);
  else if (isPlain(content)) visitProperties(content, walk);
  else throw new Fault(`is ${show(content)}, which has no toJSON()`, undefined);
  walk.ancestors.pop();
  if (key !== undefined) walk.path.pop();
}

function visitItems(items: readonly unknown[], walk: Walk): void {
  walk.bytes += 2;
  for (let index = 0; index < items.length && walk.bytes <= limits.payloadBytes; index += 1) {
    visit(items[index], index, walk);
  }
}

function visitProperties(content: object, walk: Walk): void {
  const properties = content as Readonly<Record<string, unknown>>;
  walk.bytes += 2;
  for (const key of Object.keys(properties)) {
    if (walk.bytes > limits.payloadBytes) return;
    walk.reading = key;
    const property = properties[key];
    walk.reading = undefined;
    if (property === undefined) {
      drop(walk);
      continue;
    }
    walk.bytes += key.length + 3;
    visit(property, key, walk);
  }
}

/** JSON changes something here. */
function change(walk: Walk): void {
  if (walk.strict) throw new Fault("is changed by JSON", undefined);
  walk.same = false;
}

/** Takes no byte of the JSON, so it has a count of its own. */
function drop(walk: Walk): void {
  change(walk);
  walk.dropped += 1;
  if (walk.dropped > limits.payloadBytes) throw new Fault("has undefined properties without end", undefined);
}

function tooDeep(walk: Walk): Fault {
  const { ancestors, path } = walk;
  const again = ancestors.findIndex((ancestor, index) => ancestors.indexOf(ancestor) < index);
  if (again < 0) {
    path.length = 8;
    return new Fault(`begins a nesting of more than ${limits.payloadDepth} levels`, undefined);
  }
  path.length = again;
  return new Fault("is circular: it contains itself", undefined);
}

/** Finds the text behind an escape: one that the payload itself spells out, as in a program's source, is harmless. */
function checkText(value: unknown, path: readonly (string | number)[], what: string): void {
  if (typeof value === "string") refuseText(value, "has", path, what);
  if (typeof value !== "object" || value === null) return;
  for (const [key, item] of Object.entries(value)) {
    refuseText(key, "has a property whose name has", path, what);
    checkText(item, [...path, Array.isArray(value) ? Number(key) : key], what);
  }
}

function refuseText(text: string, verb: string, path: readonly (string | number)[], what: string): void {
  if (text.includes("\0")) throw notJson(`${verb} a NUL character, which PostgreSQL cannot store`, path, what);
  if (!isWellFormed(text)) throw notJson(`${verb} half of a surrogate pair (broken Unicode)`, path, what);
}

/** Whether a string is valid Unicode. */
export function isWellFormed(text: string): boolean {
  return !/\p{Surrogate}/u.test(text);
}

function refusal(cause: unknown, walk: Walk, what: string): Error {
  if (cause instanceof Fault) {
    return notJson(cause.reason, cause.key === undefined ? walk.path : [...walk.path, cause.key], what);
  }
  const path = walk.reading === undefined ? walk.path : [...walk.path, walk.reading];
  return notJson("throws when it is read", path, what, cause);
}

function notJson(reason: string, path: readonly (string | number)[], what: string, cause?: unknown): Error {
  const at = showPath(path);
  const message = `The ${what} cannot be stored as JSON: ${at === "" ? "it" : at} ${reason}. Pass plain objects, arrays, strings, finite numbers, booleans and null.`;
  return new ContractViolationError("PH_PAYLOAD_NOT_JSON", message, { path: at }, cause);
}

function tooLarge(bytes: number, what: string): Error {
  const message = `The ${what} takes ${bytes} bytes or more as JSON; at most ${limits.payloadBytes} are allowed. Store the data elsewhere and pass a reference.`;
  return new PayloadTooLargeError("PH_PAYLOAD_TOO_LARGE", message, { bytes, maxBytes: limits.payloadBytes });
}

/** `lines[3].price`; names that are no identifiers are quoted. */
export function showPath(path: readonly PropertyKey[]): string {
  let shown = "";
  for (const step of path.slice(0, limits.payloadDepth)) {
    if (typeof step === "string" && /^[A-Za-z_$][\w$]{0,39}$/.test(step)) shown += shown === "" ? step : `.${step}`;
    else shown += typeof step === "string" ? `[${quote(step)}]` : `[${String(step)}]`;
  }
  return shown;
}
