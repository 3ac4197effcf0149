/** What an article costs now, and what to do while nobody can tell. */
import { type AnswerContext, DeadlineError, type Sql } from "posthorn";
import { PriceOf } from "../contracts.js";
import { post, read } from "../post.js";

export class UnknownArticle extends Error {
  constructor(sku: string) {
    super(`There is no article ${sku}.`);
  }
}

export interface Price {
  readonly cents: number;
  /** False: pricing did not answer in time, and this is the list price. */
  readonly confirmed: boolean;
}

/** The list price less today's offer. */
export async function answerPrice({ sku }: { sku: string }, { tx }: AnswerContext<Sql>): Promise<{ cents: number }> {
  const { rows } = await tx.query<{ cents: number }>(
    `select (list_cents * (100 - coalesce(percent_off, 0)) / 100)::int as cents
     from shop.article left join shop.offer using (sku) where sku = $1`,
    [sku],
  );
  const [price] = rows;
  if (price === undefined) throw new UnknownArticle(sku);
  return price;
}

/** A customer must not wait for pricing longer than the deadline of `PriceOf`: then the order is taken at the list price. */
export async function priceNow(sku: string): Promise<Price> {
  try {
    const { cents } = await post.ask(PriceOf, { sku });
    return { cents, confirmed: true };
  } catch (error) {
    if (!(error instanceof DeadlineError)) throw error;
    const [article] = await read<{ cents: number }>("select list_cents as cents from shop.article where sku = $1", [
      sku,
    ]);
    if (article === undefined) throw new UnknownArticle(sku);
    return { cents: article.cents, confirmed: false };
  }
}

export interface Article {
  readonly sku: string;
  readonly name: string;
  readonly about: string;
  readonly listCents: number;
}

export async function articles(): Promise<readonly Article[]> {
  return read<Article>(`select sku, name, about, list_cents as "listCents" from shop.article order by list_cents desc`);
}
