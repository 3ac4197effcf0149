/**
 * Removes steps of messages that have ended in another way than by a run with steps: such a run removes them itself. In small pieces, and once
 * in the fleet.
 */
import type { Executor } from "../core/database.js";
import { sweepSteps } from "../store/steps.js";

const stepsPerPage = 500;
/** Pages of one pass, while each of them finds something to remove. */
const pages = 20;

/** One pass; true when there is more to remove. `everyMs`: how long ago the last one was. */
export async function stepsPass(executor: Executor, everyMs: number): Promise<boolean> {
  let waitMs = everyMs / 2;
  for (let page = 0; page < pages; page += 1) {
    const { removed, more } = await sweepSteps(executor, stepsPerPage, waitMs);
    if (!more || removed === 0) return false;
    waitMs = 0;
  }
  return true;
}
