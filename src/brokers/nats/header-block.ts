/**
 * The headers of a message that comes in, read from the block as it came.
 *
 * The client's own reading takes the name of each header apart letter by letter and looks for it among all that came before, which costs more than all
 * else that is done to receive a message. What is not plain here is left to it: a status, a name that it refuses, two names that are one in lower case.
 *
 * Messages of a stream have the same names in the same order, mostly. A block that has those of one before is read without looking for a name.
 */
import type { Msg } from "@nats-io/transport-node";
import { setHeader } from "../header-names.js";
import { Recent } from "../recent.js";

export interface Headers {
  /** By their names in lower case, without what is meant for the stream. */
  readonly headers: { [name: string]: string };
  /** `Nats-Msg-Id`. */
  readonly id: string | undefined;
}

const begin = "NATS/1.0\r\n";
const plainName = /^[!-9;-~]+$/;
const msgId = "nats-msg-id";

/** A name as it came. */
interface Name {
  /** With its colon. */
  readonly text: string;
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
  return { text: `${text}:`, lower, isPlain: plainName.test(text), isOfStream: lower.startsWith("nats-") };
}

export function headersIn(message: Msg): Headers {
  return plainHeaders(message) ?? readByClient(message);
}

function plainHeaders(message: Msg): Headers | undefined {
  const text = blockOf(message);
  if (!text?.startsWith(begin)) return undefined;
  for (const shape of shapes) {
    const read = readAs(shape, text);
    if (read !== undefined) return read;
  }
  return readByNames(text);
}

/** The names of a block, in their order: all plain, and each once. The newest first. */
type Shape = readonly Name[];
const mostShapes = 4;
const mostNames = 32;
const longestName = 200;
let shapes: readonly Shape[] = [];

function keepShape(shape: Shape): void {
  // They come from outside.
  if (shape.length > mostNames || shape.some(({ text }) => text.length > longestName)) return;
  shapes = [shape, ...shapes.slice(0, mostShapes - 1)];
}

/** Undefined where it has other names. */
function readAs(shape: Shape, text: string): Headers | undefined {
  const headers: { [name: string]: string } = {};
  let id: string | undefined;
  let at = begin.length;
  for (const { text: name, lower, isOfStream } of shape) {
    if (!text.startsWith(name, at)) return undefined;
    const end = text.indexOf("\r\n", at);
    if (end < 0) return undefined;
    if (!isOfStream) headers[lower] = valueIn(text, at + name.length, end);
    else if (lower === msgId) id = valueIn(text, at + name.length, end);
    at = end + 2;
  }
  // The last line is empty.
  return at === text.length - 2 && text.endsWith("\r\n") ? { headers, id } : undefined;
}

function readByNames(text: string): Headers | undefined {
  const headers: { [name: string]: string } = {};
  const found: Name[] = [];
  let id: string | undefined;
  for (let at = begin.length; at < text.length; ) {
    const line = text.indexOf("\r\n", at);
    const end = line < 0 ? text.length : line;
    // The last line is empty.
    if (end > at) {
      const colon = text.indexOf(":", at);
      if (colon < 0 || colon > end) return undefined;
      const name = nameOf(text.slice(at, colon));
      const { lower, isPlain, isOfStream } = name;
      if (!isPlain || lower in headers) return undefined;
      const value = valueIn(text, colon + 1, end);
      if (!isOfStream) headers[lower] = value;
      else if (lower === msgId) id ??= value;
      found.push(name);
    }
    at = end + 2;
  }
  if (new Set(found.map(({ lower }) => lower)).size === found.length) keepShape(found);
  return { headers, id };
}

/** Without blanks around it. */
function valueIn(text: string, from: number, to: number): string {
  let start = from;
  while (start < to && text.charCodeAt(start) === space) start += 1;
  const value = text.slice(start, to);
  return hasBlank(value) ? value.trim() : value;
}

const space = 0x20;

/** At one of its ends; or a letter outside of ASCII, which may be one as well. */
function hasBlank(value: string): boolean {
  const last = value.length - 1;
  return last >= 0 && (isBlank(value.charCodeAt(0)) || isBlank(value.charCodeAt(last)));
}

function isBlank(code: number): boolean {
  return code <= space || code > 0x7e;
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
    if (!isOfStream) setHeader(headers, lower, values.join(", "));
    else if (lower === msgId) id = values[0];
  }
  return { headers, id };
}
