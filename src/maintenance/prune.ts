/**
 * Removes what has been kept for its time: results, the records of cancelled messages; and requests to cancel that are done with. Once in the
 * fleet, in small pieces, each a transaction of its own.
 */
import type { Executor } from "../core/database.js";
import { prune } from "../store/results.js";

/** How soon the fleet looks again: while there is more, and otherwise. */
export const pruneEveryMs = { pending: 1_000, idle: 30_000 } as const;

const rowsPerPiece = 1_000;
/** Of one pass; what is left waits for the next. */
const pieces = 50;

/** One pass; returns in how many milliseconds to look again. `everyMs`: how long ago the last one was. */
export async function prunePass(executor: Executor, everyMs: number): Promise<number> {
  let removed = await prune(executor, everyMs / 2, rowsPerPiece);
  for (let done = 1; removed === rowsPerPiece && done < pieces; done += 1) {
    removed = await prune(executor, 0, rowsPerPiece);
  }
  return removed === rowsPerPiece ? pruneEveryMs.pending : pruneEveryMs.idle;
}
