/** How the messages of one batch end in the transaction of their handler. */
import type { OpenTransaction } from "../core/database.js";
import type { Place } from "./publish.js";
import { mapped } from "./sqlstate.js";
import { type Delivery, placesOf } from "./work.js";

/**
 * Ends the deliveries of a batch, as the last statement of the transaction of its handler, and commits. `open.mark` is needed.
 *
 * Errors: `ClaimLostError`, whose facts name the delivery that somebody else ended; then none has ended.
 */
export async function endManyAndCommit(
  open: OpenTransaction,
  deliveries: readonly Delivery[],
  say: string | null,
): Promise<ReadonlyMap<string, Place>> {
  const ends = [...deliveries].sort(asRescued).map(({ subscription, id, delivery, hold }) => {
    const log = hold.from === "log" ? hold : undefined;
    const deferred = hold.from === "deferred" ? hold.deferred : null;
    const { messageSlot = null, claim = null, claimSlot = null } = log ?? {};
    return [subscription, id, messageSlot, delivery, claim, claimSlot, deferred, hold.token];
  });
  const text = "select posthorn.end_many($1::json, $2::text, $3::json)::text as said";
  const params = [JSON.stringify(ends), open.mark, say];
  const [row] = await mapped(open.commit<{ said: string | null }>({ text, params }));
  return placesOf(row?.said ?? null);
}

/** Claims in their order, each with its messages in theirs, then what was taken from `deferred`. */
function asRescued(a: Delivery, b: Delivery): number {
  const [x, y] = [placeOf(a), placeOf(b)];
  if (x.claimed !== y.claimed) return x.claimed ? -1 : 1;
  return compare(x.group, y.group) || compare(x.one, y.one);
}

function placeOf({ hold, id }: Delivery): { readonly claimed: boolean; readonly group: bigint; readonly one: bigint } {
  return hold.from === "log"
    ? { claimed: true, group: BigInt(hold.claim), one: BigInt(id) }
    : { claimed: false, group: BigInt(hold.deferred), one: 0n };
}

function compare(a: bigint, b: bigint): number {
  return a < b ? -1 : a > b ? 1 : 0;
}
