/** How a message looks in NATS: the CloudEvents binding, percent-encoded headers with the prefix `ce-`; and `Nats-Msg-Id`, by which a stream finds what it has. */
import type { Msg, MsgHdrs } from "@nats-io/transport-node";
import type { Incoming, Outgoing } from "../broker.js";
import { type EnvelopeMode, encode, type HeaderStyle } from "../envelope.js";
import type { Client } from "./link.js";
import type { Subject } from "./options.js";
import { matches, subjectProblem } from "./subjects.js";

export const natsStyle: HeaderStyle = { prefix: "ce-", percent: true };

/** A message ready to be sent, or why it can never be. */
export type Draft = { readonly refused: string } | Ready;

export interface Ready {
  readonly refused?: undefined;
  readonly subject: string;
  readonly headers: MsgHdrs;
  readonly body: Uint8Array;
}

export interface DraftOptions {
  readonly mode: EnvelopeMode;
  readonly subject: Subject;
  readonly stream: string;
  /** What the stream takes. */
  readonly subjects: readonly string[];
  /** The most bytes of headers and body that the server takes. */
  readonly mostBytes: number;
}

const headerName = /^[!-9;-~]+$/;
const lineBreak = /[\r\n]/;
/** Headers with this beginning are orders to the stream, such as to drop what it has. Those of a producer are not passed on as such. */
const orders = /^nats-/i;

export function draft(client: Client, { event }: Outgoing, options: DraftOptions): Draft {
  const subject = typeof options.subject === "string" ? options.subject : options.subject(event);
  const problem = problemOfSubject(subject, options);
  if (problem !== undefined) return { refused: problem };
  if (event.id === "" || lineBreak.test(event.id)) return { refused: "its id is empty or has a line break" };
  const { headers, contentType, body } = encode(event, options.mode, natsStyle);
  const record: Record<string, string[]> = {};
  for (const [name, value] of Object.entries(headers)) {
    if (!headerName.test(name)) return { refused: "the name of a header has a character that NATS does not carry" };
    if (lineBreak.test(value)) return { refused: "the value of a header has a line break, which NATS does not carry" };
    if (!orders.test(name)) record[name] = [value];
  }
  record["Content-Type"] = [contentType];
  if (options.mode === "binary") record["ce-datacontenttype"] = [contentType];
  record["Nats-Msg-Id"] = [event.id];
  record["Nats-Expected-Stream"] = [options.stream];
  const ready: Ready = { subject, headers: client.MsgHdrsImpl.fromRecord(record), body: Buffer.from(body) };
  return fits(ready, record, options.mostBytes);
}

function problemOfSubject(subject: string, { subject: named, stream, subjects }: DraftOptions): string | undefined {
  if (typeof named === "string") return undefined;
  const problem = typeof subject === "string" ? subjectProblem(subject, { wildcards: false }) : "it is no string";
  if (problem !== undefined) return `its subject cannot be used: ${problem}`;
  if (subjects.some((pattern) => matches(pattern, subject))) return undefined;
  return `the stream ${stream} does not take its subject ${subject}`;
}

/** The headers are counted exactly only where it may matter. */
function fits(ready: Ready, record: Readonly<Record<string, readonly string[]>>, mostBytes: number): Draft {
  const lines = Object.entries(record).map(([name, [value = ""]]) => `${name}: ${value}\r\n`);
  const letters = lines.reduce((sum, line) => sum + line.length, "NATS/1.0\r\n\r\n".length);
  if (ready.body.length + letters * 3 <= mostBytes) return ready;
  const bytes = ready.body.length + Buffer.byteLength(`NATS/1.0\r\n${lines.join("")}\r\n`);
  if (bytes <= mostBytes) return ready;
  return { refused: `it has ${bytes} bytes with its headers, and the server takes ${mostBytes}` };
}

export function incoming(message: Msg, position: string, handle: unknown): Incoming {
  const headers: Record<string, string> = {};
  let id: string | undefined;
  for (const [name, values] of message.headers ?? []) {
    const lower = name.toLowerCase();
    if (lower === "nats-msg-id") id = values[0];
    else if (!orders.test(lower)) headers[lower] = values.join(", ");
  }
  const { "content-type": contentType, ...rest } = headers;
  return { headers: rest, contentType, body: message.data, position, handle, ...(id && { id }) };
}
