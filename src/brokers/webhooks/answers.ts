/**
 * What an answer means for a message. Standard Webhooks 1.0.0, "Delivery success and failure"; CloudEvents "HTTP 1.1 Web Hooks", 2.2.
 *
 * Only what the answer itself says about the receiver, or what a gateway in front of it says, counts as "away". A 403 or 404 may come from a filter that
 * does not like this one payload: it is this message's failure, and its policy bounds it, so that one message cannot hold all others. So may a gateway's
 * 502, or an answer that never comes, where the receiver falls over this one payload: each is `alone`, and the relay looks whether others go through. Who
 * asks for a pause, or throttles, speaks of all.
 *
 * Refused for good is only what is the same at each attempt and not the same for each message: its size. A 414 or 415 is about the url or the mode, which
 * somebody mends.
 */
import { limits } from "../../core/limits.js";
import { retryAfterOf } from "../../core/retry-after.js";
import type { Sent } from "../broker.js";
import type { Posted } from "./post.js";

type Answered = Extract<Posted, { kind: "answered" }>;

/** `gone`: the receiver wants nothing more. */
export type Meaning = Sent | { readonly kind: "gone" };

const throttled = 429;
/** What a gateway says of a receiver that is down, silent, full, or behind a wall; from 509 on in numbers of their makers. 511 comes from the network between. */
const away: ReadonlySet<number> = new Set([
  throttled,
  ...[502, 503, 504, 507, 509, 511],
  ...[520, 521, 522, 523, 524, 525, 526, 527, 529, 530, 598, 599],
]);
/** What is too large in a message. */
const tooLarge: ReadonlyMap<number, string> = new Map([
  [413, "too large for it"],
  [431, "headers too large for it"],
]);

/** `clean` takes out what nobody may read. */
export function meaningOf(posted: Posted, where: string, clean: (text: string) => string): Meaning {
  if (posted.kind === "lost") {
    return {
      kind: "unavailable",
      error: withPlace(posted.error, where, clean),
      ...(posted.connected && { alone: true }),
      ...(!posted.begun && { unsent: true }),
    };
  }
  const { status } = posted;
  if (status >= 200 && status < 300) return { kind: "acknowledged" };
  if (status === 410) return { kind: "gone" };
  const text = `${where} answered ${status}${hint(status)}${excerpt(posted, clean)}`;
  const saidMs = retryAfterOf({ headers: { get: (name) => first(posted.headers[name]) } });
  // RFC 9110, 15.5.14: who says when to come again means that it will not be too large then.
  if (saidMs === undefined && tooLarge.has(status)) return { kind: "refused", reason: text };
  const error = new Error(text);
  // "At once" asks for no pause, and so says nothing of other messages.
  const retryAfterMs = saidMs === 0 ? undefined : saidMs;
  if (retryAfterMs !== undefined) return { kind: away.has(status) ? "unavailable" : "failed", error, retryAfterMs };
  if (!away.has(status)) return { kind: "failed", error };
  return { kind: "unavailable", error, ...(status !== throttled && { alone: true }) };
}

function withPlace(error: Error, where: string, clean: (text: string) => string): Error {
  // A refused address names its place already.
  if (error.message.includes(where)) return error;
  return Object.assign(new Error(`Nothing came back from ${where}. ${clean(error.message)}`), {
    ...("code" in error && { code: error.code }),
  });
}

function hint(status: number): string {
  if (status >= 300 && status < 400) return " (a redirect, which is never followed: put the new address into url)";
  const large = tooLarge.get(status);
  return large === undefined ? "" : ` (${large})`;
}

function first(value: string | string[] | undefined): string | null {
  return (Array.isArray(value) ? value[0] : value) ?? null;
}

/** One line of printable letters. */
function excerpt({ text }: Answered, clean: (text: string) => string): string {
  const line = clean(text)
    .replace(/[\p{C}\p{Z}\uFFFD]+/gu, " ")
    .trim();
  if (line === "") return ".";
  const cut = line.length > limits.webhookExcerptLength ? `${line.slice(0, limits.webhookExcerptLength)}…` : line;
  return `: ${cut}`;
}
