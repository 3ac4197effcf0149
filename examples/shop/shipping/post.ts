/** How the shipping department works: a service of its own, with a database of its own. It knows the shop by what the broker brings. */
import { fileURLToPath } from "node:url";
import { policies, posthorn } from "posthorn";
import { OrderPlaced } from "../contracts.js";
import { calmLogger } from "../demo/logger.js";
import { shippingWay, shopWay, wayOf } from "../ways.js";
import { OrderShipped } from "./contracts.js";

const folder = fileURLToPath(new URL("../../../.posthorn/shipping", import.meta.url));

export const database = process.env.SHIPPING_DATABASE_URL || `embedded:${folder}`;

/** Where the broker is; the supervisor knows. */
const url = process.env.BROKER ?? "mqtt://127.0.0.1:1883";

export const post = posthorn({ service: "shipping", database, migrate: "auto", logger: calmLogger() });

// Each order comes in once, whatever the broker repeats: the inbox knows its source and id.
post.intake("from-shop", { from: wayOf(url, shopWay), into: [OrderPlaced] });

// The parcel, what is said about it, and the settlement are one commit.
const packing = post.subscription("packing", { topic: "orders", ...policies.rollUp });

packing.on(OrderPlaced, async ({ orderId }, { tx, publish }) => {
  const { rows } = await tx.query<{ n: string }>(
    "insert into shipping.parcel (order_id) values ($1) returning n::text as n",
    [orderId],
  );
  publish(OrderShipped, { orderId, tracking: `PH-${rows[0]?.n.padStart(6, "0")}` });
});

// It goes out from the same commit; while the broker is away it waits here.
post.relay("to-shop", {
  from: { topic: OrderShipped.channel },
  to: wayOf(url, shippingWay),
  ...policies.relay,
});

export async function createTables(): Promise<void> {
  await post.transaction(async ({ tx }) => {
    await tx.query("create schema if not exists shipping");
    await tx.query(
      `create table if not exists shipping.parcel (
         n bigint generated always as identity primary key, order_id uuid not null, packed_at timestamptz not null default clock_timestamp())`,
    );
  });
}
