/** The headers of a webhook: which may be set from outside, and how their values travel. */
import { ConfigurationError } from "../../core/errors.js";
import { isPlain, quote, show } from "../../core/show.js";
import { setHeader } from "../header-names.js";

const token = /^[!#$%&'*+.^_`|~0-9A-Za-z-]{1,100}$/;
/** What HTTP, the signature and the envelope need for themselves. */
const reserved = new Set([
  "connection",
  "content-encoding",
  "content-length",
  "content-type",
  "expect",
  "host",
  "keep-alive",
  "proxy-connection",
  "te",
  "trailer",
  "transfer-encoding",
  "upgrade",
]);

function isReserved(name: string): boolean {
  return reserved.has(name) || name.startsWith("ce-") || name.startsWith("webhook-");
}

/** Why a header cannot travel over HTTP; undefined when it can. */
function problemOf(name: string, value: string): string | undefined {
  if (!token.test(name)) return "its name has letters that HTTP does not allow";
  if (isReserved(name.toLowerCase())) return "HTTP, the signature or the envelope uses this name";
  // biome-ignore lint/suspicious/noControlCharactersInRegex: these are the letters that end or break a header.
  return /[\x00-\x08\x0a-\x1f\x7f]/.test(value) ? "its value has control characters" : undefined;
}

/** The first header of a message that cannot travel, and why. */
export function unfitHeader(headers: Readonly<Record<string, string>>): string | undefined {
  for (const [name, value] of Object.entries(headers)) {
    const problem = problemOf(name, value);
    if (problem !== undefined) return `its header ${quote(name)} cannot travel over HTTP: ${problem}`;
  }
  return undefined;
}

// biome-ignore lint/suspicious/noControlCharactersInRegex: all of ASCII.
const ascii = /^[\x00-\x7f]*$/;

/** Node writes headers as Latin-1: so UTF-8 goes as its bytes, and arrives as them. */
export function onTheWire(value: string): string {
  if (ascii.test(value)) return value;
  return Buffer.from(value.toWellFormed()).toString("latin1");
}

/** The contrary; what is no UTF-8 was written by somebody else, and stays. */
export function fromTheWire(value: string): string {
  if (ascii.test(value)) return value;
  const text = Buffer.from(value, "latin1").toString();
  return text.includes("\uFFFD") ? value : text;
}

/** Headers of an option, which go with each webhook. The values are never shown. */
export function readHeaders(value: unknown, path: string): Readonly<Record<string, string>> {
  if (typeof value !== "object" || value === null || !isPlain(value)) {
    refuse(path, `must be a plain object of strings, got ${typeof value === "string" ? "a string" : show(value)}`);
  }
  const headers: Record<string, string> = {};
  for (const [name, one] of Object.entries(value)) {
    if (typeof one !== "string") refuse(path, `has ${quote(name)}, whose value is not a string`);
    const problem = problemOf(name, one);
    if (problem !== undefined) refuse(path, `has ${quote(name)}, which cannot be set: ${problem}`);
    setHeader(headers, name.toLowerCase(), one);
  }
  return headers;
}

function refuse(path: string, problem: string): never {
  throw new ConfigurationError("PH_OPTION_INVALID", `${path} ${problem}.`, { path });
}
