/** In what an intake differs from what is registered of it, in words. */
import { count, durationInWords } from "../core/words.js";
import { type Decisions, decisionDifferences, type PolicyDifference } from "../policies/differences.js";
import type { IntakeDeclaration } from "./options.js";

/** What the registry keeps of an intake. */
export interface RegisteredAs {
  readonly broker: string;
  readonly place: string;
  readonly keepMs: number;
  /** Null where the library that declared it did not know the bound. */
  readonly alerts: { readonly awayMs: number; readonly refused: number | null; readonly invalid: number | null };
  readonly contracts: readonly string[];
}

export function intakeDifferences(registered: RegisteredAs, declared: IntakeDeclaration): readonly PolicyDifference[] {
  const { broker, contracts, keepMs, alerts } = declared;
  const names = [...new Set(contracts.map(({ name }) => name))].sort();
  // What was registered without a bound is no difference: the next start says it.
  const was = { ...registered, alerts: { ...alerts, ...known(registered.alerts) } };
  return decisionDifferences(
    decisionsOf(was),
    decisionsOf({ broker: broker.kind, place: broker.where, keepMs, alerts, contracts: names }),
  );
}

function known<T extends object>(bounds: T): Partial<T> {
  return Object.fromEntries(Object.entries(bounds).filter(([, bound]) => bound !== null)) as Partial<T>;
}

/** By the names of the options. */
function decisionsOf({ broker, place, keepMs, alerts, contracts }: RegisteredAs): Decisions {
  const { awayMs, refused, invalid } = alerts;
  return {
    parts: {
      from: { broker, where: place },
      into: contracts,
      "inbox.keepMs": keepMs,
      "alerts.awayMs": awayMs,
      "alerts.refused": refused,
      "alerts.invalid": invalid,
    },
    words: new Map([
      ["from", `taken in from ${broker} ${place}`],
      ["into", contracts.join(", ")],
      ["inbox.keepMs", `what comes again is recognised for ${durationInWords(keepMs)}`],
      ["alerts.awayMs", `you are told after ${durationInWords(awayMs)} without a connection`],
      ["alerts.refused", `you are told at ${count(refused ?? 0)} refused`],
      ["alerts.invalid", `you are told at ${count(invalid ?? 0)} invalid`],
    ]),
  };
}
