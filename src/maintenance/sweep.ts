/**
 * Makes the next message of ordered keys due that nobody made due: whoever ended the one before died first, or what lay in the way is gone.
 * The holder does this itself at once; the pass is for what it left.
 */
import type { Executor } from "../core/database.js";
import { sweepKeys } from "../store/fleet.js";

const keysPerStep = 500;

/** Looks at so many pages of parked keys, where the last pass of the fleet stopped; returns whether anything is due now. */
export async function sweepPass(executor: Executor, pages: number): Promise<boolean> {
  let found = false;
  for (let page = 0; page < pages; page += 1) {
    const { promoted, more } = await sweepKeys(executor, keysPerStep);
    found ||= promoted > 0;
    if (!more) return found;
  }
  return found;
}
