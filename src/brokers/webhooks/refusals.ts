/**
 * What webhooks are turned away for, in words for who runs the receiving side. The sender, who may be anybody, is told the status and no more.
 *
 * The texts are constants: nothing that came over the line is in them, so that nobody writes into a log or a database by being refused.
 */
import type { Refusal } from "../broker.js";

export const refusalTexts = {
  path: "answered 404, posted to another path than that of the intake",
  method: "answered 405, not posted but asked for in another way",
  unsigned: "answered 401, without webhook-id, webhook-timestamp and webhook-signature, the headers of a signature",
  id: "answered 401, its webhook-id is too long or has a dot, a space or a letter that is not ASCII in it",
  time: "answered 401, its webhook-timestamp is no number of seconds",
  old: "answered 401, sent longer ago than toleranceMs: the clock of one side is off, or somebody sends a recorded one again",
  ahead: "answered 401, sent later than now by more than toleranceMs: the clock of one side is off",
  signature:
    "answered 401, signed with none of its secrets: the sender signs with another one, or the body was changed on the way",
  encoding: "answered 415, with a compressed body",
  binary: "answered 415, an event in binary mode, whose attributes no signature covers",
  headers: "answered 431, with too many headers",
  large: "answered 413, with a body larger than maxBytes",
  slow: "answered 408, with a body that did not arrive within bodyTimeoutMs",
  broken: "answered 400, with a body that did not arrive whole",
  idle: "answered 503, since no intake takes webhooks in this process: it was not started here, is paused, or stops",
  full: "answered 503, since more wait than maxPending and maxPendingBytes allow",
  late: "answered 503, since the commit did not come within commitTimeoutMs",
} as const;

export type RefusedFor = keyof typeof refusalTexts;

/** Neither the fault of a sender nor one of the settings: an intake that is paused or stops is so on purpose. */
const never: ReadonlySet<RefusedFor> = new Set(["idle", "unsigned"]);

/** Who listens for what is turned away. */
export class RefusalListeners {
  readonly #listeners: ((refusal: Refusal) => void)[] = [];

  add(listener: (refusal: Refusal) => void): void {
    this.#listeners.push(listener);
  }

  /** `meant`: the request bears what a webhook bears. */
  tell(why: RefusedFor, meant: boolean): void {
    const refusal = { reason: refusalTexts[why], meant: meant && !never.has(why) };
    for (const listener of this.#listeners) listener(refusal);
  }
}
