/** A worker that works off what waits, and then tells how much memory it needed at most. */
import { readFileSync } from "node:fs";
import { posthorn } from "posthorn";
import { checkDrained } from "../backlog.js";
import { Work } from "../payload.js";
import { handlerPolicy } from "../policy.js";
import { serve, settings } from "./serve.js";

export interface DrainerCalls {
  readonly drain: (messages: number) => Promise<{ readonly seconds: number; readonly peakBytes: number }>;
  /** How many it has handled so far. */
  readonly handled: () => number;
}

const { url, concurrency } = settings<{ readonly url: string; readonly concurrency?: number }>();
const post = posthorn({ service: "bench", database: url });
let handled = 0;
post.queue("work", handlerPolicy(concurrency)).handle(Work, async (_payload, { signal }) => {
  signal.throwIfAborted();
  handled += 1;
});

/** The high-water mark that the kernel keeps of the resident memory of this process. */
function peakBytes(): number {
  const [, kibibytes] = /^VmHWM:\s+(\d+) kB$/m.exec(readFileSync("/proc/self/status", "utf8")) ?? [];
  if (kibibytes === undefined) throw new Error("/proc/self/status does not say VmHWM");
  return Number(kibibytes) * 1_024;
}

serve<DrainerCalls>({
  drain: async (messages) => {
    const begun = performance.now();
    await post.start();
    await post.untilIdle();
    const seconds = (performance.now() - begun) / 1_000;
    await checkDrained(post, handled, messages);
    await post.stop();
    return { seconds, peakBytes: peakBytes() };
  },
  handled: () => handled,
});
