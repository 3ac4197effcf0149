/** An error is never only in the database: it is told when it happens, as it is kept in the history and without the payload. */
import type { Logger } from "../core/logger.js";
import { publicId } from "../store/publish.js";
import type { End } from "../store/work.js";
import { failureOf } from "./failure.js";
import type { Handled } from "./run.js";

export interface Telling {
  readonly name: string;
  readonly logger: Logger;
  readonly handlers: ReadonlyMap<number, Handled>;
}

/** `quiet`: the retry was told already, with others. */
export function tell({ name, logger, handlers }: Telling, end: End, thrown: unknown, quiet: boolean): void {
  const { delivery, outcome, next } = end;
  const what = `${handlers.get(delivery.contract)?.contract.name ?? "a message"} in "${name}"`;
  const facts = { reader: name, message: publicId(delivery), attempt: delivery.attempts + 1 };
  if (outcome === "invalid") {
    logger.warn(`${what} does not fit its schema; it is in the invalid list`, { ...facts, ...next });
  }
  if (outcome !== "failed" || next === null) return;
  const error = failureOf(thrown);
  const why = error.message.slice(0, 200);
  if ("dead" in next) logger.error(`${what} ${next.dead.reason} and is a dead letter now: ${why}`, { ...facts, error });
  if ("defer" in next && !quiet) {
    logger.warn(`${what} failed and is tried again in ${next.defer.delayMs} ms: ${why}`, { ...facts, error });
  }
}
