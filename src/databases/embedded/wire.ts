/**
 * What two processes say over the socket of an embedded database: one JSON value per line, one answer per request.
 *
 * Values that JSON lacks travel as `{ "~": kind, v: value }`. Errors keep their code, so that they decide the same on both sides.
 */
import type { Socket } from "node:net";
import { StringDecoder } from "node:string_decoder";
import { type ErrorCode, errorCodes, errorOf, PosthornError } from "../../core/errors.js";

export const protocolVersion = 1;

export type Operation =
  | { readonly op: "hello"; readonly version: number }
  | { readonly op: "query"; readonly text: string; readonly params: unknown }
  | { readonly op: "script"; readonly text: string }
  | { readonly op: "begin" }
  | { readonly op: "tx"; readonly text: string; readonly params: unknown }
  | { readonly op: "native"; readonly text: string; readonly params: unknown }
  | { readonly op: "commit" }
  | { readonly op: "rollback" }
  | { readonly op: "listen"; readonly channel: string };

export type Request = Operation & { readonly id: number };

export interface WireError {
  readonly kind: "posthorn" | "database" | "other";
  readonly message: string;
  readonly fields: Readonly<Record<string, unknown>>;
}

export interface Response {
  readonly id: number;
  readonly value?: unknown;
  readonly error?: WireError;
}

export interface Notice {
  readonly notify: string;
}

export function encode(value: unknown): unknown {
  if (typeof value === "bigint") return { "~": "bigint", v: value.toString() };
  if (typeof value !== "object" || value === null) return value;
  if (value instanceof Date) return { "~": "date", v: value.getTime() };
  if (value instanceof Uint8Array) return { "~": "bytes", v: Buffer.from(value).toString("base64") };
  if (Array.isArray(value)) return value.map(encode);
  const entries = Object.entries(value).map(([key, part]): [string, unknown] => [key, encode(part)]);
  return "~" in value ? { "~": "object", v: entries } : Object.fromEntries(entries);
}

export function decode(value: unknown): unknown {
  if (typeof value !== "object" || value === null) return value;
  if (Array.isArray(value)) return value.map(decode);
  if (!("~" in value)) {
    return Object.fromEntries(Object.entries(value).map(([key, part]): [string, unknown] => [key, decode(part)]));
  }
  const inner: unknown = "v" in value ? value.v : undefined;
  switch (value["~"]) {
    case "bigint":
      return BigInt(String(inner));
    case "date":
      return new Date(Number(inner));
    case "bytes":
      return new Uint8Array(Buffer.from(String(inner), "base64"));
    default:
      return Object.fromEntries((Array.isArray(inner) ? inner : []).map(([key, part]) => [key, decode(part)]));
  }
}

/** What PostgreSQL says about an error; everything else of a driver's error object stays here. */
const serverFields = [
  "code",
  "severity",
  "detail",
  "hint",
  "position",
  "where",
  "schema",
  "table",
  "column",
  "dataType",
  "constraint",
] as const;

export function encodeError(error: unknown): WireError {
  const message = error instanceof Error ? error.message : String(error);
  if (error instanceof PosthornError) {
    return { kind: "posthorn", message, fields: { code: error.code, facts: encode(error.facts) } };
  }
  if (typeof error !== "object" || error === null || !("severity" in error))
    return { kind: "other", message, fields: {} };
  const fields = Object.fromEntries(serverFields.map((name) => [name, Reflect.get(error, name)]));
  return { kind: "database", message, fields };
}

function isErrorCode(code: unknown): code is ErrorCode {
  return typeof code === "string" && Object.hasOwn(errorCodes, code);
}

export function decodeError(error: WireError): Error {
  const { code, facts } = error.fields;
  if (error.kind === "posthorn" && isErrorCode(code)) {
    const decoded = decode(facts);
    return errorOf(code, error.message, typeof decoded === "object" && decoded !== null ? { ...decoded } : {});
  }
  return Object.assign(new Error(error.message), error.kind === "database" ? error.fields : {});
}

export function send(socket: Socket, message: Request | Response | Notice): void {
  if (socket.writable) socket.write(`${JSON.stringify(message)}\n`);
}

/** Calls `onLine` with every line; a line that is too long, or no JSON, ends the connection. */
export function readLines(socket: Socket, maxBytes: number, onMessage: (message: unknown) => void): void {
  const decoder = new StringDecoder("utf8");
  let parts: string[] = [];
  let bytes = 0;
  socket.on("data", (chunk: Buffer) => {
    bytes += chunk.length;
    const [first = "", ...more] = decoder.write(chunk).split("\n");
    parts.push(first);
    for (const next of more) {
      const line = parts.join("");
      parts = [next];
      bytes = Buffer.byteLength(next);
      try {
        onMessage(JSON.parse(line));
      } catch {
        socket.destroy();
        return;
      }
    }
    if (bytes > maxBytes) socket.destroy();
  });
}
