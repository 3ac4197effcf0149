/**
 * Removes what has been kept for its time: results, the records of cancelled messages; and requests to cancel that are done with. Once in the
 * fleet, in small pieces, each a transaction of its own.
 */
import type { Executor } from "../core/database.js";
import { prune } from "../store/results.js";

/** How often the fleet looks. */
export const pruneEveryMs = 5_000;

const rowsPerPiece = 1_000;
/** Of one pass; what is left waits for the next. */
const pieces = 50;

/** One pass; returns how many pieces it took. */
export async function prunePass(executor: Executor): Promise<number> {
  let removed = await prune(executor, pruneEveryMs - 500, rowsPerPiece);
  let done = 1;
  for (; removed === rowsPerPiece && done < pieces; done += 1) removed = await prune(executor, 0, rowsPerPiece);
  return done;
}
