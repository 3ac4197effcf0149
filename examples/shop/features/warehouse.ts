/** The warehouse: each order gets the next piece of its article. */
import type { OutputOf } from "posthorn";
import type { PickPiece } from "../contracts.js";
import { type InTransaction, read } from "../post.js";

/**
 * Transaction mode: a piece that is taken from the shelf and given to nobody, or to two, cannot be. The queue keeps order per article, so the
 * first who ordered gets the first piece; while a shelf is empty those behind wait, and other articles go on.
 */
export async function pickPiece({ orderId, sku }: OutputOf<typeof PickPiece>, { tx }: InTransaction): Promise<void> {
  await tx.query(
    `with shelf as (update shop.article set picked = picked + 1 where sku = $2 returning picked)
     insert into shop.piece (order_id, sku, number) select $1, $2, picked from shelf`,
    [orderId, sku],
  );
}

/** The number of the piece among those of its article; undefined until it is picked. */
export async function pieceOf(orderId: string): Promise<number | undefined> {
  const [piece] = await read<{ number: number }>("select number from shop.piece where order_id = $1", [orderId]);
  return piece?.number;
}

export interface Shelf {
  readonly sku: string;
  readonly article: string;
  /** Orders that wait for a piece. */
  readonly waiting: number;
}

export async function shelves(): Promise<readonly Shelf[]> {
  return read<Shelf>(
    "select sku, name as article, ordered - picked as waiting from shop.article order by list_cents desc",
  );
}
