/** The two services of the README: what one publishes goes out to a broker, and comes in at the other. */
import { type Broker, days, event, type Post, policies, posthorn, type Sql, type } from "posthorn";

export const OrderPlaced = event("OrderPlaced", {
  topic: "orders",
  schema: type<{ orderId: string }>(),
  key: ({ orderId }) => orderId,
});

export function openShop(database: string, broker: Broker): Post<Sql> {
  const post = posthorn({ service: "shop", database, migrate: "auto" });
  post.relay("orders-out", { ...policies.relay, from: { topic: "orders" }, to: broker });
  return post;
}

export function openShipping(database: string, broker: Broker, pack: (orderId: string) => void): Post<Sql> {
  const post = posthorn({ service: "shipping", database, migrate: "auto" });
  post.intake("orders-in", { from: broker, into: [OrderPlaced], inbox: { keepMs: days(14) } });
  post.subscription("parcels", { topic: "orders", ...policies.notify }).on(OrderPlaced, ({ orderId }) => pack(orderId));
  return post;
}
