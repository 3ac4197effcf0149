/**
 * Gives the space of the log back: opens the next segment when it is time, moves the lanes there, and truncates segments that nobody needs. Any
 * process may run it; the database lets one at a time. Each step is committed by itself, so a pass that dies is gone on with by the next one.
 */
import type { Executor } from "../core/database.js";
import type { Logger } from "../core/logger.js";
import { rotate } from "../store/segments.js";

/** How soon to look again: while a rotation or a truncation is under way, and otherwise. */
export const rotateEveryMs = { pending: 1_000, idle: 30_000 } as const;

/** Of one pass; what is left waits for the next. */
const stepsPerPass = 200;

/** One pass; returns in how many milliseconds to look again. */
export async function rotatePass(executor: Executor, logger: Logger): Promise<number> {
  for (let step = 0; step < stepsPerPass; step += 1) {
    const { did, segment, slot, pending } = await rotate(executor);
    if (did === "truncated") logger.info("a segment of the log was truncated", { segment, slot });
    if (did === null) return pending ? rotateEveryMs.pending : rotateEveryMs.idle;
  }
  return rotateEveryMs.pending;
}
