/** An error is never only in the database: it is told when it happens, as it is kept in the history and without the payload. */
import type { Logger } from "../core/logger.js";
import type { CheckedPolicy } from "../policies/policy.js";
import { publicId } from "../store/publish.js";
import { failureOf } from "./failure.js";
import type { Handled, Ran } from "./run.js";

type Ended = Extract<Ran, { readonly kind: "ended" }>;

interface Telling {
  readonly policy: Pick<CheckedPolicy, "relay">;
  readonly name: string;
  readonly logger: Logger;
  readonly handlers: ReadonlyMap<number, Handled>;
}

/** `quiet`: that it is tried again was told already, with others. */
export function tell({ name, policy, logger, handlers }: Telling, ended: Ended, quiet = false): void {
  const { end, error: thrown, note, cancelled } = ended;
  const { delivery, outcome, next } = end;
  const what = `${handlers.get(delivery.contract)?.contract.name ?? "a message"} in "${name}"`;
  const facts = { reader: name, message: publicId(delivery), attempt: delivery.attempts + 1 };
  if (outcome === "invalid") {
    logger.warn(`${what} does not fit its schema; it is in the invalid list`, { ...facts, ...next });
  }
  if (cancelled) {
    logger.info(`${what} was cancelled while it ran`, facts);
    return;
  }
  if (outcome === "expired") logger.info(`${what} expired before a run of it began`, facts);
  if (next === null || "invalid" in next || outcome === "released") return;
  if (outcome === "postponed") {
    if ("defer" in next && !quiet)
      logger.info(
        `${what} is put off by its ${policy.relay ? "relay" : "handler"} for ${next.defer.delayMs} ms: ${note}`,
        facts,
      );
    return;
  }
  const error = failureOf(thrown);
  const why = error.message.slice(0, 200);
  if ("dead" in next)
    logger.error(`${what} ${diedBy(next.dead.reason)} and is a dead letter now: ${why}`, { ...facts, error });
  if ("defer" in next && !quiet) {
    logger.warn(`${what} failed and is tried again in ${next.defer.delayMs} ms: ${why}`, { ...facts, error });
    if (note !== undefined) logger.warn(`${what}: ${note}`, facts);
  }
}

/** The reason as the start of a sentence. The words of a rejection follow as those of its error. */
function diedBy(reason: string): string {
  if (reason.startsWith("rejected: ")) return "was rejected";
  return reason.includes(", ") ? `${reason},` : reason;
}
