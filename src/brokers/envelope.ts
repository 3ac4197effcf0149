/**
 * CloudEvents 1.0.2: how a message looks outside. Binary mode puts the attributes into headers with the broker's prefix and the payload into the
 * body; structured mode puts everything into one JSON body.
 *
 * Sources: cloudevents/spec 1.0.2 (core, JSON format, HTTP, Kafka, AMQP, NATS and MQTT bindings), its extensions partitioning, distributed tracing and
 * correlation; W3C Trace Context.
 */
import { quote } from "../core/show.js";
import { setHeader } from "./header-names.js";
import { memberText } from "./json-member.js";
import { isCloudEvents, isJson, isMediaType, isText, textOf } from "./media.js";
import { percentDecode, percentEncode } from "./percent.js";
import { Recent } from "./recent.js";

/** The attributes that are not extensions, and `data`, which is the name of none. What is read is kept by their places here. */
const core = [
  "id",
  "source",
  "type",
  "specversion",
  "time",
  "subject",
  "dataschema",
  "datacontenttype",
  "data",
] as const;
const places: ReadonlyMap<string, number> = new Map(core.map((name, place) => [name, place]));
const [specversionAt, datacontenttypeAt] = [core.indexOf("specversion"), core.indexOf("datacontenttype")];
const structuredType = "application/cloudevents+json";
const jsonType = "application/json";
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

/** Attributes and headers that no style could tell from others are left out or renamed; see `eachAttribute` and `plainName`. */
export function encode(event: CloudEvent, mode: EnvelopeMode, style: HeaderStyle): Encoded {
  const headers: Record<string, string> = {};
  for (const name of Object.keys(event.headers)) {
    setHeader(headers, plainName(name, style), event.headers[name] ?? "");
  }
  return mode === "binary" ? binary(event, headers, style) : structured(event, headers);
}

function binary(event: CloudEvent, headers: Record<string, string>, style: HeaderStyle): Encoded {
  const { data } = event;
  const { percent } = style;
  const known = inStyle(headerNames, style);
  eachAttribute(event, (name, value) => {
    headers[headerOf(name, style, known)] = percent ? percentEncode(value) : value;
  });
  const contentType = dataTypeOf(event);
  const text = isJson(contentType) ? undefined : stringIn(data);
  return { headers, contentType, body: text ?? data };
}

function structured(event: CloudEvent, headers: Readonly<Record<string, string>>): Encoded {
  const attributes: Record<string, string> = {};
  eachAttribute(event, (name, value) => {
    attributes[name] = value;
  });
  attributes.datacontenttype = dataTypeOf(event);
  // The payload is JSON text already; it is put in as it is.
  return {
    headers,
    contentType: `${structuredType}; charset=utf-8`,
    body: `${JSON.stringify(attributes).slice(0, -1)},"data":${event.data}}`,
  };
}

/** Only text can be of a type that is not JSON. */
function dataTypeOf({ datacontenttype = jsonType, data }: CloudEvent): string {
  return isJson(datacontenttype) || stringIn(data) !== undefined ? datacontenttype : jsonType;
}

/** All but the type of the data. Extensions whose names the specification does not allow, or that are names of other things, are left out. */
function eachAttribute(event: CloudEvent, put: (name: string, value: string) => void): void {
  const { id, source, type, time, subject, dataschema, extensions } = event;
  put("specversion", "1.0");
  put("id", id);
  put("source", source);
  put("type", type);
  if (time !== undefined) put("time", time);
  if (subject !== undefined) put("subject", subject);
  if (dataschema !== undefined) put("dataschema", dataschema);
  for (const name of Object.keys(extensions)) {
    const value = extensions[name];
    if (value !== undefined && isExtension(name)) put(name, value);
  }
}

function isExtension(name: string): boolean {
  return attributeName.test(name) && !places.has(name);
}

/** How attributes are called in headers. They come again with each message, and a name that is put together anew is looked for anew. */
const headerNames = new WeakMap<HeaderStyle, Recent<{ readonly header: string }>>();

function headerOf(attribute: string, { prefix }: HeaderStyle, known: Recent<{ readonly header: string }>): string {
  return (known.get(attribute) ?? known.keep(attribute, { header: `${prefix}${attribute}` })).header;
}

/** What was found out for one style. */
function inStyle<T extends object>(all: WeakMap<HeaderStyle, Recent<T>>, style: HeaderStyle): Recent<T> {
  const known = all.get(style);
  if (known !== undefined) return known;
  const made = new Recent<T>();
  all.set(style, made);
  return made;
}

/** The text that a JSON string holds. */
function stringIn(json: string): string | undefined {
  if (!/^\s*"/.test(json)) return undefined;
  const value: unknown = JSON.parse(json);
  return typeof value === "string" ? value : undefined;
}

/** Before the name of a plain header that would be read as an attribute, or as the type of the body, as often as need be. */
const plainMark = "header-";

function plainName(name: string, style: HeaderStyle): string {
  return isTaken(withoutMarks(name), style) ? `${plainMark}${name}` : name;
}

function withoutMarks(name: string): string {
  let rest = name;
  while (rest.toLowerCase().startsWith(plainMark)) rest = rest.slice(plainMark.length);
  return rest;
}

function isTaken(name: string, style: HeaderStyle): boolean {
  return attributeIn(name, style) !== undefined || name.toLowerCase() === "content-type";
}

/** The attribute that a header of this name holds; undefined for a plain one. */
function attributeIn(header: string, { prefix, alsoReads = [] }: HeaderStyle): string | undefined {
  const lower = header.toLowerCase();
  const used = [prefix, ...alsoReads].map((text) => text.toLowerCase()).find((text) => lower.startsWith(text));
  const name = lower.slice(used?.length ?? 0);
  return used !== undefined && attributeName.test(name) ? name : undefined;
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

/**
 * Reads both modes. Never throws, whatever it is given.
 *
 * `data` of the answer is JSON text. In binary mode it is what was sent, not parsed yet where its type is JSON or not told; other text is a JSON string
 * of it, and what is neither is a problem.
 */
export function decode(received: Received, style: HeaderStyle): Decoded {
  const { headers, contentType, body } = received;
  if (contentType !== undefined && isCloudEvents(contentType)) return readStructured(received, style);
  const found = split(headers, style);
  if (typeof found === "string") return { ok: false, problem: found };
  const { values } = found;
  if (values[specversionAt] === undefined) return undefined;
  const datacontenttype = contentType ?? values[datacontenttypeAt];
  const data = dataOf(body, datacontenttype);
  if (data.problem !== undefined) return { ok: false, problem: data.problem };
  values[datacontenttypeAt] = datacontenttype;
  return build(found, data.json, found.plain);
}

/** The attributes of one message. */
interface Attributes {
  /** By their places in `core`. */
  readonly values: (string | undefined)[];
  readonly extensions: Record<string, string>;
}

type Plain = readonly (readonly [string, string])[];

interface Found extends Attributes {
  /** Undefined where there are none. */
  readonly plain: Plain | undefined;
}

function noAttributes(): Attributes {
  const none = undefined;
  return { values: [none, none, none, none, none, none, none, none, none], extensions: {} };
}

/** What a header of some name is. */
interface Role {
  readonly attribute: string | undefined;
  /** Where the attribute is in `core`; undefined for an extension. */
  readonly place: number | undefined;
  /** Of a plain header, without the mark. */
  readonly plain: string;
}

/** By the style that they are read in. */
const roles = new WeakMap<HeaderStyle, Recent<Role>>();

function roleOf(header: string, style: HeaderStyle): Role {
  const isMarked = header.toLowerCase().startsWith(plainMark) && isTaken(withoutMarks(header), style);
  const attribute = attributeIn(header, style);
  return {
    attribute,
    place: attribute === undefined ? undefined : places.get(attribute),
    plain: isMarked ? header.slice(plainMark.length) : header,
  };
}

/** Returns why they cannot be told apart instead, if they claim to be a CloudEvent's. */
function split(headers: Received["headers"], style: HeaderStyle): Found | string {
  const { values, extensions } = noAttributes();
  const known = inStyle(roles, style);
  let plain: (readonly [string, string])[] | undefined;
  let problem: string | undefined;
  for (const header of Object.keys(headers)) {
    const value = headers[header] ?? "";
    const { attribute: name, place, plain: own } = known.get(header) ?? known.keep(header, roleOf(header, style));
    if (name === undefined) {
      plain ??= [];
      plain.push([own, value]);
      continue;
    }
    const decoded = style.percent ? percentDecode(value) : value;
    const before = place === undefined ? ownValue(extensions, name) : values[place];
    if (decoded === undefined) problem ??= `its attribute ${name} has encoded bytes that are not UTF-8`;
    else if (before !== undefined && before !== decoded) problem ??= `its attribute ${name} is there twice`;
    // One that cannot be read is there as well, and makes a CloudEvent of the message.
    if (place === undefined) extensions[name] = decoded ?? "";
    else values[place] = decoded ?? "";
  }
  return problem !== undefined && values[specversionAt] !== undefined ? problem : { values, extensions, plain };
}

/** An extension may be called "constructor". */
function ownValue(extensions: Readonly<Record<string, string>>, name: string): string | undefined {
  return Object.hasOwn(extensions, name) ? extensions[name] : undefined;
}

type Data =
  | { readonly json: string; readonly problem?: undefined }
  | { readonly problem: string; readonly json?: undefined };

function dataOf(bytes: Uint8Array, mediaType: string | undefined): Data {
  const isKnown = isJson(mediaType);
  if (!isKnown && mediaType !== undefined && !isText(mediaType)) {
    return { problem: `its data is ${quote(mediaType)}, which is neither JSON nor text` };
  }
  const text = textOf(bytes, mediaType);
  if (text === undefined) return { problem: "its data is not text in UTF-8, or in the character set of its type" };
  if (!isKnown) return { json: JSON.stringify(text) };
  return { json: text === "" ? "null" : text };
}

function readStructured({ contentType, body, headers }: Received, style: HeaderStyle): Decoded {
  if (!isMediaType(contentType, structuredType)) {
    const problem = `its content type ${quote(contentType ?? "")} is not understood: one event as ${structuredType} is`;
    return { ok: false, problem };
  }
  const text = textOf(body);
  const parsed = text === undefined ? undefined : parseObject(text);
  if (text === undefined || parsed === undefined) return { ok: false, problem: "its body is not a JSON object" };
  const attributes = noAttributes();
  for (const [name, value] of Object.entries(parsed)) {
    if (name === "data" || name === "data_base64" || value === null) continue;
    const problem = attributeProblem(name, value);
    if (problem !== undefined) return { ok: false, problem };
    const place = places.get(name);
    if (place === undefined) attributes.extensions[name] = String(value);
    else attributes.values[place] = String(value);
  }
  const data = structuredData(text, parsed, attributes.values[datacontenttypeAt]);
  if (data.problem !== undefined) return { ok: false, problem: data.problem };
  // The attributes may be there as headers as well.
  const found = split(headers, style);
  const plain = typeof found === "string" ? undefined : found.plain;
  return build(attributes, data.json, plain);
}

function attributeProblem(name: string, value: unknown): string | undefined {
  if (!attributeName.test(name)) return `the name of its attribute ${quote(name)} is not lower-case letters and digits`;
  const fits = typeof value === "string" || typeof value === "boolean" || Number.isSafeInteger(value);
  return fits ? undefined : `its attribute ${name} is not a text, a whole number, true or false`;
}

function structuredData(
  text: string,
  { data, data_base64: base64 }: Readonly<Record<string, unknown>>,
  mediaType: string | undefined,
): Data {
  if (base64 === undefined || base64 === null)
    return { json: data === undefined ? "null" : (memberText(text, "data") ?? "null") };
  if (data !== undefined && data !== null) return { problem: "it has both data and data_base64" };
  const isBase64 = typeof base64 === "string" && base64.length % 4 === 0 && /^[A-Za-z0-9+/]*={0,2}$/.test(base64);
  return isBase64 ? dataOf(Buffer.from(base64, "base64"), mediaType) : { problem: "its data_base64 is not base64" };
}

function build({ values, extensions }: Attributes, data: string, plain: Plain | undefined): Decoded {
  // In the order of `core`.
  const [id, source, type, specversion, time, subject, dataschema, datacontenttype] = values;
  if (specversion !== "1.0") {
    const found = specversion === undefined ? "missing" : quote(specversion);
    return { ok: false, problem: `its specversion is ${found}, not "1.0"` };
  }
  // One that is empty is as one that is missing.
  if (!id || !source || !type) {
    const missing = [id ? "" : "id", source ? "" : "source", type ? "" : "type"].filter((name) => name !== "");
    const [what, are] = missing.length === 1 ? ["attribute", "is"] : ["attributes", "are"];
    return { ok: false, problem: `its ${what} ${missing.join(" and ")} ${are} missing` };
  }
  const unreadable = isNoText(id) ? "id" : isNoText(source) ? "source" : undefined;
  if (unreadable !== undefined) return { ok: false, problem: `its ${unreadable} is not text in UTF-8` };
  // One of them may be called __proto__.
  const headers = plain === undefined ? {} : Object.fromEntries(plain);
  const event: { -readonly [N in keyof CloudEvent]: CloudEvent[N] } = { id, source, type, extensions, data, headers };
  if (time) event.time = time;
  if (subject) event.subject = subject;
  if (dataschema) event.dataschema = dataschema;
  if (datacontenttype) event.datacontenttype = datacontenttype;
  return { ok: true, event };
}

/** Whether bytes that are no text were read as this character, or half of one is there: two ids that differ may have become one by it. */
export function isNoText(text: string): boolean {
  return text.includes("\ufffd") || !text.isWellFormed();
}

function parseObject(text: string): Readonly<Record<string, unknown>> | undefined {
  try {
    const value: unknown = JSON.parse(text);
    const isObject = typeof value === "object" && value !== null && !Array.isArray(value);
    return isObject ? Object.fromEntries(Object.entries(value)) : undefined;
  } catch {
    return undefined;
  }
}
