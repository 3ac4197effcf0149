/** How a message looks in NATS: the CloudEvents binding, percent-encoded headers with the prefix `ce-`; and `Nats-Msg-Id`, by which a stream finds what it has. */
import type { Msg, MsgHdrs } from "@nats-io/transport-node";
import type { Incoming, Outgoing } from "../broker.js";
import { type EnvelopeMode, encode, type HeaderStyle } from "../envelope.js";
import { percentEncode } from "../percent.js";
import { headersIn } from "./header-block.js";
import type { Client } from "./link.js";
import type { Subject } from "./options.js";
import { matches, subjectProblem } from "./subjects.js";

export const natsStyle: HeaderStyle = { prefix: "ce-", percent: true };

/** A message ready to be sent, or why it can never be. */
export type Draft = { readonly refused: string } | Ready;

export interface Ready {
  readonly refused: undefined;
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
  let subject: string;
  try {
    subject = typeof options.subject === "string" ? options.subject : options.subject(event);
  } catch (error) {
    return { refused: `the function of its subject threw: ${String(error)}` };
  }
  const misnamed = problemOfSubject(subject, options);
  if (misnamed !== undefined) return { refused: misnamed };
  if (event.id === "" || lineBreak.test(event.id)) return { refused: "its id is empty or has a line break" };
  const { headers, contentType, body } = encode(event, options.mode, natsStyle);
  const lines = new client.MsgHdrsImpl();
  const all = lines.headers;
  let letters = 64;
  for (const name in headers) {
    const value = headers[name] ?? "";
    if (!headerName.test(name)) return { refused: "the name of a header has a character that NATS does not carry" };
    if (lineBreak.test(value)) return { refused: "the value of a header has a line break, which NATS does not carry" };
    if (orders.test(name)) continue;
    all.set(name, [value]);
    letters += name.length + value.length + 4;
  }
  all.set(options.mode === "binary" ? "ce-datacontenttype" : "Content-Type", [contentType]);
  const known = knownAs(event, subject);
  all.set("Nats-Msg-Id", [known]);
  all.set("Nats-Expected-Stream", [options.stream]);
  letters += contentType.length + known.length + options.stream.length + 100;
  const bytes = Buffer.from(body);
  // Counted exactly only where it may matter.
  const problem =
    bytes.length + letters * 3 <= options.mostBytes ? undefined : problemOfSize(lines, bytes, options.mostBytes);
  return problem === undefined ? { refused: undefined, subject, headers: lines, body: bytes } : { refused: problem };
}

/**
 * What the stream knows a message by. An id is unique within its source, and the window of a stream goes over all of its subjects: by the id alone it would
 * drop what a second relay sends to another subject, and acknowledge it.
 */
function knownAs({ id, source }: Outgoing["event"], subject: string): string {
  return `${id} ${subject} ${percentEncode(source)}`;
}

function problemOfSize(headers: { encode(): Uint8Array }, body: Uint8Array, mostBytes: number): string | undefined {
  const bytes = headers.encode().length + body.length;
  return bytes <= mostBytes ? undefined : `it has ${bytes} bytes with its headers, and the server takes ${mostBytes}`;
}

function problemOfSubject(subject: string, { subject: named, stream, subjects }: DraftOptions): string | undefined {
  if (typeof named === "string") return undefined;
  const problem = typeof subject === "string" ? subjectProblem(subject, { wildcards: false }) : "it is no string";
  if (problem !== undefined) return `its subject cannot be used: ${problem}`;
  if (subjects.some((pattern) => matches(pattern, subject))) return undefined;
  return `the stream ${stream} does not take its subject ${subject}`;
}

/** A message that is handed out. */
export class NatsIncoming implements Incoming {
  readonly headers: Incoming["headers"];
  readonly contentType: string | undefined;
  readonly body: Uint8Array;
  readonly id?: string;
  readonly handle: unknown;
  readonly #placeOf: (handle: unknown) => string;

  /** `placeOf`: where it is in its stream, which few are asked for. */
  constructor(message: Msg, handle: unknown, placeOf: (handle: unknown) => string) {
    const { headers, id } = headersIn(message);
    const own = headers["content-type"];
    if (own !== undefined) delete headers["content-type"];
    this.headers = headers;
    this.contentType = own ?? headers["ce-datacontenttype"];
    this.body = message.data;
    if (id) this.id = id;
    this.handle = handle;
    this.#placeOf = placeOf;
  }

  get position(): string {
    return this.#placeOf(this.handle);
  }
}
