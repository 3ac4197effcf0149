/** How runs end, and what follows from it: for the engine and for the model. */
import type { Delivery, End, Next as EndNext } from "../../src/store/work.js";
import type { Next, Outcome, Said } from "./said.js";
import { hour } from "./stage.js";

export type How = "succeed" | "retry" | "retry later" | "postpone" | "reject" | "invalid" | "release" | "expire";

interface Consequence {
  readonly outcome: Outcome & End["outcome"];
  readonly next: Next;
  readonly attempts: number;
}

/** What follows from the end of a run of a message. */
export function consequence({ attempts, crashes }: Said, how: How | "put aside"): Consequence {
  const again = (outcome: Consequence["outcome"], defer: "now" | "later", more: number): Consequence => {
    return { outcome, next: { defer, attempts: attempts + more, crashes }, attempts: attempts + more };
  };
  switch (how) {
    case "succeed":
      return { outcome: "succeeded", next: null, attempts };
    case "expire":
      return { outcome: "expired", next: null, attempts };
    case "retry":
      return again("failed", "now", 1);
    case "retry later":
      return again("failed", "later", 1);
    case "postpone":
      return again("postponed", "later", 0);
    case "reject":
      return { outcome: "rejected", next: "dead", attempts: attempts + 1 };
    case "invalid":
      return { outcome: "invalid", next: "invalid", attempts };
    case "put aside":
      return again("parked", "now", 0);
    default:
      return again("released", "now", 0);
  }
}

/** The same as a worker says it. */
export function endOf(
  { delivery, said }: { readonly delivery: Delivery; readonly said: Said },
  how: How,
  ends: boolean,
): End {
  const { outcome, next, attempts } = consequence(said, how);
  return {
    delivery,
    outcome,
    entry: { attempt: said.attempts + 1, outcome },
    next: nextOf(next, attempts, said.crashes),
    ends,
  };
}

function nextOf(next: Next, attempts: number, crashes: number): EndNext {
  if (next === null) return null;
  if (next === "invalid") return { invalid: [] };
  if (typeof next === "string") return { dead: { reason: "test", keepMs: 24 * hour, attempts, crashes } };
  return { defer: { delayMs: next.defer === "now" ? 0 : hour, attempts: next.attempts, crashes: next.crashes } };
}
