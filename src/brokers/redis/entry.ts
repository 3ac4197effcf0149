/**
 * How a message lies in a stream: CloudEvents has no binding for Redis, so this is one after the pattern of the others.
 *
 * Fields: `ce_id` and so on for the attributes, `content-type`, `header_…` for plain headers, and `data` for the payload, last. In structured mode: the
 * plain headers, `content-type` and `data`. An entry without `data` was written by somebody else: its fields are its headers, and together its payload.
 */
import type { Incoming } from "../broker.js";
import { type CloudEvent, type EnvelopeMode, encode } from "../envelope.js";

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

export function incomingOf({ id, fields }: Entry, stream: string): Incoming {
  const headers: { [name: string]: string } = {};
  const all: { [name: string]: string } = {};
  let contentType: string | undefined;
  let body: Uint8Array | undefined;
  for (let i = 0; i + 1 < fields.length; i += 2) {
    const [name, value] = [fields[i]?.toString() ?? "", fields[i + 1] ?? Buffer.alloc(0)];
    if (name === dataField) {
      body = value;
      continue;
    }
    const text = value.toString();
    all[name] = text;
    if (name === typeField) contentType = text;
    else headers[(name.startsWith(headerPrefix) ? name.slice(headerPrefix.length) : name).toLowerCase()] = text;
  }
  return {
    headers,
    contentType: contentType ?? (body === undefined ? "application/json" : undefined),
    body: body ?? Buffer.from(JSON.stringify(all)),
    position: `${stream}/${id}`,
    handle: id,
  };
}
