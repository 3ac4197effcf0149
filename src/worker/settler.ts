/** Writes settlements: as a whole, and where the database refuses some as lost, the rest without them. */
import type { Executor } from "../core/database.js";
import { ClaimLostError } from "../core/errors.js";
import type { Logger } from "../core/logger.js";
import { asSay } from "../producer/buffer.js";
import { isConflict } from "../store/publish.js";
import { isLockTimeout } from "../store/sqlstate.js";
import { settle } from "../store/work.js";
import { type Flush, type Ledger, type Lost, without } from "./ledger.js";

export interface Settling {
  readonly session: Executor;
  readonly logger: Logger;
  readonly ledger: Ledger;
  /** These channels got messages that handlers said. */
  readonly onSaid: (channels: ReadonlySet<number>) => void;
}

const mostConflicts = 5;
const lockPauseMs = 50;

/** Returns what was written. Errors: everything but a lost claim. */
export async function write(settling: Settling, flush: Flush): Promise<Flush> {
  let left: Flush | null = flush;
  let conflicts = 0;
  while (left !== null && (left.parts.length > 0 || left.ends.length > 0)) {
    try {
      await send(settling, left);
      return left;
    } catch (error) {
      // A producer's open transaction has said a key that a handler here said, too. Its end is waited for in pieces, so that the heartbeat gets
      // through between them.
      if (isLockTimeout(error)) {
        await new Promise((resolve) => setTimeout(resolve, lockPauseMs));
        continue;
      }
      // What a handler said can wait in a ring with producers that say the same keys: nothing was written, so it is repeated.
      if (isConflict(error) && conflicts < mostConflicts) {
        conflicts += 1;
        continue;
      }
      const lost = lostIn(error);
      if (lost === null) throw error;
      settling.logger.warn("a settlement was refused: the message was rescued or ended elsewhere", { ...lost });
      settling.ledger.lost(lost.claims ?? []);
      left = without(left, lost);
    }
  }
  return { parts: [], ends: [], says: [] };
}

async function send({ session, onSaid }: Settling, { parts, ends, says }: Flush): Promise<void> {
  const { list, committed } = asSay(says.map(({ batch }) => batch));
  committed(await settle(session, parts, ends, list));
  onSaid(new Set(says.flatMap(({ batch }) => [...batch.channels])));
}

/** What the database says is lost; null when the error is another one. */
export function lostIn(error: unknown): Lost | null {
  if (!(error instanceof ClaimLostError) || error.code !== "PH_CLAIM_LOST") return null;
  const { detail } = error.facts;
  return typeof detail === "string" ? JSON.parse(detail) : {};
}
