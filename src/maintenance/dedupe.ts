/** Forgets dedupe keys whose window is over, in small pieces, and lets go what waited behind a run that ended unseen. */
import type { Executor } from "../core/database.js";
import { tidyDedupe } from "../store/fleet.js";

/** How often each process looks; the database lets one at a time. */
export const tidyEveryMs = 5_000;
/** Keys in one transaction, so that no lock is held for long. */
const keysPerPiece = 1_000;
/** Pieces of one pass, so that a large heap takes several. */
const piecesPerPass = 20;

export async function dedupePass(executor: Executor): Promise<void> {
  for (let piece = 0; piece < piecesPerPass; piece += 1) {
    if ((await tidyDedupe(executor, keysPerPiece)) < keysPerPiece) return;
  }
}
