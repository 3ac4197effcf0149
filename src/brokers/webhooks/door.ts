/**
 * Looks at a request and lets it in: what can be refused without its body is refused first, and what nobody has verified is not told why.
 *
 * The answer is given once the message is stored, or cannot be.
 */
import { ConfigurationError } from "../../core/errors.js";
import { limits } from "../../core/limits.js";
import type { Incoming, Refusal } from "../broker.js";
import { BodyBudget, readBody } from "./body.js";
import { fromTheWire } from "./headers.js";
import type { Key } from "./keys.js";
import { RefusalListeners, type RefusedFor } from "./refusals.js";
import { bearsSignature, headersProblem, isSigned, type Signed } from "./signature.js";
import { signedOf } from "./verify.js";
import type { Message, Waiting } from "./waiting.js";

export interface DoorOptions {
  /** Undefined: nothing is verified. */
  readonly keys: readonly Key[] | undefined;
  readonly toleranceMs: number;
  readonly path?: string;
  readonly unsignedAttributes: "refuse" | "accept";
  readonly maxBytes: number;
  readonly bodyTimeoutMs: number;
  readonly commitTimeoutMs: number;
  readonly retryAfterMs: number;
  readonly maxReadingBytes: number;
}

export class Door {
  readonly #options: DoorOptions;
  readonly #waiting: Waiting;
  readonly #budget: BodyBudget;
  readonly #listeners = new RefusalListeners();

  constructor(options: DoorOptions, waiting: Waiting) {
    this.#options = options;
    this.#waiting = waiting;
    this.#budget = new BodyBudget(options.maxReadingBytes);
  }

  /** Has `listener` told of each request that is refused. */
  onRefused(listener: (refusal: Refusal) => void): void {
    this.#listeners.add(listener);
  }

  async enter(request: Request): Promise<Response> {
    const signed = signedOf((name) => request.headers.get(name));
    const outcome = await this.#judge(request, signed);
    if (outcome === "stored") return new Response(null, { status: 204 });
    const meant = this.#options.keys === undefined || bearsSignature(signed);
    // What is not for this place at all is only of interest where a sender has the wrong address of it.
    if (!elsewhere.has(outcome) || bearsSignature(signed)) this.#listeners.tell(outcome, meant);
    return this.#answerFor(outcome);
  }

  /** What becomes of it; what costs least is looked at first. */
  async #judge(request: Request, signed: Signed): Promise<RefusedFor | "stored"> {
    const { keys, toleranceMs, maxBytes, bodyTimeoutMs, commitTimeoutMs } = this.#options;
    const early = this.#early(request);
    if (early !== undefined) return early;
    const problem = keys === undefined ? undefined : headersProblem(signed, toleranceMs, Date.now());
    if (problem !== undefined) return problem;
    const closed = this.#waiting.closed ?? (this.#budget.full ? "full" : undefined);
    if (closed !== undefined) return closed;
    const body = await readBody(request, { maxBytes, bodyTimeoutMs, budget: this.#budget });
    if (body.kind !== "whole") return body.kind;
    if (keys !== undefined && !isSigned(keys, signed, body.bytes)) return "signature";
    const message = this.#message(request, signed, body.bytes);
    return typeof message === "string" ? message : this.#waiting.store(message, commitTimeoutMs);
  }

  /** What is no webhook for this place, whoever sent it. */
  #early(request: Request): RefusedFor | undefined {
    const { path, maxBytes } = this.#options;
    if (path !== undefined && new URL(request.url).pathname !== path) return "path";
    if (request.method !== "POST") return "method";
    if (request.bodyUsed) {
      throw new ConfigurationError(
        "PH_OPTION_INVALID",
        "The body of the request was read before it came to webhookIntake().fetch. Give it the request untouched.",
      );
    }
    const encoding = request.headers.get("content-encoding");
    if (encoding !== null && encoding.toLowerCase() !== "identity") return "encoding";
    return Number(request.headers.get("content-length") ?? 0) > maxBytes ? "large" : undefined;
  }

  /** What is verified is not let in for all that. */
  #message({ headers }: Request, { id }: Signed, body: Uint8Array): Message | RefusedFor {
    const { keys, unsignedAttributes } = this.#options;
    const contentType = headers.get("content-type") ?? undefined;
    const binary = headers.has("ce-specversion") && !contentType?.toLowerCase().startsWith("application/cloudevents");
    if (keys !== undefined && binary && unsignedAttributes === "refuse") return "binary";
    const kept = carried(headers);
    const own = Object.entries(kept).filter(([name]) => !name.startsWith("ce-"));
    // As many as a message of this side may have.
    const bytes = Buffer.byteLength(JSON.stringify(Object.fromEntries(own)));
    if (bytes > limits.headersBytes) return "headers";
    return { headers: kept, contentType, body, ...(id !== "" && { id }) };
  }

  #answerFor(why: RefusedFor): Response {
    const [status, text] = answers[why];
    if (status === 405) return says(status, text, { allow: "POST" });
    if (status !== 503) return says(status, text);
    return says(status, text, { "retry-after": String(Math.ceil(this.#options.retryAfterMs / 1000)) });
  }
}

/** What the sender is told. One that nobody has verified learns nothing about why. */
const unverified = [401, "The webhook is not accepted."] as const;
const notNow = [503, "Not now. Send it again."] as const;
const answers: Readonly<Record<RefusedFor, readonly [status: number, text: string]>> = {
  path: [404, "There is nothing here."],
  method: [405, "Webhooks are posted."],
  unsigned: unverified,
  id: unverified,
  time: unverified,
  old: unverified,
  ahead: unverified,
  signature: unverified,
  encoding: [415, "Compressed bodies are not taken."],
  binary: [
    415,
    "The attributes of this event are headers, which its signature does not cover. Send it in structured mode.",
  ],
  headers: [431, "Too many headers."],
  large: [413, "The body is too large."],
  slow: [408, "The body did not arrive in time."],
  broken: [400, "The body did not arrive whole."],
  idle: notNow,
  full: notNow,
  late: notNow,
};
const elsewhere: ReadonlySet<RefusedFor> = new Set(["path", "method"]);

function says(status: number, text: string, headers: Readonly<Record<string, string>> = {}): Response {
  return new Response(`${text}\n`, { status, headers: { "content-type": "text/plain; charset=utf-8", ...headers } });
}

/** Of the request, of what stands before this process, or secret: none of it is about the message. */
const dropped = new Set([
  "accept",
  "accept-charset",
  "accept-encoding",
  "accept-language",
  "authorization",
  "cache-control",
  "connection",
  "content-encoding",
  "content-length",
  "content-type",
  "cookie",
  "dnt",
  "expect",
  "forwarded",
  "from",
  "host",
  "keep-alive",
  "max-forwards",
  "origin",
  "pragma",
  "priority",
  "proxy-authorization",
  "proxy-connection",
  "referer",
  "te",
  "trailer",
  "transfer-encoding",
  "true-client-ip",
  "upgrade",
  "upgrade-insecure-requests",
  "user-agent",
  "via",
  "x-real-ip",
]);
const droppedPrefixes = ["webhook-", "sec-", "cf-", "x-forwarded-", "x-envoy-", "x-amzn-", "x-vercel-", "fly-"];

/** What senders, gateways and platforms prove themselves with. It would be stored, shown, and sent on by whoever relays the message. */
const credentials = new Set([
  "api-key",
  "apikey",
  "ocp-apim-subscription-key",
  "x-access-token",
  "x-amz-security-token",
  "x-api-key",
  "x-api-token",
  "x-apikey",
  "x-auth-key",
  "x-auth-token",
  "x-client-secret",
  "x-functions-key",
  "x-gitlab-token",
  "x-goog-iap-jwt-assertion",
  "x-hub-signature",
  "x-hub-signature-256",
  "x-ms-token-aad-access-token",
  "x-ms-token-aad-id-token",
  "x-secret",
  "x-signature",
  "x-webhook-secret",
]);

function carried(headers: Headers): Incoming["headers"] {
  const kept: [string, string][] = [];
  for (const [name, value] of headers) {
    if (dropped.has(name) || credentials.has(name) || droppedPrefixes.some((prefix) => name.startsWith(prefix)))
      continue;
    kept.push([name, fromTheWire(value)]);
  }
  return Object.fromEntries(kept);
}
