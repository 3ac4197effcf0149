/** Tells that a handler of requests failed: whoever asks may be anybody, and may ask often, so not each time. */
import type { Logger } from "../core/logger.js";
import { count } from "../core/words.js";

const pauseMs = 60_000;

/** The first at once; then, with the next one, how many there were, at most once a minute. */
export function tellSeldom(logger: Pick<Logger, "error">): (error: unknown) => void {
  let toldAt = Number.NEGATIVE_INFINITY;
  let untold = 0;
  return (error) => {
    untold += 1;
    const now = performance.now();
    if (now - toldAt < pauseMs) return;
    const what = untold === 1 ? "a request was" : `${count(untold)} requests were`;
    logger.error(`${what} answered 500 since the handler failed; the last of its errors is with this`, { error });
    toldAt = now;
    untold = 0;
  };
}
