/**
 * Notices an intake that is new and brings in what another one of its service did: the other one was renamed, or moved to another broker. What was taken in is
 * recognised by the name of its intake, so nothing of it is recognised under the new one.
 */
import { quote } from "../core/show.js";
import type { RegisteredIntake } from "../store/operate.js";
import type { IntakeDeclaration } from "./options.js";

export interface Predecessor {
  readonly name: string;
  /** Of which the new one brings in some too. */
  readonly contracts: readonly string[];
}

/** None for an intake that is known. `declared`: all that the instance declares, whether they are started or not; two of these are two sources. */
export function predecessors(
  { name, service, contracts }: IntakeDeclaration,
  declared: ReadonlySet<string>,
  known: readonly RegisteredIntake[],
): readonly Predecessor[] {
  if (known.some((one) => one.name === name)) return [];
  const own = new Set(contracts.map((contract) => contract.name));
  return known
    .filter((one) => one.service === service && !declared.has(one.name))
    .map((one) => ({ name: one.name, contracts: one.contracts.filter((contract) => own.has(contract)) }))
    .filter((one) => one.contracts.length > 0);
}

/** What stands behind the name of the new one, which is `to`. */
export function predecessorInWords({ name, contracts }: Predecessor, to: string): string {
  const old = quote(name);
  return (
    `is new, and brings in ${contracts.join(", ")} as the intake ${old} did, which is not declared here: what ${old} took in is not recognised under another name, ` +
    `and is handled once more when the broker gives it again. If ${old} was renamed or moved to another broker, stop what runs either and run posthorn intakes rename ${name} ${to}: from then on it is recognised. ` +
    `If both are sources of their own, nothing is to be done. If ${old} is gone for good: posthorn intakes remove ${name}`
  );
}
