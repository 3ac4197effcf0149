/** What becomes of a message whose handler decided about it by what it threw. */
import { composed } from "../core/composed.js";
import { ConfigurationError } from "../core/errors.js";
import { limits } from "../core/limits.js";
import type { CheckedPolicy } from "../policies/policy.js";
import type { Verdict } from "../policies/verdicts.js";
import type { CircuitEvent } from "../store/circuit.js";
import type { Delivery, Next, Outcome } from "../store/work.js";
import { clean, failureOf } from "./failure.js";

export interface Decided {
  readonly outcome: Outcome;
  readonly next: Next;
  /** What the handler said about a run that is no failure. */
  readonly note?: string;
  readonly circuit?: CircuitEvent;
}

/** What at-most-once makes of a wish to run again: it may have taken effect. */
const ruledOut = "asked for another run, which at-most-once rules out";

export function decide(delivery: Delivery, policy: CheckedPolicy, verdict: Verdict, thrown: unknown): Decided {
  const { attempts } = delivery;
  // A message of a relay that has ended in order kills nobody. While its broker is silent each is on its way for long, and workers die for other reasons.
  const crashes = policy.relay === undefined || verdict.kind === "reject" ? delivery.crashes : 0;
  const dead = (reason: string): Next => ({
    dead: { reason, keepMs: policy.deadLetter.keepMs, attempts: attempts + 1, crashes },
  });
  if (verdict.kind === "reject") {
    return { outcome: "rejected", next: dead(`rejected: ${clean(verdict.reason, limits.issueLength)}`) };
  }
  const note = noteOf(thrown);
  const opens =
    verdict.kind === "open"
      ? { circuit: { open: verdict.openMs, reason: note, ...(policy.relay && { relay: policy.relay }) } }
      : {};
  const ran = verdict.kind !== "open" || verdict.unsent !== true;
  if (policy.idempotency === "at-most-once" && ran) return { outcome: "failed", next: dead(ruledOut), ...opens };
  const delayMs =
    verdict.delayMs ?? (verdict.kind === "open" ? verdict.openMs : null) ?? policy.circuitBreaker?.openMs ?? 0;
  return { outcome: "postponed", next: { defer: { delayMs, attempts, crashes } }, note, ...opens };
}

/** "the answer 429 asks to come back later", with what caused it. */
function noteOf(thrown: unknown): string {
  const { message } = failureOf(thrown);
  const cause = causeOf(thrown);
  const why = cause === undefined ? "" : ` (${failureOf(cause).message})`;
  return clean(`${message}${why}`, limits.issueLength);
}

function causeOf(thrown: unknown): unknown {
  try {
    return thrown instanceof Error ? thrown.cause : undefined;
  } catch {
    return undefined;
  }
}

/** The error of a handler that opens a circuit where there is none. */
export function withoutBreaker(name: string, cause: unknown): ConfigurationError {
  const message = `The handler threw OpenCircuit, and the policy of "${name}" declares no circuitBreaker: it counts as a failure. Declare one, or throw RetryLater.`;
  return composed(new ConfigurationError("PH_OPTION_MISSING", message, { name }, cause));
}
