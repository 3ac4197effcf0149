/**
 * The headers of a message that comes in, read from the block as it came.
 *
 * The client's own reading takes the name of each header apart letter by letter and looks for it among all that came before, which costs more than all
 * else that is done to receive a message. What is not plain here is left to it: a status, a name that it refuses, two names that are one in lower case.
 */
import type { Msg } from "@nats-io/transport-node";

const begin = "NATS/1.0\r\n";
const name = /^[!-9;-~]+$/;

/** By their names in lower case. */
export function headersIn(message: Msg): { [name: string]: string } {
  return plainHeaders(message) ?? readByClient(message);
}

function plainHeaders(message: Msg): { [name: string]: string } | undefined {
  const block = blockOf(message);
  if (block === undefined) return undefined;
  const text = block.toString();
  if (!text.startsWith(begin)) return undefined;
  const headers: { [name: string]: string } = {};
  for (let at = begin.length; at < text.length; ) {
    const line = text.indexOf("\r\n", at);
    const end = line < 0 ? text.length : line;
    const colon = text.indexOf(":", at);
    // The last line is empty.
    if (end > at) {
      if (colon < at || colon > end) return undefined;
      const lower = text.slice(at, colon).toLowerCase();
      if (!name.test(lower) || lower in headers) return undefined;
      headers[lower] = text.slice(colon + 1, end).trim();
    }
    at = end + 2;
  }
  return headers;
}

/** Undefined where there is none, or where the client is another than the one that this was built for. */
function blockOf(message: object): Buffer | undefined {
  if (!("_msg" in message && "_rdata" in message)) return undefined;
  const { _msg: args, _rdata: bytes } = message;
  if (typeof args !== "object" || args === null || !("hdr" in args) || !(bytes instanceof Uint8Array)) return undefined;
  const { hdr } = args;
  if (typeof hdr !== "number" || hdr <= 0 || hdr > bytes.length) return undefined;
  return Buffer.from(bytes.buffer, bytes.byteOffset, hdr);
}

function readByClient({ headers: read }: Msg): { [name: string]: string } {
  const headers: { [name: string]: string } = {};
  for (const [name, values] of read ?? []) {
    const lower = name.toLowerCase();
    // Of several ids the first counts.
    headers[lower] = lower === "nats-msg-id" ? (values[0] ?? "") : values.join(", ");
  }
  return headers;
}
