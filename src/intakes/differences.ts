/** In what an intake differs from what is registered of it, in words. */
import { durationInWords } from "../core/words.js";
import { type Decisions, decisionDifferences, type PolicyDifference } from "../policies/differences.js";
import type { IntakeDeclaration } from "./options.js";

/** What the registry keeps of an intake. */
export interface RegisteredAs {
  readonly broker: string;
  readonly place: string;
  readonly keepMs: number;
  readonly awayMs: number;
  readonly contracts: readonly string[];
}

export function intakeDifferences(registered: RegisteredAs, declared: IntakeDeclaration): readonly PolicyDifference[] {
  const { broker, contracts, keepMs, awayMs } = declared;
  const names = [...new Set(contracts.map(({ name }) => name))].sort();
  return decisionDifferences(
    decisionsOf(registered),
    decisionsOf({ broker: broker.kind, place: broker.where, keepMs, awayMs, contracts: names }),
  );
}

/** By the names of the options. */
function decisionsOf({ broker, place, keepMs, awayMs, contracts }: RegisteredAs): Decisions {
  return {
    parts: { from: { broker, where: place }, into: contracts, "inbox.keepMs": keepMs, "alerts.awayMs": awayMs },
    words: new Map([
      ["from", `taken in from ${broker} ${place}`],
      ["into", contracts.join(", ")],
      ["inbox.keepMs", `what comes again is recognised for ${durationInWords(keepMs)}`],
      ["alerts.awayMs", `you are told after ${durationInWords(awayMs)} without a connection`],
    ]),
  };
}
