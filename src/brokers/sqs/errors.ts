/** What the codes of SQS mean. Both protocols of the SDK are met: codes with the prefix of the older one, and without. */

import { withoutSecrets } from "../../core/secrets.js";
import type { Sent } from "../broker.js";
import type { Hello } from "../probe.js";
import { type Denied, toMend, type Way } from "../to-mend.js";
import type { Settings } from "./options.js";

const throttledMs = 1_000;
const throttling: ReadonlySet<string> = new Set([
  "RequestThrottled",
  "ThrottlingException",
  "Throttling",
  "ThrottledException",
  "OverLimit",
  "KmsThrottled",
  "TooManyRequestsException",
  "SlowDown",
]);
/** About what the message holds, or how large it is. */
const refusals: ReadonlySet<string> = new Set([
  "InvalidMessageContents",
  "InvalidParameterValue",
  "InvalidAttributeValue",
  "InvalidParameterValueException",
]);
const tooLong: ReadonlySet<string> = new Set(["BatchRequestTooLong", "MessageTooLong"]);
const missing: ReadonlySet<string> = new Set(["QueueDoesNotExist", "NonExistentQueue", "QueueDeletedRecently"]);

const credentials: ReadonlySet<string> = new Set([
  "InvalidClientTokenId",
  "InvalidAccessKeyId",
  "UnrecognizedClientException",
  "SignatureDoesNotMatch",
  "IncompleteSignature",
  "InvalidSecurity",
  "MissingAuthenticationToken",
  "MissingAuthenticationTokenException",
  "ExpiredToken",
  "ExpiredTokenException",
  "AuthFailure",
  // Of the SDK itself: it has found none.
  "CredentialsProviderError",
]);
const rights: ReadonlySet<string> = new Set(["AccessDenied", "AccessDeniedException", "OptInRequired"]);

function deniedBy(error: unknown): Denied | undefined {
  const code = codeOf(error) ?? "";
  if (credentials.has(code)) return "credentials";
  return rights.has(code) ? "right" : undefined;
}

const hello: Hello = {
  says: Buffer.from("GET / HTTP/1.1\r\nhost: sqs\r\nconnection: close\r\n\r\n"),
  isOne: (got) => (got.length < 5 ? undefined : got.toString("latin1", 0, 5) === "HTTP/"),
};

export function wayOf({ endpoint, where, secrets }: Settings): Way {
  const { protocol, hostname, port } = new URL(endpoint ?? "https://aws");
  const scheme = protocol.slice(0, -1);
  const host = hostname.replace(/^\[(.*)\]$/, "$1");
  return {
    broker: "SQS",
    where,
    // AWS itself speaks TLS, and what it is asked for by is not an address of ours.
    servers: endpoint === undefined ? [] : [{ host, port: Number(port || (scheme === "https" ? 443 : 80)) }],
    scheme,
    schemes: ["http", "https"],
    secrets,
    // A server without TLS answers to it in HTTP, which Node takes for no TLS.
    hello,
    denied: deniedBy,
  };
}

/** "AWS.SimpleQueueService.NonExistentQueue" is "NonExistentQueue". */
export function codeIn(code: string): string {
  return code.slice(code.lastIndexOf(".") + 1);
}

export function codeOf(error: unknown): string | undefined {
  return error instanceof Error ? codeIn(error.name) : undefined;
}

export function isMissing(error: unknown): boolean {
  return missing.has(codeOf(error) ?? "");
}

/** Of a whole request: too large together, or one of its entries is not acceptable. */
export function isRefusal(error: unknown): boolean {
  const code = codeOf(error) ?? "";
  return tooLong.has(code) || refusals.has(code);
}

/** A whole request that failed: SQS has none of it, or says nothing about it. */
export function lost(settings: Settings, error: unknown): Sent {
  const words = said("SQS did not acknowledge it", settings, error);
  const isThrottled = throttling.has(codeOf(error) ?? "");
  return { kind: "unavailable", error: words, ...(isThrottled && { retryAfterMs: throttledMs }) };
}

/** One entry of a request that SQS did not take, while it took others. */
export function notTaken(
  settings: Settings,
  failed: { Code?: string | undefined; Message?: string | undefined; SenderFault?: boolean | undefined },
): Sent {
  const code = codeIn(failed.Code ?? "unknown");
  const text = `${code}: ${failed.Message ?? "no reason given"}`;
  const error = said("SQS did not take it", settings, new Error(text));
  if (throttling.has(code)) return { kind: "unavailable", error, retryAfterMs: throttledMs };
  if (refusals.has(code) || tooLong.has(code))
    return { kind: "refused", reason: settings.secrets.hide(`SQS refuses it: ${text}`) };
  return { kind: "failed", error };
}

/** The SDK's errors hold the request and its answer; what is passed on holds the text alone, or what is to be mended. */
export function said(what: string, settings: Settings, error: unknown): Error {
  const mended = toMend(wayOf(settings), error);
  if (mended !== undefined) return mended;
  const { where, secrets } = settings;
  const code = codeOf(error);
  const text = error instanceof Error ? error.message || error.name : String(error);
  const named = code === undefined || code === "Error" || text.startsWith(code) ? text : `${code}: ${text}`;
  const clean = withoutSecrets(new Error(`${what} (${where}): ${named}`), secrets);
  const known = clean instanceof Error ? clean : new Error(`${what} (${where})`);
  // What Node says of a connection.
  const system = typeof error === "object" && error !== null && "code" in error ? error.code : undefined;
  return typeof system === "string" ? Object.assign(known, { code: system }) : known;
}
