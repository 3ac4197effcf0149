/** Raises and resolves alerts by the policies, once in the fleet, and logs each change in the process that noticed it. */
import type { Executor } from "../core/database.js";
import { type Logger, recovered } from "../core/logger.js";
import { watch } from "../store/fleet.js";

/** How often the fleet looks. */
export const watchEveryMs = 5_000;

export async function watchPass(executor: Executor, logger: Logger): Promise<void> {
  const changes = await watch(executor, watchEveryMs - 500);
  for (const { change, alert, subscription, value, threshold, detail } of changes ?? []) {
    const facts = { alert, subscription, value, threshold, ...(detail === null ? {} : { detail }) };
    const whose = subscription === null ? "the log" : `"${subscription}"`;
    const what = detail === null ? "" : `: ${detail}`;
    if (change === "raised") logger.error(`alert: ${alert} of ${whose} is ${value}, limit ${threshold}${what}`, facts);
    else logger.info(`resolved: ${alert} of ${whose}`, { ...facts, ...recovered });
  }
}
