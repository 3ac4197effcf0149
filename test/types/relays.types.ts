/** Relays, as the compiler sees them. Only compiled: each `@ts-expect-error` is a test. */
import { type Broker, type Post, policies, retry, type Sql } from "posthorn";

declare const post: Post<Sql>;
declare const broker: Broker;

export const out: string = post.relay("out", { ...policies.relay, from: { topic: "orders" }, to: broker }).to.where;
post.relay("work", {
  ...policies.relay,
  from: { queue: "work" },
  to: broker,
  sendTimeoutMs: 1_000,
  mode: "structured",
});
const once = { ...policies.relay, idempotency: "at-most-once", retry: retry.none } as const;
post.relay("once", { ...once, from: { topic: "orders" }, to: broker, startFrom: "oldest" });

// @ts-expect-error an effect at a broker does not commit with this database
post.relay("out", { ...policies.relay, idempotency: "transaction", from: { topic: "orders" }, to: broker });
// @ts-expect-error at most once cannot retry
post.relay("out", { ...policies.relay, idempotency: "at-most-once", from: { topic: "orders" }, to: broker });
// @ts-expect-error it says where from
post.relay("out", { ...policies.relay, to: broker });
// @ts-expect-error it says where to
post.relay("out", { ...policies.relay, from: { topic: "orders" } });
// @ts-expect-error a URL is no broker
post.relay("out", { ...policies.relay, from: { topic: "orders" }, to: "amqp://localhost" });
