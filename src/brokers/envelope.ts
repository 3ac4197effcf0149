/**
 * CloudEvents 1.0.2: how a message looks outside. Binary mode puts the attributes into headers with the broker's prefix and the payload into the
 * body; structured mode puts everything into one JSON body.
 *
 * Sources: cloudevents/spec 1.0.2 (core, JSON format, HTTP, Kafka, AMQP, NATS and MQTT bindings), its extensions partitioning, distributed tracing and
 * correlation; W3C Trace Context.
 */
/** The attributes that are not extensions. */
const core = ["id", "source", "specversion", "type", "datacontenttype", "dataschema", "subject", "time"] as const;
const structuredType = "application/cloudevents+json";
const attributeName = /^[a-z0-9]{1,64}$/;

/** Attributes as headers and the payload as the body, or everything as one JSON body. */
export type EnvelopeMode = "binary" | "structured";

/** One message outside. */
export interface CloudEvent {
  /** Unique within `source`; the same whenever it is sent again. */
  readonly id: string;
  readonly source: string;
  readonly type: string;
  /** RFC 3339. */
  readonly time?: string;
  readonly subject?: string;
  readonly dataschema?: string;
  readonly datacontenttype?: string;
  /** partitionkey, traceparent, tracestate, correlationid, causationid, contractversion …: lower-case letters and digits. */
  readonly extensions: Readonly<Record<string, string>>;
  /** The payload as it is stored: JSON text. */
  readonly data: string;
  /** What its producer gave it beside the payload: carried as plain headers where the broker has headers. */
  readonly headers: Readonly<Record<string, string>>;
}

/** How attributes are called in the headers of a broker, and whether their values are percent-encoded (HTTP, NATS). */
export interface HeaderStyle {
  readonly prefix: string;
  readonly percent: boolean;
  /** Other prefixes that are understood. */
  readonly alsoReads?: readonly string[];
}

export interface Encoded {
  readonly headers: Readonly<Record<string, string>>;
  readonly contentType: string;
  readonly body: string;
}

export function encode(event: CloudEvent, mode: EnvelopeMode, style: HeaderStyle): Encoded {
  return mode === "binary" ? binary(event, style) : structured(event);
}

function binary(event: CloudEvent, { prefix, percent }: HeaderStyle): Encoded {
  const headers: Record<string, string> = { ...event.headers };
  for (const [name, value] of attributes(event)) {
    if (name !== "datacontenttype") headers[`${prefix}${name}`] = percent ? percentEncode(value) : value;
  }
  return { headers, contentType: event.datacontenttype ?? "application/json", body: event.data };
}

function structured(event: CloudEvent): Encoded {
  const fields = Object.fromEntries(attributes(event));
  const text = JSON.stringify(fields);
  // The payload is JSON text already; it is put in as it is.
  return {
    headers: { ...event.headers },
    contentType: `${structuredType}; charset=utf-8`,
    body: `${text.slice(0, -1)},"data":${event.data}}`,
  };
}

function attributes(event: CloudEvent): (readonly [string, string])[] {
  const { id, source, type, time, subject, dataschema, datacontenttype = "application/json", extensions } = event;
  const all = { specversion: "1.0", id, source, type, time, subject, dataschema, datacontenttype, ...extensions };
  return Object.entries(all).flatMap(([name, value]) => (value === undefined ? [] : [[name, value] as const]));
}

/** HTTP binding 3.1.3.2: space, quote, percent, and what is not printable ASCII. */
function percentEncode(value: string): string {
  return value
    .toWellFormed()
    .replace(/[^\x21\x23\x24\x26-\x7e]/gu, (char) =>
      [...Buffer.from(char)].map((byte) => `%${byte.toString(16).toUpperCase().padStart(2, "0")}`).join(""),
    );
}

function percentDecode(value: string): string {
  if (!value.includes("%")) return value;
  const parts = value.split(/((?:%[0-9a-fA-F]{2})+)/);
  return parts
    .map((part, i) => (i % 2 === 1 ? Buffer.from(part.replaceAll("%", ""), "hex").toString() : part))
    .join("");
}

/** What was read, or why it is no CloudEvent. `undefined`: it does not claim to be one. */
export type Decoded =
  | { readonly ok: true; readonly event: CloudEvent }
  | { readonly ok: false; readonly problem: string }
  | undefined;

export interface Received {
  readonly headers: Readonly<Record<string, string>>;
  readonly contentType: string | undefined;
  readonly body: Uint8Array;
}

/** Reads both modes. `data` of the answer is JSON text that was not parsed yet in binary mode. */
export function decode(received: Received, style: HeaderStyle): Decoded {
  if (received.contentType?.toLowerCase().startsWith("application/cloudevents")) return readStructured(received);
  const found = attributesIn(received.headers, style);
  return found === undefined ? undefined : readBinary(found, received);
}

const coreNames: ReadonlySet<string> = new Set(core);

/** What was found so far. Filled in place: an intake does it for each message. */
interface Found {
  readonly core: Partial<Record<(typeof core)[number], string>>;
  readonly extensions: Record<string, string>;
  /** Headers that are no attributes. */
  rest: Readonly<Record<string, string>>;
}

function isCore(name: string): name is (typeof core)[number] {
  return coreNames.has(name);
}

function note({ core: known, extensions }: Found, name: string, value: string): void {
  if (isCore(name)) known[name] = value;
  else extensions[name] = value;
}

const prefixesOfStyles = new WeakMap<HeaderStyle, readonly string[]>();

/** In lower case; none is empty. */
function prefixesOf(style: HeaderStyle): readonly string[] {
  let prefixes = prefixesOfStyles.get(style);
  if (prefixes === undefined) {
    const { prefix, alsoReads = [] } = style;
    prefixes = [prefix, ...alsoReads].map((text) => text.toLowerCase()).filter((text) => text !== "");
    prefixesOfStyles.set(style, prefixes);
  }
  return prefixes;
}

function attributesIn(headers: Received["headers"], style: HeaderStyle): Found | undefined {
  const { prefix, percent } = style;
  const prefixes = prefixesOf(style);
  const rest: Record<string, string> = {};
  const found: Found = { core: {}, extensions: {}, rest };
  for (const name of Object.keys(headers)) {
    const value = headers[name] ?? "";
    const lower = name.toLowerCase();
    const used = prefixes.find((text) => lower.startsWith(text));
    if (used !== undefined) note(found, lower.slice(used.length), percent ? percentDecode(value) : value);
    else if (prefix === "" && attributeName.test(name)) note(found, name, percent ? percentDecode(value) : value);
    else rest[name] = value;
  }
  return found.core.specversion === undefined ? undefined : found;
}

function readBinary(found: Found, { contentType, body }: Received): Decoded {
  const data = textOf(body);
  if (data === undefined) return { ok: false, problem: "its body is not UTF-8 text" };
  if (contentType !== undefined) found.core.datacontenttype = contentType;
  return build(found, data);
}

function readStructured({ contentType, body, headers }: Received): Decoded {
  if (!contentType?.toLowerCase().startsWith(structuredType)) {
    return {
      ok: false,
      problem: `its content type ${contentType} is not understood: one event as ${structuredType} is`,
    };
  }
  const text = textOf(body);
  const parsed = text === undefined ? undefined : parseObject(text);
  if (parsed === undefined) return { ok: false, problem: "its body is not a JSON object" };
  const { data, data_base64: base64, ...fields } = parsed;
  const found: Found = { core: {}, extensions: {}, rest: headers };
  for (const [name, value] of Object.entries(fields)) {
    if (value === null) continue;
    if (typeof value === "object")
      return { ok: false, problem: `its attribute ${name} is not a text, number or boolean` };
    note(found, name, String(value));
  }
  if (base64 === undefined) return build(found, JSON.stringify(data ?? null));
  const bytes = typeof base64 === "string" ? textOf(Buffer.from(base64, "base64")) : undefined;
  return bytes === undefined ? { ok: false, problem: "its data_base64 is not UTF-8 text" } : build(found, bytes);
}

const required = ["id", "source", "type"] as const;

function build({ core: known, extensions, rest }: Found, data: string): Decoded {
  const { specversion, id = "", source = "", type = "", time, subject, dataschema, datacontenttype } = known;
  if (specversion !== "1.0") return { ok: false, problem: `its specversion is ${specversion ?? "missing"}, not 1.0` };
  if (id === "" || source === "" || type === "") {
    return { ok: false, problem: `its attribute ${required.find((name) => !known[name])} is missing` };
  }
  const event: { -readonly [N in keyof CloudEvent]: CloudEvent[N] } = {
    id,
    source,
    type,
    extensions,
    data,
    headers: rest,
  };
  if (time !== undefined) event.time = time;
  if (subject !== undefined) event.subject = subject;
  if (dataschema !== undefined) event.dataschema = dataschema;
  if (datacontenttype !== undefined) event.datacontenttype = datacontenttype;
  return { ok: true, event };
}

const strict = new TextDecoder("utf-8", { fatal: true });

function textOf(bytes: Uint8Array): string | undefined {
  try {
    return strict.decode(bytes);
  } catch {
    return undefined;
  }
}

function parseObject(text: string): Record<string, unknown> | undefined {
  try {
    const value: unknown = JSON.parse(text);
    const isObject = typeof value === "object" && value !== null && !Array.isArray(value);
    return isObject ? Object.fromEntries(Object.entries(value)) : undefined;
  } catch {
    return undefined;
  }
}
