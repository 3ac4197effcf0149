/**
 * The headers of a message that comes in, read from the block as it came.
 *
 * The client's own reading takes the name of each header apart letter by letter and looks for it among all that came before, which costs more than all
 * else that is done to receive a message. What is not plain here is left to it: a status, a name that it refuses, two names that are one in lower case.
 */
import type { Msg } from "@nats-io/transport-node";
import { Recent } from "../recent.js";

export interface Headers {
  /** By their names in lower case, without what is meant for the stream. */
  readonly headers: { [name: string]: string };
  /** `Nats-Msg-Id`. */
  readonly id: string | undefined;
}

const begin = "NATS/1.0\r\n";
const plainName = /^[!-9;-~]+$/;

/** A name as it came. */
interface Name {
  readonly lower: string;
  readonly isPlain: boolean;
  readonly isOfStream: boolean;
}

const names = new Recent<Name>();

function nameOf(text: string): Name {
  return names.get(text) ?? names.keep(text, lookedAt(text));
}

function lookedAt(text: string): Name {
  const lower = text.toLowerCase();
  return { lower, isPlain: plainName.test(text), isOfStream: lower.startsWith("nats-") };
}

export function headersIn(message: Msg): Headers {
  return plainHeaders(message) ?? readByClient(message);
}

function plainHeaders(message: Msg): Headers | undefined {
  const text = blockOf(message);
  if (!text?.startsWith(begin)) return undefined;
  const headers: { [name: string]: string } = {};
  let id: string | undefined;
  for (let at = begin.length; at < text.length; ) {
    const line = text.indexOf("\r\n", at);
    const end = line < 0 ? text.length : line;
    // The last line is empty.
    if (end > at) {
      const colon = text.indexOf(":", at);
      if (colon < 0 || colon > end) return undefined;
      const { lower, isPlain, isOfStream } = nameOf(text.slice(at, colon));
      if (!isPlain || lower in headers) return undefined;
      const value = text.slice(colon + 1, end).trim();
      if (!isOfStream) headers[lower] = value;
      else if (lower === "nats-msg-id") id ??= value;
    }
    at = end + 2;
  }
  return { headers, id };
}

/** Undefined where there is none, or where the client is another than the one that this was built for. */
function blockOf(message: object): string | undefined {
  if (!("_msg" in message && "_rdata" in message)) return undefined;
  const { _msg: args, _rdata: bytes } = message;
  if (typeof args !== "object" || args === null || !("hdr" in args) || !(bytes instanceof Uint8Array)) return undefined;
  const { hdr } = args;
  if (typeof hdr !== "number" || hdr <= 0 || hdr > bytes.length) return undefined;
  const buffer = Buffer.isBuffer(bytes) ? bytes : Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
  return buffer.toString("utf8", 0, hdr);
}

function readByClient({ headers: read }: Msg): Headers {
  const headers: { [name: string]: string } = {};
  let id: string | undefined;
  for (const [name, values] of read ?? []) {
    const { lower, isOfStream } = nameOf(name);
    if (!isOfStream) headers[lower] = values.join(", ");
    else if (lower === "nats-msg-id") id = values[0];
  }
  return { headers, id };
}
