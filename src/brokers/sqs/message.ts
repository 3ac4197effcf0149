/**
 * How a message lies in a queue. SQS allows ten attributes for each, so an event is one JSON body; beside it are `content-type` and, where there are plain
 * headers, all of them as one JSON attribute `headers`.
 */
import { createHash } from "node:crypto";
import type { Message, MessageAttributeValue, SendMessageBatchRequestEntry } from "@aws-sdk/client-sqs";
import type { Incoming, Outgoing } from "../broker.js";
import { encode } from "../envelope.js";
import { setHeader } from "../header-names.js";

export const sqsStyle = { prefix: "ce_", percent: false };
const typeAttribute = "content-type";
const headersAttribute = "headers";
/** What SQS takes as the id of a group: up to 128 letters, digits and punctuation. */
const groupId = /^[\x21-\x7e]{1,128}$/;

/** One message, as SQS wants it, without the id that it has in its batch. */
export interface Encoded {
  readonly entry: Omit<SendMessageBatchRequestEntry, "Id">;
  /** In what order it has to be kept; undefined: none. */
  readonly group: string | undefined;
  /** As SQS counts: the body, and the name, type and value of each attribute. */
  readonly bytes: number;
}

export function encodeForSqs({ event, key }: Outgoing, isFifo: boolean): Encoded {
  const { headers, contentType, body } = encode(event, "structured", sqsStyle);
  // Two code points that JSON may have as they are and SQS may not.
  const text = body.replace(/[\ufffe\uffff]/g, (char) => `\\u${char.charCodeAt(0).toString(16)}`);
  const attributes: Record<string, string> = { [typeAttribute]: contentType };
  if (Object.keys(headers).length > 0) attributes[headersAttribute] = JSON.stringify(headers);
  let bytes = Buffer.byteLength(text);
  const values: Record<string, MessageAttributeValue> = {};
  for (const [name, value] of Object.entries(attributes)) {
    values[name] = { DataType: "String", StringValue: value };
    bytes += name.length + "String".length + Buffer.byteLength(value);
  }
  const entry = { MessageBody: text, MessageAttributes: values };
  if (!isFifo) return { entry, group: undefined, bytes };
  // An id is unique within its source, and both may be longer than SQS allows.
  const id = hashOf(`${event.source}\n${event.id}`);
  // Without a key no order is asked for: a group of its own holds up nobody.
  const group = key === null ? id : groupId.test(key) ? key : hashOf(key);
  return { entry: { ...entry, MessageGroupId: group, MessageDeduplicationId: id }, group, bytes };
}

function hashOf(text: string): string {
  return createHash("sha256").update(text).digest("hex");
}

export function incomingOf(message: Message, queue: string, handle: unknown): Incoming {
  const headers: { [name: string]: string } = {};
  let contentType: string | undefined;
  for (const [name, { StringValue: text }] of Object.entries(message.MessageAttributes ?? {})) {
    if (text === undefined) continue;
    if (name === headersAttribute) {
      for (const [lower, one] of headersIn(text) ?? [[name, text]]) setHeader(headers, lower, one);
    } else if (name.toLowerCase() === typeAttribute) contentType = text;
    else setHeader(headers, name.toLowerCase(), text);
  }
  const group = message.Attributes?.MessageGroupId;
  return {
    headers,
    contentType,
    body: Buffer.from(message.Body ?? ""),
    ...(group !== undefined && { key: group }),
    ...(message.MessageId !== undefined && { position: `${queue}/${message.MessageId}` }),
    handle,
  };
}

/** Undefined where somebody else has an attribute of that name. */
function headersIn(text: string): readonly (readonly [name: string, text: string])[] | undefined {
  try {
    const value: unknown = JSON.parse(text);
    if (typeof value !== "object" || value === null || Array.isArray(value)) return undefined;
    return Object.entries(value).map(([name, one]) => [name.toLowerCase(), String(one)] as const);
  } catch {
    return undefined;
  }
}
