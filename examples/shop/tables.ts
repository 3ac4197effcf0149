/** The shop's own tables. They lie in the database that carries the messages, so rows and messages commit together. */
import type { Sql } from "posthorn";
import { demoUser, hashPassword } from "./features/passwords.js";
import { post, read } from "./post.js";

const accounts = [
  `create table if not exists shop.customer (
    id uuid primary key, email text not null unique, password_hash text not null, registered_at timestamptz not null default now())`,
  // Everybody who buys has a session; who is not logged in is a guest. The token itself is in the browser alone.
  `create table if not exists shop.session (
    token_hash text primary key, guest_id uuid not null, user_id uuid references shop.customer (id), expires_at timestamptz not null)`,
];

const catalogue = [
  "create table if not exists shop.article (sku text primary key, name text not null, about text not null, list_cents int not null)",
  // How many were ordered and how many were taken from the shelf. Whoever counts one holds the row: so orders of an article have an order.
  "alter table shop.article add column if not exists ordered int not null default 0, add column if not exists picked int not null default 0",
  `insert into shop.article values
    ('HORN-1', 'Post horn', 'Brass, three turns, in F', 14900),
    ('ENV-25', 'Envelopes', 'Twenty-five, laid paper', 950),
    ('WAX-3', 'Sealing wax', 'Three sticks, carmine', 1500),
    ('PEN-7', 'Fountain pen', 'Steel nib, medium', 4200)
    on conflict do nothing`,
  "create table if not exists shop.offer (sku text primary key references shop.article (sku), percent_off int not null)",
  "insert into shop.offer values ('WAX-3', 15) on conflict do nothing",
];

const orders = [
  `create table if not exists shop.placed_order (
    n bigint generated always as identity, id uuid primary key, guest_id uuid not null, user_id uuid, sku text not null,
    article text not null, cents int not null, price_confirmed boolean not null, email text not null, postal_code text not null,
    placed_at timestamptz not null default clock_timestamp())`,
  // Which order of its article it is, counted from 1. Orders of an older shop have none.
  "alter table shop.placed_order add column if not exists turn int",
  "create index if not exists placed_order_guest on shop.placed_order (guest_id, n)",
  "create index if not exists placed_order_user on shop.placed_order (user_id, n) where user_id is not null",
  // Which messages belong to an order: with their ids, statusOf() tells what became of them.
  `create table if not exists shop.order_message (
    order_id uuid not null, name text not null, message_id text not null, said_at timestamptz not null, primary key (order_id, name))`,
  "create index if not exists order_message_id on shop.order_message (message_id)",
  `create table if not exists shop.import (
    id uuid primary key, guest_id uuid not null, user_id uuid, sku text not null, cents int not null, price_confirmed boolean not null,
    postal_code text not null, total int not null, placed int not null default 0, began_at timestamptz not null default clock_timestamp(),
    ended_at timestamptz)`,
];

/**
 * What handlers write. None of these has a unique key on the order: that each order is there once is not enforced here, it follows
 * from `idempotency: "transaction"`, and the counters of the page would show it if it did not.
 */
const effects = [
  "create table if not exists shop.search_document (order_id uuid not null, words tsvector not null)",
  "create index if not exists search_document_words on shop.search_document using gin (words)",
  "create index if not exists search_document_order on shop.search_document (order_id)",
  `create table if not exists shop.sales_figure (
    day date not null, sku text not null, orders bigint not null, cents bigint not null, primary key (day, sku))`,
  "create table if not exists shop.shipment (order_id uuid not null, region text not null, zone text not null, days int not null)",
  "create index if not exists shipment_order on shop.shipment (order_id)",
  "create table if not exists shop.parcel (order_id uuid not null, tracking text not null, noted_at timestamptz not null default clock_timestamp())",
  "create index if not exists parcel_order on shop.parcel (order_id)",
  "create table if not exists shop.piece (order_id uuid not null, sku text not null, number int not null)",
  "create index if not exists piece_order on shop.piece (order_id)",
  `create table if not exists shop.ledger_line (
    n bigint generated always as identity primary key, order_id uuid not null, charge_id text not null, cents int not null, report_id uuid)`,
  "create index if not exists ledger_line_open on shop.ledger_line (n) where report_id is null",
  "create index if not exists ledger_line_report on shop.ledger_line (report_id)",
  "create index if not exists ledger_line_order on shop.ledger_line (order_id)",
  `create table if not exists shop.report (
    id uuid primary key, lines int not null, cents bigint not null, closed_at timestamptz not null default clock_timestamp())`,
];

/** Who asked for which survey. `id` is that of its message: the receipt knows the rest. */
const surveys = [
  "create table if not exists shop.survey (id text primary key, guest_id uuid not null, asked_at timestamptz not null default clock_timestamp())",
  "create index if not exists survey_guest on shop.survey (guest_id, asked_at)",
  "create index if not exists shipment_region on shop.shipment (region)",
];

const demo = [
  "create table if not exists shop.trouble (name text primary key, switched_on boolean not null)",
  "create table if not exists shop.life (n bigint generated always as identity primary key, pid int not null, began_at timestamptz not null default clock_timestamp())",
];

/** What the other side keeps. In an example it lies in the same database, in a schema of its own, so that both sides can be compared. */
const outside = [
  `create table if not exists outside.mail (
    n bigint generated always as identity, message_id text primary key, recipient text not null, subject text not null, body text not null,
    about text, attempt int not null, deliveries int not null, received_at timestamptz not null default clock_timestamp())`,
  "create index if not exists mail_about on outside.mail (about)",
  "create index if not exists mail_n on outside.mail (n)",
  `create table if not exists outside.charge (
    id text primary key, idempotency_key text not null unique, order_id uuid not null, cents int not null, requests int not null,
    charged_at timestamptz not null default clock_timestamp())`,
  "create index if not exists charge_order on outside.charge (order_id)",
  `create table if not exists outside.webhook (
    webhook_id text primary key, order_id uuid not null, type text not null, deliveries int not null,
    received_at timestamptz not null default clock_timestamp())`,
  "create index if not exists webhook_order on outside.webhook (order_id)",
  "create table if not exists outside.accounting_line (report_id uuid not null, order_id uuid not null, cents int not null)",
  "create index if not exists accounting_line_report on outside.accounting_line (report_id)",
];

export async function createTables(): Promise<void> {
  await post.transaction(async ({ tx }) => {
    // Two shops that start at once on one server would both create them.
    await tx.query("select pg_advisory_xact_lock(hashtext('shop'))");
    for (const schema of ["shop", "outside"]) await tx.query(`create schema if not exists ${schema}`);
    for (const statement of [accounts, catalogue, orders, effects, surveys, demo, outside].flat())
      await tx.query(statement);
  });
  await addDemoUser();
}

/** So that somebody who looks around can log in without registering. The page tells the password. */
async function addDemoUser(): Promise<void> {
  const [known] = await read("select from shop.customer where id = $1", [demoUser.id]);
  if (known !== undefined) return;
  const hash = await hashPassword(demoUser.password);
  await post.transaction(({ tx }) =>
    tx.query("insert into shop.customer (id, email, password_hash) values ($1, $2, $3) on conflict do nothing", [
      demoUser.id,
      demoUser.email,
      hash,
    ]),
  );
}

/** Notes that a message belongs to an order, in the transaction that says or handles the message. */
export async function noteMessages(tx: Sql, name: string, notes: readonly MessageNote[]): Promise<void> {
  await tx.query(
    `insert into shop.order_message (order_id, name, message_id, said_at)
     select "orderId", $2, "messageId", coalesce("saidAt", clock_timestamp())
     from json_to_recordset($1::json) as note ("orderId" uuid, "messageId" text, "saidAt" timestamptz)`,
    [JSON.stringify(notes), name],
  );
}

export interface MessageNote {
  readonly orderId: string;
  readonly messageId: string;
  /** Without it, now. */
  readonly saidAt?: Date;
}
