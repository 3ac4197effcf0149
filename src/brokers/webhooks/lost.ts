/** Why there was no answer, in words that can be stored: codes and nothing of what went over the line. */
import { ConfigurationError } from "../../core/errors.js";
import { tlsTroubleOf } from "../../core/tls-codes.js";

const words: Readonly<Record<string, string>> = {
  ECONNREFUSED: "The connection was refused.",
  ECONNRESET: "The connection was closed before there was an answer.",
  EPIPE: "The connection was closed before there was an answer.",
  ENOTFOUND: "The name of the host does not exist.",
  EAI_AGAIN: "The name of the host cannot be resolved now.",
  ETIMEDOUT: "There was no connection in time.",
  EHOSTUNREACH: "The host cannot be reached.",
  ENETUNREACH: "The network of the host cannot be reached.",
  HPE_HEADER_OVERFLOW: "The headers of the answer are too large.",
};

/** A text without the bytes of an answer, which errors of Node carry along. */
export function lostInWords(error: unknown): Error {
  const code = codeOf(error);
  if (error instanceof ConfigurationError) return error;
  if (code === undefined) return error instanceof Error ? new Error(error.message) : new Error(words.ECONNRESET);
  const text = words[code] ?? `${kindOf(code)} (${code}).`;
  return Object.assign(new Error(text), { code });
}

function codeOf(error: unknown): string | undefined {
  // Several addresses were tried: the first tells enough.
  const one = error instanceof AggregateError ? (error.errors[0] as unknown) : error;
  const code = one instanceof Error && "code" in one ? one.code : undefined;
  return typeof code === "string" && /^[A-Z0-9_]{1,60}$/.test(code) ? code : undefined;
}

function kindOf(code: string): string {
  if (code.startsWith("HPE_")) return "The answer is not HTTP";
  const trouble = tlsTroubleOf(code);
  if (trouble === undefined) return "The connection failed";
  return trouble === "agreement"
    ? "No encrypted connection could be made"
    : "The certificate of the host is not accepted";
}
