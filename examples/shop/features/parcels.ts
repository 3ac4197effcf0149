/** What the shipping department has sent off. */
import type { OutputOf } from "posthorn";
import { type InTransaction, read } from "../post.js";
import type { OrderShipped } from "../shipping/contracts.js";

/** Transaction mode: the note and the end of the event are one commit. */
export async function noteParcel(
  { orderId, tracking }: OutputOf<typeof OrderShipped>,
  { tx }: InTransaction,
): Promise<void> {
  await tx.query("insert into shop.parcel (order_id, tracking) values ($1, $2)", [orderId, tracking]);
}

/** The number to follow it by; undefined until it was sent off. */
export async function parcelOf(orderId: string): Promise<string | undefined> {
  const [parcel] = await read<{ tracking: string }>("select tracking from shop.parcel where order_id = $1", [orderId]);
  return parcel?.tracking;
}
