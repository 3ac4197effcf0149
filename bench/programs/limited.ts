/** A worker of a queue with a rate limit for the whole fleet; it tells when its handlers began. */
import { posthorn, seconds } from "posthorn";
import { now } from "../clock.js";
import { Work } from "../payload.js";
import { handlerPolicy } from "../policy.js";
import { serve, settings } from "./serve.js";

export interface LimitedCalls {
  readonly start: () => Promise<void>;
  /** When each handler began, from the first on. */
  readonly begins: () => readonly number[];
}

const { url, perSecond } = settings<{ readonly url: string; readonly perSecond: number }>();
const post = posthorn({ service: "bench", database: url });
const begins: number[] = [];
const rateLimit = { messages: perSecond, perMs: seconds(1) };
post.queue("work", { ...handlerPolicy(), rateLimit }).handle(Work, async (_payload, { signal }) => {
  begins.push(now());
  signal.throwIfAborted();
});

serve<LimitedCalls>({ start: () => post.start(), begins: () => begins });
