/** The program of docs/guides/taking-in.md. */
import {
  type Broker,
  days,
  event,
  type ForeignMessage,
  type Logger,
  type Post,
  policies,
  posthorn,
  type Sql,
  type,
} from "posthorn";

export const OrderPlaced = event("OrderPlaced", {
  topic: "orders",
  schema: type<{ orderId: string; cents: number }>(),
  key: ({ orderId }) => orderId,
});

export function open(database: string, broker: Broker, logger: Logger, print: (line: string) => void): Post<Sql> {
  const post = posthorn({ service: "shipping", database, migrate: "auto", logger });

  post.intake("orders-in", {
    from: broker,
    into: [OrderPlaced],
    typePrefix: "com.example.shop.",
    // Longer than the broker can keep a message before it gives it again.
    inbox: { keepMs: days(14) },
  });

  post
    .subscription("parcels", { topic: "orders", ...policies.notify })
    .on(OrderPlaced, ({ orderId }) => print(`packed ${orderId}`));

  return post;
}

/** Messages of a shop that knows nothing of CloudEvents. */
export function openForeign(post: Post<Sql>, broker: Broker): void {
  post.intake("old-shop", {
    from: broker,
    into: [OrderPlaced],
    read: (message: ForeignMessage) => {
      const order = message.json() as { kind: string; number: string; total: number };
      if (order.kind !== "order") return null;
      return { name: "OrderPlaced", payload: { orderId: order.number, cents: order.total * 100 }, id: order.number };
    },
  });
}

/** Events of somebody who has names of his own for them. */
export function openPartner(post: Post<Sql>, broker: Broker): void {
  post.intake("acme-in", {
    from: broker,
    into: [OrderPlaced],
    types: { "com.acme.order.placed": OrderPlaced },
  });
}
