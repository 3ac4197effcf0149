/** What order per key adds to a reader: whether a key goes on after a run, and how a slow claim lets its lane go on. */
import type { Executor } from "../core/database.js";
import type { CheckedPolicy } from "../policies/policy.js";
import { type Next, type Part, type Spill, spill } from "../store/work.js";
import type { Keys } from "./keys.js";
import type { Flush, Ledger } from "./ledger.js";
import type { Ran, Run } from "./run.js";
import { lostIn } from "./settler.js";

/** A claim that is open longer lets its lane go on without what still runs. */
export const spillAfterMs = 200;
/** How long the keys of a claim have before the next claim is made beside it. */
export const claimAgainAfterMs = 10;

/** Whether the next message of the key may run after this end. */
export function nextAfter(next: Next, { ordering }: CheckedPolicy): boolean {
  if (next === null) return true;
  return !("defer" in next) && ordering !== "none" && ordering.whenDead === "skip";
}

export function goesOn(ran: Ran, policy: CheckedPolicy): boolean {
  if (ran.kind === "ended") return nextAfter(ran.end.next, policy);
  return ran.kind !== "lost";
}

interface Spilling {
  readonly session: Executor;
  readonly worker: string;
  readonly ledger: Ledger;
  readonly keys: Keys;
  readonly write: (flush: Flush) => Promise<void>;
}

/**
 * Moves what runs out of a claim: each becomes the first of its parked key under a hold of its own, what waits behind it is put aside, and the
 * claim closes. A run that ends meanwhile waits for its new hold. Returns how many were put aside.
 */
export async function spillFrom(spilling: Spilling, claim: string, runs: ReadonlySet<Run>): Promise<number> {
  const { ledger, keys, worker } = spilling;
  // From here to the statement nothing is awaited, so no run can end between.
  const { parts } = ledger.drain();
  const running = [...runs].filter(
    ({ delivery: { hold }, ending }) => !ending && hold.from === "log" && hold.claim === claim,
  );
  const waiting = running.flatMap(({ delivery }) => keys.takeBehind(delivery));
  const head = running.length === 0 ? undefined : ledger.spilled(claim, running.length + waiting.length);
  if (head === undefined) {
    await spilling.write({ parts, ends: [], says: [] });
    return waiting.length;
  }
  const moved = move(
    spilling,
    parts,
    { ...head, worker, running: running.map(idOf), waiting: waiting.map(({ id }) => id) },
    running,
  );
  const settled = moved.catch(() => undefined);
  for (const run of running) run.moving = settled;
  await moved;
  for (const run of running) run.moving = undefined;
  return waiting.length;
}

async function move(spilling: Spilling, parts: readonly Part[], what: Spill, running: readonly Run[]): Promise<void> {
  const { ledger } = spilling;
  try {
    const holds = await spillOrSettle(spilling, parts, what);
    for (const { delivery } of running) delivery.hold = holds.get(delivery.id) ?? delivery.hold;
  } catch (error) {
    if (lostIn(error) === null) throw error;
    // The claim was rescued. What runs of it keeps its old hold, and its end will be refused.
    ledger.lost([what.claim]);
  }
}

/** Both in one transaction; where something of the parts is lost, they go alone first. */
async function spillOrSettle({ session, write }: Spilling, parts: readonly Part[], what: Spill) {
  try {
    return await spill(session, parts, what);
  } catch (error) {
    if (lostIn(error) === null || parts.length === 0) throw error;
    await write({ parts, ends: [], says: [] });
    return spill(session, [], what);
  }
}

function idOf({ delivery }: Run): string {
  return delivery.id;
}
