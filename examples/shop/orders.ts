/** Orders: placing one, and telling what became of its messages. */
import { randomUUID } from "node:crypto";
import type { ReceiverStatus, Sql, State } from "posthorn";
import { OrderPlaced, PriceOf } from "./contracts.js";
import { post } from "./post.js";

export class UnknownArticle extends Error {
  constructor(sku: string) {
    super(`There is no article ${sku}.`);
  }
}

export interface Article {
  readonly sku: string;
  readonly name: string;
  readonly about: string;
}

/** What became of a message for one receiver, as far as the page shows it: errors by their message, without stacks. */
export interface Receiver {
  readonly name: string;
  readonly state: State;
  readonly dueAt: string | null;
  readonly failures: readonly { readonly attempt: number; readonly at: string | null; readonly error: string }[];
}

/** A message of an order, with its state for each receiver. */
export interface OrderMessage {
  readonly id: string;
  readonly name: string;
  readonly saidAt: string;
  readonly receivers: readonly Receiver[];
}

export interface Order {
  readonly id: string;
  readonly sku: string;
  readonly article: string;
  readonly cents: number;
  readonly email: string;
  readonly placedAt: string;
  readonly messages: readonly OrderMessage[];
}

type OrderRow = Omit<Order, "messages"> & { readonly messages: readonly Omit<OrderMessage, "receivers">[] };

/** The page shows so many. */
const newest = 20;

/** Writes the order and says so, in one commit: if this process dies before it, neither exists; after it, both do. */
export async function placeOrder(order: { readonly sku: string; readonly email: string }): Promise<string> {
  const { sku, email } = order;
  const { cents } = await post.ask(PriceOf, { sku });
  const orderId = randomUUID();
  await post.transaction(async ({ tx, publish }) => {
    const { rows } = await tx.query<{ article: string }>(
      `insert into shop.placed_order (id, sku, article, cents, email)
       select $1, sku, name, $3, $4 from shop.article where sku = $2 returning article`,
      [orderId, sku, cents, email],
    );
    const [placed] = rows;
    if (placed === undefined) throw new UnknownArticle(sku);
    publish(OrderPlaced, { orderId, article: placed.article, cents, email });
  });
  return orderId;
}

/** Notes that a message belongs to an order. Part of the transaction that handles or says the message. */
export async function noteMessage(
  tx: Sql,
  orderId: string,
  message: { readonly id: string; readonly name: string; readonly saidAt: Date },
): Promise<void> {
  await tx.query("insert into shop.order_message (order_id, message_id, name, said_at) values ($1, $2, $3, $4)", [
    orderId,
    message.id,
    message.name,
    message.saidAt.toISOString(),
  ]);
}

export async function articles(): Promise<readonly Article[]> {
  const { rows } = await post.transaction(({ tx }) =>
    tx.query<Article>("select sku, name, about from shop.article order by cents desc"),
  );
  return rows;
}

/** The newest orders, or the one with this id. */
export async function orders(id?: string): Promise<readonly Order[]> {
  const { rows } = await post.transaction(({ tx }) =>
    tx.query<OrderRow>(
      `select o.id, o.sku, o.article, o.cents, o.email, to_json(o.placed_at) #>> '{}' as "placedAt",
         (select coalesce(json_agg(json_build_object('id', message_id, 'name', name, 'saidAt', said_at) order by m.n), '[]')
          from shop.order_message m where m.order_id = o.id) as messages
       from shop.placed_order o where $1::uuid is null or o.id = $1 order by o.n desc limit $2`,
      [id ?? null, newest],
    ),
  );
  return Promise.all(rows.map(withStates));
}

async function withStates(row: OrderRow): Promise<Order> {
  const messages = row.messages.map(async (message) => ({ ...message, receivers: await receiversOf(message.id) }));
  return { ...row, messages: await Promise.all(messages) };
}

/** Success is final, so it is asked for once. */
const succeeded = new Map<string, readonly Receiver[]>();

async function receiversOf(messageId: string): Promise<readonly Receiver[]> {
  const known = succeeded.get(messageId);
  if (known !== undefined) return known;
  const receivers = (await post.statusOf(messageId)).map(receiverOf);
  if (receivers.every(({ state }) => state === "succeeded")) succeeded.set(messageId, receivers);
  // The oldest goes; two messages for each order that is shown are enough.
  if (succeeded.size > 2 * newest) succeeded.delete([...succeeded.keys()][0] ?? "");
  return receivers;
}

function receiverOf({ subscription: name, state, dueAt = null, history = [] }: ReceiverStatus): Receiver {
  const failures = history.map(({ attempt, outcome, endedAt = null, error }) => {
    return { attempt, at: endedAt, error: error?.message ?? outcome };
  });
  return { name, state, dueAt, failures };
}
