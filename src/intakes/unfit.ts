/** What fits nothing, as it is kept: everything that is needed to read it again, within limits, and nothing that PostgreSQL cannot store. */
import type { Incoming } from "../brokers/broker.js";
import { limits } from "../core/limits.js";
import type { Unfit } from "../store/intake.js";
import type { Identity } from "./identity.js";

/** What was found out before it turned out to fit nothing. */
export interface Found {
  readonly identity: Identity;
  readonly source?: string | undefined;
  readonly event?: string | undefined;
  readonly type?: string | undefined;
  /** The key that it says itself; without it that of the broker. */
  readonly key?: string | undefined;
}

/** Letters of a text beside the body: what is longer is cut. */
const textLength = 2_000;

export function unfitOf(incoming: Incoming, reason: string, { identity, source, event, type, key }: Found): Unfit {
  const { body } = incoming;
  const { headers, all } = headersWithin(incoming.headers);
  const whole = body.byteLength <= limits.intakeBodyBytes;
  const kept = whole ? body : body.subarray(0, limits.intakeKeptBytes);
  return {
    mark: identity.mark,
    former: identity.former,
    once: identity.kind !== "content",
    reason: text(reason) ?? "",
    source: text(source),
    event: text(event),
    type: text(type),
    contentType: text(incoming.contentType),
    headers,
    key: text(key ?? incoming.key),
    brokerId: text(incoming.id),
    position: text(incoming.position),
    body: Buffer.from(kept.buffer, kept.byteOffset, kept.byteLength).toString("base64"),
    bytes: body.byteLength,
    whole: whole && all,
  };
}

/** What can be stored of a text. */
export function text(given: string | undefined): string | null {
  return given === undefined ? null : given.slice(0, textLength).replaceAll("\0", "\ufffd").toWellFormed();
}

function headersWithin(given: Incoming["headers"]): {
  readonly headers: Readonly<Record<string, string>>;
  readonly all: boolean;
} {
  const kept: [string, string][] = [];
  let bytes = 0;
  let all = true;
  for (const [name, value] of Object.entries(given)) {
    bytes += name.length + value.length;
    if (bytes > limits.intakeKeptBytes) return { headers: Object.fromEntries(kept), all: false };
    const stored = [name, value].map((one) => one.replaceAll("\0", "\ufffd").toWellFormed());
    if (stored[0] !== name || stored[1] !== value) all = false;
    kept.push([stored[0] ?? "", stored[1] ?? ""]);
  }
  return { headers: Object.fromEntries(kept), all };
}
