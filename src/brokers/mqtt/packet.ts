/** From an event to what is published, and from a packet to what was received. CloudEvents MQTT binding 1.0.2. */
import type { IClientPublishOptions, IPublishPacket } from "mqtt";
import { quote } from "../../core/show.js";
import type { Incoming } from "../broker.js";
import { type CloudEvent, type EnvelopeMode, encode, type HeaderStyle } from "../envelope.js";
import { setHeader } from "../header-names.js";
import type { Settings } from "./options.js";
import { textProblem, topicProblem } from "./text.js";

/** Attributes are user properties by their own names. */
export const mqttStyle: HeaderStyle = { prefix: "", percent: false };
const structuredType = "application/cloudevents+json";

export interface Publication {
  readonly topic: string;
  readonly body: Buffer;
  readonly options: IClientPublishOptions;
  /** Of the whole packet. */
  readonly bytes: number;
}

/** Returns instead, as a text, why it cannot be sent at all. */
export function publicationOf(event: CloudEvent, mode: EnvelopeMode, settings: Settings): Publication | string {
  const topic = typeof settings.topic === "string" ? settings.topic : topicOf(settings.topic, event);
  if (typeof topic !== "string") return topic.problem;
  const { headers, contentType, body: text } = encode(event, mode, mqttStyle);
  const body = Buffer.from(text);
  const parts = 2 + Buffer.byteLength(topic) + 2 + body.length;
  if (settings.version === 4) return { topic, body, options: { qos: 1 }, bytes: framed(parts) };
  const problem = propertyProblem(contentType, headers);
  // A key, for instance, may hold any character, and in JSON it can.
  if (problem !== undefined) return mode === "binary" ? publicationOf(event, "structured", settings) : problem;
  // Content type, that the payload is UTF-8, and a name and a value for each header.
  const lengths = Object.entries(headers).map((one) => 5 + Buffer.byteLength(one[0]) + Buffer.byteLength(one[1]));
  const properties = lengths.reduce((sum, length) => sum + length, 3 + Buffer.byteLength(contentType) + 2);
  // The client sends nothing at all, and says nothing, when it is given an object without a property.
  const named = lengths.length > 0 ? { userProperties: { ...headers } } : {};
  return {
    topic,
    body,
    options: { qos: 1, properties: { contentType, payloadFormatIndicator: true, ...named } },
    bytes: framed(parts + lengthBytes(properties) + properties),
  };
}

function propertyProblem(contentType: string, headers: Readonly<Record<string, string>>): string | undefined {
  for (const [name, value] of [["content type", contentType] as const, ...Object.entries(headers)]) {
    const problem = textProblem(name) ?? textProblem(value);
    if (problem !== undefined) return `its header ${quote(name)} cannot travel: ${problem}`;
  }
  return undefined;
}

function topicOf(tell: (event: CloudEvent) => string, event: CloudEvent): string | { readonly problem: string } {
  try {
    const topic = tell(event);
    const problem = topicProblem(topic, { wildcards: false });
    return problem === undefined ? topic : { problem: `the function mqtt.topic told no topic for it: ${problem}` };
  } catch {
    return { problem: "the function mqtt.topic threw for it" };
  }
}

function framed(remaining: number): number {
  return 1 + lengthBytes(remaining) + remaining;
}

/** MQTT 5, 1.5.5: seven bits in each byte. */
function lengthBytes(length: number): number {
  if (length < 128) return 1;
  if (length < 16_384) return 2;
  return length < 2_097_152 ? 3 : 4;
}

export function incomingOf({ payload, properties }: IPublishPacket, handle: unknown): Incoming {
  const body = typeof payload === "string" ? Buffer.from(payload) : payload;
  const headers: { [name: string]: string } = {};
  const given = properties?.userProperties ?? {};
  for (const name of Object.keys(given)) {
    // Of several with one name the first counts.
    const value = given[name];
    const first = typeof value === "object" ? value[0] : value;
    const lower = name.toLowerCase();
    if (first !== undefined && !Object.hasOwn(headers, lower)) setHeader(headers, lower, first);
  }
  const isBinary = Object.hasOwn(headers, "specversion");
  const contentType = properties?.contentType ?? (!isBinary && looksStructured(body) ? structuredType : undefined);
  return { headers, contentType, body, handle };
}

/** MQTT 3.1.1 has no content type, and its binding no other mode: there an event tells by its body what it is. */
function looksStructured(body: Uint8Array): boolean {
  const text = Buffer.from(body.buffer, body.byteOffset, body.byteLength);
  return /^\s*\{/.test(text.toString("latin1", 0, 64)) && text.includes('"specversion"');
}
