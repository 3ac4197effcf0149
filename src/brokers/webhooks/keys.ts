/**
 * The keys of Standard Webhooks 1.0.0 as they are written: `whsec_` a shared secret (HMAC-SHA256), `whsk_` and `whpk_` the two halves of an ed25519 pair.
 *
 * A key never appears in a message.
 */
import { createPrivateKey, createPublicKey, generateKeyPairSync, type KeyObject, randomBytes } from "node:crypto";
import { ConfigurationError } from "../../core/errors.js";
import { limits } from "../../core/limits.js";
import { show } from "../../core/show.js";

/** What signs or verifies: v1 and v1a, as the signatures are called. */
export type Key = { readonly kind: "v1"; readonly secret: Buffer } | { readonly kind: "v1a"; readonly key: KeyObject };

export type Side = "signs" | "verifies";

const sharedBytes = { least: 24, most: 64 };
// DER of an ed25519 key up to its 32 bytes (RFC 8410).
const privateHead = Buffer.from("302e020100300506032b657004220420", "hex");
const publicHead = Buffer.from("302a300506032b6570032100", "hex");

/** Reads a list of keys, as an option takes it. Errors: `ConfigurationError`. */
export function readKeys(value: unknown, path: string, side: Side): readonly Key[] {
  if (!Array.isArray(value) || value.length === 0 || value.length > limits.webhookSecrets) {
    const other = typeof value === "string" ? "a string" : show(value);
    const got = Array.isArray(value) ? `a list of ${value.length}` : other;
    refuse(path, `must be a list of 1 to ${limits.webhookSecrets} secrets, got ${got}`);
  }
  return value.map((one: unknown, i) => readKey(one, `${path}[${i}]`, side));
}

function readKey(value: unknown, path: string, side: Side): Key {
  const [, prefix, text = ""] = /^(whsec|whsk|whpk)_(.*)$/s.exec(typeof value === "string" ? value : "") ?? [];
  if (prefix === undefined) {
    refuse(path, `must be a string that begins with whsec_ or ${side === "signs" ? "whsk_" : "whpk_"}`);
  }
  const bytes = fromBase64(text);
  if (bytes === undefined) refuse(path, `is not base64 after ${prefix}_`);
  switch (prefix) {
    case "whsec":
      return shared(bytes, path);
    case "whsk":
      if (side === "verifies")
        refuse(path, "is the secret half of a pair, which only the sender has: give its whpk_ half");
      return { kind: "v1a", key: privateKey(bytes, path) };
    default:
      if (side === "signs") refuse(path, "is the public half of a pair, which cannot sign: give its whsk_ half");
      return { kind: "v1a", key: publicKey(bytes, path) };
  }
}

function shared(secret: Buffer, path: string): Key {
  const { least, most } = sharedBytes;
  if (secret.length >= least && secret.length <= most) return { kind: "v1", secret };
  return refuse(path, `has ${secret.length} bytes; a shared secret has ${least} to ${most}`);
}

/** The seed of 32 bytes, alone or with the public half after it. */
function privateKey(bytes: Buffer, path: string): KeyObject {
  if (bytes.length !== 32 && bytes.length !== 64)
    refuse(path, `has ${bytes.length} bytes; an ed25519 key has 32 or 64`);
  const der = Buffer.concat([privateHead, bytes.subarray(0, 32)]);
  const key = createPrivateKey({ key: der, format: "der", type: "pkcs8" });
  const fits = bytes.length === 32 || rawPublic(key).equals(bytes.subarray(32));
  return fits ? key : refuse(path, "is broken: its two halves do not belong together");
}

function publicKey(bytes: Buffer, path: string): KeyObject {
  if (bytes.length !== 32) refuse(path, `has ${bytes.length} bytes; an ed25519 public key has 32`);
  return createPublicKey({ key: Buffer.concat([publicHead, bytes]), format: "der", type: "spki" });
}

function rawPublic(key: KeyObject): Buffer {
  const spki = createPublicKey(key).export({ format: "der", type: "spki" });
  return spki.subarray(publicHead.length);
}

function fromBase64(text: string): Buffer | undefined {
  const bytes = Buffer.from(text, "base64");
  const same = bytes.toString("base64").replace(/=+$/, "") === text.replace(/=+$/, "");
  return same && /^[A-Za-z0-9+/]+={0,2}$/.test(text) ? bytes : undefined;
}

function refuse(path: string, problem: string): never {
  throw new ConfigurationError("PH_OPTION_INVALID", `${path} ${problem}. It is not shown, since it is a secret.`, {
    path,
  });
}

/** A new shared secret, for both sides: `whsec_…`, 32 random bytes. */
export function newWebhookSecret(): string {
  return `whsec_${randomBytes(32).toString("base64")}`;
}

/** A new ed25519 pair: `whsk_…` stays with the sender, `whpk_…` is for everybody who verifies. */
export function newWebhookKeyPair(): { readonly secretKey: string; readonly publicKey: string } {
  const { privateKey: key } = generateKeyPairSync("ed25519");
  const seed = key.export({ format: "der", type: "pkcs8" }).subarray(privateHead.length);
  const raw = rawPublic(key);
  return {
    secretKey: `whsk_${Buffer.concat([seed, raw]).toString("base64")}`,
    publicKey: `whpk_${raw.toString("base64")}`,
  };
}
