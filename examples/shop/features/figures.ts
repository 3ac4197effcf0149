/** Sales figures: one row for each day and article, kept up to date by the facts. */
import type { OutputOf } from "posthorn";
import type { OrderPlaced } from "../contracts.js";
import { type InTransaction, read } from "../post.js";

/** Transaction mode: "add one" must happen once, and nothing in the row would show a second time. */
export async function addToFigures(
  { sku, cents }: OutputOf<typeof OrderPlaced>,
  { tx, message }: InTransaction,
): Promise<void> {
  await tx.query(
    `insert into shop.sales_figure (day, sku, orders, cents) values ($1::date, $2, 1, $3)
     on conflict (day, sku) do update set orders = sales_figure.orders + 1, cents = sales_figure.cents + excluded.cents`,
    [message.publishedAt.toISOString().slice(0, 10), sku, cents],
  );
}

export interface Figure {
  readonly sku: string;
  readonly article: string;
  readonly orders: number;
  readonly cents: number;
}

export async function figures(): Promise<readonly Figure[]> {
  return read<Figure>(
    `select a.sku, a.name as article, coalesce(sum(f.orders), 0)::float8 as orders, coalesce(sum(f.cents), 0)::float8 as cents
     from shop.article a left join shop.sales_figure f using (sku) group by a.sku, a.name, a.list_cents order by a.list_cents desc`,
  );
}
