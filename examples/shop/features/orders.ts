/** Orders: placing one, placing many, and who may see which. */
import { randomUUID } from "node:crypto";
import type { AnswerContext, OutputOf, Receipt, Sql } from "posthorn";
import { CapturePayment, ImportOrders, MaySeeOrder, OrderPlaced, PickPiece, SendEmail } from "../contracts.js";
import { euros } from "../money.js";
import { type InTransaction, post, read } from "../post.js";
import { type MessageNote, noteMessages } from "../tables.js";
import type { Customer } from "./accounts.js";
import { onceFor, type Placed, sameOrder, type Wish } from "./forms.js";
import { priceNow, UnknownArticle } from "./prices.js";

export interface Order extends Wish {
  readonly id: string;
  readonly article: string;
  readonly cents: number;
  readonly priceConfirmed: boolean;
  readonly placedAt: string;
}

/**
 * The order, the fact and the requests, in one commit: if this process dies before it, none of them exists; after it, all do.
 * The question comes first: a transaction should not wait for an answer.
 *
 * `form` is the number of the order form. The same form again, after a double click or a lost answer, is the same order; of two at the same
 * moment as well. Errors: `FormUsed` when something else stands in it.
 */
export async function placeOrder(wish: Wish, customer: Customer, form?: string): Promise<Placed> {
  const { cents, confirmed } = await priceNow(wish.sku);
  const orderId = randomUUID();
  return post.transaction(async ({ tx, publish }) => {
    // Written at once, because its id is needed in this commit; and first, because a second request gets the receipt of the first.
    const payment = await post.in(tx).send(CapturePayment, { orderId, cents }, onceFor(customer, form));
    const before = await sameOrder(tx, payment.id, wish);
    if (before !== undefined) return before;
    const [order] = await insertOrders(tx, customer, { sku: wish.sku, cents, confirmed }, [{ ...wish, orderId }]);
    if (order === undefined) throw new UnknownArticle(wish.sku);
    publish(OrderPlaced, order);
    await noteMessages(tx, CapturePayment.name, [{ orderId, messageId: payment.id }]);
    const pick = await post.in(tx).send(PickPiece, { orderId, sku: order.sku });
    await noteMessages(tx, PickPiece.name, [{ orderId, messageId: pick.id }]);
    return { id: orderId, again: false };
  });
}

interface Terms {
  readonly sku: string;
  readonly cents: number;
  readonly confirmed: boolean;
}

type Owner = Pick<Customer, "guestId" | "userId">;
type Said = OutputOf<typeof OrderPlaced>;

/** Returns what is said of each; nothing when there is no such article. Counting the article holds its row: its orders get their turn by commits. */
async function insertOrders(
  tx: Sql,
  { guestId, userId }: Owner,
  { sku, cents, confirmed }: Terms,
  orders: readonly { readonly orderId: string; readonly email: string; readonly postalCode: string }[],
): Promise<readonly Said[]> {
  const { rows } = await tx.query<Said>(
    `with a as (update shop.article set ordered = ordered + json_array_length($1::json) where sku = $4 returning sku, name, ordered)
     insert into shop.placed_order (id, guest_id, user_id, sku, article, cents, price_confirmed, email, postal_code, turn)
     select o."orderId", $2, $3, a.sku, a.name, $5, $6, o.email, o."postalCode", a.ordered - json_array_length($1::json) + o.n
     from a, rows from (json_to_recordset($1::json) as ("orderId" uuid, email text, "postalCode" text))
       with ordinality as o ("orderId", email, "postalCode", n) order by o.n
     returning id as "orderId", sku, article, cents, email, postal_code as "postalCode"`,
    [JSON.stringify(orders), guestId, userId, sku, cents, confirmed],
  );
  return rows;
}

/* Many at once */

/** So many are placed by one step. */
export const importStep = 250;

/** Returns as soon as it is certain that they will be placed, long before they are. */
export async function startImport(wish: Wish & { readonly count: number }, customer: Customer): Promise<string> {
  const { cents, confirmed } = await priceNow(wish.sku);
  const importId = randomUUID();
  await post.transaction(async ({ tx, send }) => {
    await tx.query(
      `insert into shop.import (id, guest_id, user_id, sku, cents, price_confirmed, postal_code, total)
       values ($1, $2, $3, $4, $5, $6, $7, $8)`,
      [importId, customer.guestId, customer.userId, wish.sku, cents, confirmed, wish.postalCode, wish.count],
    );
    send(ImportOrders, { importId });
  });
  return importId;
}

interface Import extends Owner, Terms {
  readonly postalCode: string;
  readonly from: number;
  readonly placed: number;
  readonly total: number;
}

/** The first customer lives at the postal code that was given, the others all over the country. */
function away(postalCode: string, n: number): string {
  return String((Number(postalCode) + n * 6_173) % 100_000).padStart(5, "0");
}

/** One step: its orders, their messages, how far it has come, and the request for the next step. Killed anywhere, it goes on from there. */
export async function importOrders({ importId }: { importId: string }, { tx, send }: InTransaction): Promise<void> {
  const { rows } = await tx.query<Import>(
    `update shop.import i set placed = least(i.total, i.placed + $2),
       ended_at = case when i.placed + $2 >= i.total then clock_timestamp() end
     from shop.import old where i.id = $1 and old.id = i.id
     returning i.guest_id as "guestId", i.user_id as "userId", i.sku, i.postal_code as "postalCode", i.cents,
       i.price_confirmed as confirmed, old.placed as "from", i.placed, i.total`,
    [importId, importStep],
  );
  const [found] = rows;
  if (found === undefined) throw new Error(`There is no import ${importId}.`);
  const wanted = Array.from({ length: found.placed - found.from }, (_, i) => {
    const n = found.from + i;
    return { orderId: randomUUID(), email: `customer-${n + 1}@example.com`, postalCode: away(found.postalCode, n) };
  });
  const orders = await insertOrders(tx, found, found, wanted);
  const say = post.in(tx);
  await say.publishMany(OrderPlaced, orders);
  const payments = await say.sendMany(
    CapturePayment,
    orders.map(({ orderId, cents }) => ({ orderId, cents })),
  );
  const picks = await say.sendMany(
    PickPiece,
    orders.map(({ orderId, sku }) => ({ orderId, sku })),
  );
  const notes = (receipts: readonly Receipt[]): readonly MessageNote[] =>
    orders.map(({ orderId }, i) => ({ orderId, messageId: receipts[i]?.id ?? "" }));
  await noteMessages(tx, CapturePayment.name, notes(payments));
  await noteMessages(tx, PickPiece.name, notes(picks));
  if (found.placed < found.total) send(ImportOrders, { importId });
}

/* What follows from an order by mail */

/** Transaction mode: the command, the notes and the end of the event are one commit, so an order never gets two mails. */
export async function confirmOrder(order: Said, { tx, message }: InTransaction): Promise<void> {
  const { orderId, article, cents, email: to } = order;
  const text = `Thank you for your order.\n\n  ${article}, ${euros(cents)}\n\nOrder ${orderId}\n`;
  const mail = { to, subject: `Your order: ${article}`, text, about: orderId };
  const { id: messageId } = await post.in(tx).send(SendEmail, mail);
  await noteMessages(tx, OrderPlaced.name, [{ orderId, messageId: message.id, saidAt: message.publishedAt }]);
  await noteMessages(tx, SendEmail.name, [{ orderId, messageId }]);
}

/* Who may see which */

export async function answerMaySee(
  { orderId, userId, guestId }: { orderId: string; userId: string | null; guestId: string },
  { tx }: AnswerContext<Sql>,
): Promise<{ allowed: boolean }> {
  const { rows } = await tx.query(
    "select from shop.placed_order where id = $1 and (guest_id = $2 or user_id = $3::uuid)",
    [orderId, guestId, userId],
  );
  return { allowed: rows.length > 0 };
}

/** The order, if it is theirs; nothing for an order of somebody else, as for one that does not exist. */
export async function orderFor(orderId: string, customer: Customer): Promise<Order | undefined> {
  const { guestId, userId } = customer;
  const { allowed } = await post.ask(MaySeeOrder, { orderId, userId, guestId });
  if (!allowed) return undefined;
  const [order] = await read<Order>(`select ${columns} from shop.placed_order where id = $1`, [orderId]);
  return order;
}

const columns = `id, sku, article, cents, price_confirmed as "priceConfirmed", email, postal_code as "postalCode",
  to_json(placed_at) #>> '{}' as "placedAt"`;

/** The page shows so many. */
const newest = 20;

export async function ordersOf({ guestId, userId }: Customer): Promise<readonly Order[]> {
  // Two index scans; one condition with "or" would read the whole table.
  return read<Order>(
    `select ${columns} from (
       (select * from shop.placed_order where guest_id = $1 order by n desc limit $3)
       union (select * from shop.placed_order where user_id = $2::uuid order by n desc limit $3)) o
     order by n desc limit $3`,
    [guestId, userId, newest],
  );
}
