/**
 * How a message lies in a stream: CloudEvents has no binding for Redis, so this is one after the pattern of the others.
 *
 * Fields: `ce_id` and so on for the attributes, `content-type`, `header_…` for plain headers, and `data` for the payload, last. In structured mode: the
 * plain headers, `content-type` and `data`. An entry without `data` was written by somebody else: its fields are its headers, and together its payload.
 */
import type { Incoming } from "../broker.js";
import { type CloudEvent, type EnvelopeMode, encode } from "../envelope.js";
import { setHeader } from "../header-names.js";
import { KnownNames } from "../known-names.js";

export const redisStyle = { prefix: "ce_", percent: false };
const headerPrefix = "header_";
const typeField = "content-type";
const dataField = "data";

/** Names and values in turn. */
export function fieldsOf(event: CloudEvent, mode: EnvelopeMode): string[] {
  const { headers, contentType, body } = encode(event, mode, redisStyle);
  const fields: string[] = [];
  for (const [name, value] of Object.entries(headers)) {
    fields.push(name.startsWith(redisStyle.prefix) ? name : headerPrefix + name, value);
  }
  fields.push(typeField, contentType, dataField, body);
  return fields;
}

/** An entry as it comes from Redis. */
export interface Entry {
  readonly id: string;
  readonly fields: readonly Buffer[];
}

/** What a field of some name is. */
interface Field {
  readonly is: "data" | "type" | "header";
  /** Of the header that it holds. */
  readonly header: string;
}

const names = new KnownNames<Field>((name) => {
  const header = (name.startsWith(headerPrefix) ? name.slice(headerPrefix.length) : name).toLowerCase();
  return { is: name === dataField ? "data" : name === typeField ? "type" : "header", header };
});
const none = Buffer.alloc(0);

export function incomingOf({ id, fields }: Entry, stream: string): Incoming {
  const headers: { [name: string]: string } = {};
  let contentType: string | undefined;
  let body: Uint8Array | undefined;
  for (let i = 0; i + 1 < fields.length; i += 2) {
    const { is, header } = names.at(i >> 1, fields[i] ?? none);
    const value = fields[i + 1] ?? none;
    if (is === "data") body = value;
    else if (is === "type") contentType = value.toString();
    else setHeader(headers, header, value.toString());
  }
  return {
    headers,
    contentType: contentType ?? (body === undefined ? "application/json" : undefined),
    body: body ?? Buffer.from(JSON.stringify(textsIn(fields))),
    position: `${stream}/${id}`,
    handle: id,
  };
}

/** The fields of an entry of somebody else, by their own names. */
function textsIn(fields: Entry["fields"]): Readonly<Record<string, string>> {
  const all: { [name: string]: string } = {};
  for (let i = 0; i + 1 < fields.length; i += 2) {
    setHeader(all, (fields[i] ?? none).toString(), (fields[i + 1] ?? none).toString());
  }
  return all;
}
