/** The same form twice, by a double click or after an answer that got lost, is one order. */
import { days, type SendOptions, type Sql } from "posthorn";
import { CapturePayment } from "../contracts.js";
import type { Customer } from "./accounts.js";

/** What stands in it. */
export interface Wish {
  readonly sku: string;
  readonly email: string;
  readonly postalCode: string;
}

export class FormUsed extends Error {}

export interface Placed {
  readonly id: string;
  /** The form was sent before, and this is the order that it placed then. */
  readonly again: boolean;
}

/**
 * How `CapturePayment` is sent for a form. `drop`: a second request is not put off but nothing at all, and gets the receipt of the first, also when both
 * come at the same moment. For a day, longer than anybody keeps a form open. A form belongs to its customer: nobody meets the order of another.
 */
export function onceFor({ guestId }: Customer, form: string | undefined): SendOptions {
  return form === undefined ? {} : { dedupe: { key: `${guestId} ${form}`, mode: "drop", windowMs: days(1) } };
}

/** The order that was placed with this payment; undefined when the payment is new. Errors: `FormUsed` when it is an order of something else. */
export async function sameOrder(tx: Sql, messageId: string, wish: Wish): Promise<Placed | undefined> {
  const { rows } = await tx.query<Wish & { readonly id: string }>(
    `select id, sku, email, postal_code as "postalCode" from shop.placed_order
     join shop.order_message on order_id = id where name = $1 and message_id = $2`,
    [CapturePayment.name, messageId],
  );
  const [order] = rows;
  if (order === undefined) return undefined;
  const { id, sku, email, postalCode } = order;
  if (sku === wish.sku && email === wish.email && postalCode === wish.postalCode) return { id, again: true };
  throw new FormUsed("This Idempotency-Key was used for another order.");
}
