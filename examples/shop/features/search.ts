/** Finding orders by their words: PostgreSQL's full text search. */
import type { OutputOf } from "posthorn";
import type { OrderPlaced } from "../contracts.js";
import { type InTransaction, read } from "../post.js";
import type { Customer } from "./accounts.js";

/** Transaction mode: the document is a row here, and commits with the end of the event. */
export async function indexOrder(order: OutputOf<typeof OrderPlaced>, { tx }: InTransaction): Promise<void> {
  const { orderId, sku, article, email, postalCode } = order;
  await tx.query(
    "insert into shop.search_document (order_id, words) values ($1, to_tsvector('english', $2) || to_tsvector('simple', $3))",
    [orderId, article, [sku, email, email.split("@")[0], postalCode, orderId.slice(0, 8)].join(" ")],
  );
}

export interface Hit {
  readonly id: string;
  readonly article: string;
  readonly cents: number;
  readonly email: string;
  readonly placedAt: string;
}

const mostHits = 20;

/** Among one's own orders. How many there are is counted as well. */
export async function searchOrders(text: string, customer: Customer): Promise<{ total: number; hits: readonly Hit[] }> {
  const rows = await read<Hit & { total: number }>(
    `select o.id, o.article, o.cents, o.email, to_json(o.placed_at) #>> '{}' as "placedAt", count(*) over ()::int as total
     from shop.search_document d join shop.placed_order o on o.id = d.order_id
     where d.words @@ (websearch_to_tsquery('english', $1) || websearch_to_tsquery('simple', $1))
       and (o.guest_id = $2 or o.user_id = $3::uuid)
     order by o.n desc limit $4`,
    [text, customer.guestId, customer.userId, mostHits],
  );
  return { total: rows[0]?.total ?? 0, hits: rows.map(({ total: _total, ...hit }) => hit) };
}
