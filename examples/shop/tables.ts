/** The shop's own tables. They lie in the database that carries the messages, so rows and messages commit together. */
import { post } from "./post.js";

const tables = [
  "create schema if not exists shop",
  `create table if not exists shop.article (
    sku text primary key, name text not null, about text not null, cents int not null)`,
  `create table if not exists shop.placed_order (
    n bigint generated always as identity primary key, id uuid not null unique, sku text not null, article text not null,
    cents int not null, email text not null, placed_at timestamptz not null default clock_timestamp())`,
  // Which messages belong to an order: with their ids, statusOf() tells what became of them.
  `create table if not exists shop.order_message (
    n bigint generated always as identity primary key, order_id uuid not null references shop.placed_order (id),
    message_id text not null unique, name text not null, said_at timestamptz not null)`,
  "create index if not exists order_message_order_id on shop.order_message (order_id)",
  `insert into shop.article values
    ('HORN-1', 'Post horn', 'Brass, three turns, in F', 14900),
    ('ENV-25', 'Envelopes', 'Twenty-five, laid paper', 950),
    ('WAX-3', 'Sealing wax', 'Three sticks, carmine', 1275),
    ('PEN-7', 'Fountain pen', 'Steel nib, medium', 4200)
    on conflict do nothing`,
];

export async function createTables(): Promise<void> {
  await post.transaction(async ({ tx }) => {
    // Two shops that start at once on one server would both create them.
    await tx.query("select pg_advisory_xact_lock(hashtext('shop'))");
    for (const statement of tables) await tx.query(statement);
  });
}
