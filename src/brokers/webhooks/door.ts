/**
 * Looks at a request and lets it in: what can be refused without its body is refused first, and what nobody has verified is not told why.
 *
 * The answer is given once the message is stored, or cannot be.
 */
import { ConfigurationError } from "../../core/errors.js";
import { limits } from "../../core/limits.js";
import type { Incoming } from "../broker.js";
import { type Body, BodyBudget, readBody } from "./body.js";
import { fromTheWire } from "./headers.js";
import type { Key } from "./keys.js";
import { headersProblem, isSigned, type Signed } from "./signature.js";
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

  constructor(options: DoorOptions, waiting: Waiting) {
    this.#options = options;
    this.#waiting = waiting;
    this.#budget = new BodyBudget(options.maxReadingBytes);
  }

  async enter(request: Request): Promise<Response> {
    const { keys, toleranceMs, maxBytes, bodyTimeoutMs, commitTimeoutMs } = this.#options;
    const signed = signedOf((name) => request.headers.get(name));
    const early = this.#early(request);
    if (early !== undefined) return early;
    if (keys !== undefined && headersProblem(signed, toleranceMs, Date.now()) !== undefined) return unverified();
    if (!this.#waiting.open || this.#budget.full) return this.#notNow();
    const body = await readBody(request, { maxBytes, bodyTimeoutMs, budget: this.#budget });
    if (body.kind !== "whole") return unread(body.kind);
    if (keys !== undefined && !isSigned(keys, signed, body.bytes)) return unverified();
    const message = this.#message(request, signed, body.bytes);
    if (message instanceof Response) return message;
    const stored = await this.#waiting.store(message, commitTimeoutMs);
    return stored ? new Response(null, { status: 204 }) : this.#notNow();
  }

  /** What is no webhook for this place, whoever sent it. */
  #early(request: Request): Response | undefined {
    const { path, maxBytes } = this.#options;
    if (path !== undefined && new URL(request.url).pathname !== path) return says(404, "There is nothing here.");
    if (request.method !== "POST") return says(405, "Webhooks are posted.", { allow: "POST" });
    if (request.bodyUsed) {
      throw new ConfigurationError(
        "PH_OPTION_INVALID",
        "The body of the request was read before it came to webhookIntake().fetch. Give it the request untouched.",
      );
    }
    const encoding = request.headers.get("content-encoding");
    if (encoding !== null && encoding.toLowerCase() !== "identity")
      return says(415, "Compressed bodies are not taken.");
    return Number(request.headers.get("content-length") ?? 0) > maxBytes ? unread("large") : undefined;
  }

  /** An answer for what is not let in although it is verified: its sender may know why. */
  #message({ headers }: Request, { id }: Signed, body: Uint8Array): Message | Response {
    const { keys, unsignedAttributes } = this.#options;
    const contentType = headers.get("content-type") ?? undefined;
    const binary = headers.has("ce-specversion") && !contentType?.toLowerCase().startsWith("application/cloudevents");
    if (keys !== undefined && binary && unsignedAttributes === "refuse") {
      const why = "The attributes of this event are headers, which its signature does not cover.";
      return says(415, `${why} Send it in structured mode.`);
    }
    const kept = carried(headers);
    const own = Object.entries(kept).filter(([name]) => !name.startsWith("ce-"));
    // As many as a message of this side may have.
    if (Buffer.byteLength(JSON.stringify(Object.fromEntries(own))) > limits.headersBytes) {
      return says(431, "Too many headers.");
    }
    return { headers: kept, contentType, body, ...(id !== "" && { id }) };
  }

  #notNow(): Response {
    const seconds = String(Math.ceil(this.#options.retryAfterMs / 1000));
    return says(503, "Not now. Send it again.", { "retry-after": seconds });
  }
}

function unverified(): Response {
  return says(401, "The webhook is not accepted.");
}

function unread(kind: Exclude<Body["kind"], "whole">): Response {
  if (kind === "large") return says(413, "The body is too large.");
  return kind === "slow" ? says(408, "The body did not arrive in time.") : says(400, "The body did not arrive whole.");
}

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

function carried(headers: Headers): Incoming["headers"] {
  const kept: [string, string][] = [];
  for (const [name, value] of headers) {
    if (dropped.has(name) || droppedPrefixes.some((prefix) => name.startsWith(prefix))) continue;
    kept.push([name, fromTheWire(value)]);
  }
  return Object.fromEntries(kept);
}
