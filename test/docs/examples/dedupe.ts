/** The code of docs/guides/dedupe.md; test/docs/guides.test.ts runs it. */
import { command, days, hours, minutes, type Post, type Sql, seconds, type } from "posthorn";

export const ChargeOrder = command("ChargeOrder", { queue: "charges", schema: type<{ orderId: string }>() });
export const TellPrice = command("TellPrice", { queue: "prices", schema: type<{ sku: string; cents: number }>() });
export const IndexPage = command("IndexPage", { queue: "search", schema: type<{ page: string }>() });
export const SyncCustomer = command("SyncCustomer", { queue: "sync", schema: type<{ customer: string }>() });
export const SendDigest = command("SendDigest", { queue: "digests", schema: type<{ to: string; text: string }>() });

export function charge(post: Post<Sql>, orderId: string) {
  return post.send(ChargeOrder, { orderId }, { dedupe: { key: orderId, mode: "drop", windowMs: days(7) } });
}

export function chargeAll(post: Post<Sql>, orders: readonly { readonly orderId: string }[]) {
  return post.sendMany(ChargeOrder, orders, {
    dedupe: { key: ({ orderId }) => orderId, mode: "drop", windowMs: days(7) },
  });
}

export function tellPrice(post: Post<Sql>, sku: string, cents: number) {
  return post.send(TellPrice, { sku, cents }, { dedupe: { key: sku, mode: "throttle", windowMs: minutes(1) } });
}

export function indexPage(post: Post<Sql>, page: string) {
  return post.send(
    IndexPage,
    { page },
    { dedupe: { key: page, mode: "debounce", windowMs: seconds(10), maxWaitMs: minutes(5) } },
  );
}

export function sendDigest(post: Post<Sql>, to: string, text: string) {
  return post.send(SendDigest, { to, text }, { delayMs: hours(1), dedupe: { key: to, mode: "replace" } });
}

export function syncCustomer(post: Post<Sql>, customer: string) {
  return post.send(SyncCustomer, { customer }, { dedupe: { key: customer, mode: "once-more" } });
}
