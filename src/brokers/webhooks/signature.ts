/** Signatures of Standard Webhooks 1.0.0: over `id.timestamp.body`, one for each key, so that keys can be changed without a gap. */
import {
  createHash,
  createHmac,
  type Hmac,
  sign as signWith,
  timingSafeEqual,
  verify as verifyWith,
} from "node:crypto";
import { limits } from "../../core/limits.js";
import type { Key } from "./keys.js";

/** The three headers. */
export interface Signed {
  readonly id: string;
  /** Seconds since 1970, of the attempt. */
  readonly timestamp: string;
  readonly signature: string;
}

/** Letters, digits, _ and -: above all no dot, since dots part what is signed. */
const plainId = /^[A-Za-z0-9_-]{1,128}$/;
/** What is taken from others. */
const acceptedId = /^[\x21-\x2d\x2f-\x7e]{1,255}$/;

/** The webhook-id of a message: its own id where that is plain, and otherwise a name made from it, the same at each attempt. */
export function webhookId(id: string): string {
  return plainId.test(id) ? id : `msg_${createHash("sha256").update(id).digest("base64url")}`;
}

export function sign(keys: readonly Key[], id: string, atMs: number, body: Buffer): Signed {
  const timestamp = String(Math.floor(atMs / 1000));
  const signatures = keys.map((key) => {
    if (key.kind === "v1") return `${key.kind},${hmac(key.secret, id, timestamp, body).digest("base64")}`;
    return `${key.kind},${signWith(null, contentOf(id, timestamp, body), key.key).toString("base64")}`;
  });
  return { id, timestamp, signature: signatures.join(" ") };
}

function contentOf(id: string, timestamp: string, body: Uint8Array): Buffer {
  return Buffer.concat([Buffer.from(beginningOf(id, timestamp)), body]);
}

function beginningOf(id: string, timestamp: string): string {
  return `${id}.${timestamp}.`;
}

/** Of the content, without putting that together. */
function hmac(secret: Buffer, id: string, timestamp: string, body: Uint8Array): Hmac {
  return createHmac("sha256", secret).update(beginningOf(id, timestamp)).update(body);
}

/** What is wrong with the headers of a webhook. */
export type HeadersProblem = "unsigned" | "id" | "time" | "old" | "ahead";

/** Why headers cannot belong to a webhook of now; looked at before the body is read. Not for the one who asks. */
export function headersProblem(signed: Signed, toleranceMs: number, nowMs: number): HeadersProblem | undefined {
  const { id, timestamp } = signed;
  if (!bearsSignature(signed)) return "unsigned";
  if (!acceptedId.test(id)) return "id";
  if (!/^\d{1,12}$/.test(timestamp)) return "time";
  const ageMs = nowMs - Number(timestamp) * 1000;
  // The timestamp is in whole seconds: it may be up to one older than it says.
  if (ageMs > toleranceMs + 999) return "old";
  return ageMs < -toleranceMs ? "ahead" : undefined;
}

/** Whether there is something in each of the three headers, and a signature looks like one: what a sender has, and a passer-by has not. */
export function bearsSignature({ id, timestamp, signature }: Signed): boolean {
  return id !== "" && timestamp !== "" && /(?:^| )v1a?,./.test(signature);
}

/** Whether one of the signatures is of one of the keys. How long it takes tells nothing about a shared secret: not which, and not how much of a signature was right. */
export function isSigned(keys: readonly Key[], { id, timestamp, signature }: Signed, body: Uint8Array): boolean {
  const given = signature.split(" ", limits.webhookSignatures).map((one) => {
    const comma = one.indexOf(",");
    return { kind: one.slice(0, comma), bytes: Buffer.from(one.slice(comma + 1), "base64") };
  });
  let valid = false;
  for (const key of keys) {
    const candidates = given.filter(({ kind }) => kind === key.kind);
    if (key.kind === "v1") {
      const expected = hmac(key.secret, id, timestamp, body).digest();
      for (const { bytes } of candidates) valid = (bytes.length === 32 && timingSafeEqual(bytes, expected)) || valid;
    } else if (!valid) {
      // Each costs milliseconds for a large body, and whoever asks may have signed nothing: no more than a sender has keys. To end with the right one tells
      // nothing that is secret, since the keys are public.
      const content = contentOf(id, timestamp, body);
      valid = candidates
        .filter(({ bytes }) => bytes.length === 64)
        .slice(0, limits.webhookSecrets)
        .some(({ bytes }) => verifyWith(null, content, key.key, bytes));
    }
  }
  return valid;
}
