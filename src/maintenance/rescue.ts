/** Frees what dead workers held. Any process may run it; the database lets one at a time. */
import type { Executor } from "../core/database.js";
import type { Logger } from "../core/logger.js";
import { rescue } from "../store/fleet.js";

/** Claims that one pass frees: bounded, so that a pass is short. */
const claimsPerPass = 200;

/** One pass; returns whether there is more to do. */
export async function rescuePass(executor: Executor, logger: Logger): Promise<boolean> {
  const rescued = await rescue(executor, claimsPerPass);
  for (const { worker, service, host, pid, why, messages } of rescued) {
    logger.warn("a worker died; its messages go to others", { worker, service, host, pid, why, messages });
  }
  return rescued.some(({ done }) => !done);
}
