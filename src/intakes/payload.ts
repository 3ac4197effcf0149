/**
 * Payloads as they came: JSON text that is checked and stored as it is, so that nothing of it is changed on the way through.
 *
 * What cannot be stored or read back is refused as `send` and `publish` refuse it. The whole value is walked only where its text gives a reason to.
 */
import { toJson } from "../core/json.js";
import { limits } from "../core/limits.js";

export interface Parsed {
  readonly json: string;
  readonly value: unknown;
}

/** Errors: a text that is no JSON (`SyntaxError`), `ContractViolationError`, `PayloadTooLargeError`. */
export function parsePayload(text: string, what: string): Parsed {
  const value: unknown = JSON.parse(text);
  // An escape may stand for what PostgreSQL cannot store.
  if (isLarge(text) || mayBeDeep(text) || text.includes("\\u")) toJson(value, what);
  return { json: text, value };
}

/** Larger than its value: with spaces, or escapes. */
export function isLarge(text: string): boolean {
  return text.length * 3 > limits.payloadBytes && Buffer.byteLength(text) > limits.payloadBytes;
}

/** No value is deeper than there are brackets that open. */
function mayBeDeep(text: string): boolean {
  let opened = 0;
  for (const bracket of ["{", "["]) {
    for (let at = text.indexOf(bracket); at >= 0; at = text.indexOf(bracket, at + 1)) {
      opened += 1;
      if (opened > limits.payloadDepth) return true;
    }
  }
  return false;
}
