/**
 * How a message looks in RabbitMQ.
 *
 * There is no CloudEvents binding for AMQP 0-9-1. Attributes are headers with the prefix of the AMQP 1.0 binding, and what has a property of its own in
 * AMQP stands there as well.
 */
import type { AsyncMessage, Envelope } from "rabbitmq-client";
import type { Incoming, Outgoing } from "../broker.js";
import { type EnvelopeMode, encode, type HeaderStyle } from "../envelope.js";
import { setHeader } from "../header-names.js";
import { frameBytes } from "./link.js";
import { type Named, type Route, shortBytes } from "./options.js";
import type { Publication } from "./publish.js";

export const style: HeaderStyle = { prefix: "cloudEvents_", percent: false, alsoReads: ["cloudEvents:", "ce-", "ce_"] };

/** A message ready to be sent, or why RabbitMQ will never take it. */
export type Draft = { readonly refused: string } | Ready;

export interface Ready extends Publication {
  readonly refused: undefined;
}

export function draft({ event }: Outgoing, mode: EnvelopeMode, route: Route): Draft {
  let exchange: string;
  let routingKey: string;
  try {
    exchange = nameFor(route.exchange, event);
    routingKey = nameFor(route.routingKey, event);
  } catch (error) {
    return { refused: `the function that says where it goes threw: ${String(error)}` };
  }
  const { headers, contentType, body } = encode(event, mode, style);
  const problem =
    problemOfName("exchange", exchange) ??
    problemOfName("routing key", routingKey) ??
    problemOfName("id", event.id) ??
    problemOfHeaders(headers);
  if (problem !== undefined) return { refused: problem };
  const bytes = Buffer.from(body);
  if (bytes.length > route.mostBytes)
    return { refused: `it has ${bytes.length} bytes, and at most ${route.mostBytes} may be sent` };
  const envelope: Envelope & Publication["envelope"] = {
    exchange,
    routingKey,
    mandatory: true,
    durable: true,
    messageId: event.id,
    contentType,
    headers,
  };
  // Assigned one by one: this is done for every message, and spreading objects costs more than all the rest of it.
  const seconds = event.time === undefined ? 0 : Math.floor(Date.parse(event.time) / 1_000);
  if (seconds > 0) envelope.timestamp = seconds;
  if (isShort(event.type)) envelope.type = event.type;
  const { correlationid } = event.extensions;
  if (correlationid !== undefined && isShort(correlationid)) envelope.correlationId = correlationid;
  return { refused: undefined, envelope, body: bytes };
}

function problemOfName(what: string, name: unknown): string | undefined {
  if (typeof name !== "string") return `the function of its ${what} gave no string`;
  return isShort(name) ? undefined : `its ${what} has more than ${shortBytes} bytes`;
}

function nameFor(named: Named, event: Outgoing["event"]): string {
  return typeof named === "string" ? named : named(event);
}

function isShort(text: string): boolean {
  return text.length <= shortBytes / 3 || Buffer.byteLength(text) <= shortBytes;
}

/** Headers and properties must fit into one frame; the client cuts names that are too long without a word. */
function problemOfHeaders(headers: Readonly<Record<string, string>>): string | undefined {
  const room = frameBytes - 2_048;
  let letters = 0;
  for (const name in headers) {
    if (!isShort(name)) return `the name of a header has more than ${shortBytes} bytes`;
    letters += name.length + (headers[name]?.length ?? 0) + 8;
  }
  if (letters * 3 <= room) return undefined;
  const bytes = Object.entries(headers).reduce((sum, [name, value]) => sum + Buffer.byteLength(name + value) + 8, 0);
  return bytes <= room ? undefined : `its headers have ${bytes} bytes, and at most ${room} fit into a frame`;
}

/** Headers that RabbitMQ adds on the way. */
const added = /^x-(death|first-death-.*|last-death-.*|delivery-count|acquired-count|stream-.*|received-from|cc|bcc)$/;

export interface Delivered {
  readonly message: AsyncMessage;
  readonly body: Buffer;
  readonly contentType: string | undefined;
}

export function incoming({ message, body, contentType }: Delivered, handle: unknown): Incoming {
  const headers: Record<string, string> = {};
  for (const [name, value] of Object.entries(message.headers ?? {})) {
    const lower = name.toLowerCase();
    const text = added.test(lower) ? undefined : textOf(value);
    if (text !== undefined) setHeader(headers, lower, text);
  }
  const id = message.messageId;
  return { headers, contentType, body, handle, ...(id !== undefined && id !== "" && { id }) };
}

/** Headers of AMQP have types; outside of it they are texts. */
function textOf(value: unknown): string | undefined {
  switch (typeof value) {
    case "string":
      return value;
    case "number":
    case "bigint":
    case "boolean":
      return String(value);
    case "object":
      if (value === null) return undefined;
      if (value instanceof Date) return Number.isNaN(value.getTime()) ? undefined : value.toISOString();
      return Buffer.isBuffer(value) ? value.toString() : JSON.stringify(value);
    default:
      return undefined;
  }
}
