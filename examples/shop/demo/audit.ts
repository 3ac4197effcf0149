/**
 * Compares what was ordered with what became of it, from the tables alone.
 *
 * Missing: orders without the effect. Lost: missing although nothing is on its way to it any more, nor among the dead letters.
 * Repeated: an effect that is there more often than once. Noticed: what arrived again and was known by its idempotency key.
 *
 * All is read in one snapshot: a message that ends between two looks would count as lost for a moment.
 */
import { post } from "../post.js";

export interface Station {
  readonly name: string;
  readonly said: number;
  readonly waiting: number;
  readonly running: number;
  readonly retrying: number;
  readonly done: number;
  readonly dead: number;
  readonly workers: number;
}

export interface Effect {
  readonly name: string;
  readonly wanted: number;
  readonly there: number;
  readonly lost: number;
  readonly repeated: number;
  readonly noticed: number;
}

export interface Audit {
  readonly stations: readonly Station[];
  readonly effects: readonly Effect[];
}

interface Counted {
  readonly wanted: number;
  readonly missing: number;
  readonly repeated: number;
  readonly noticed: number;
}

/** Each: what there should be, what of it is missing, how much is there too often, and how many repetitions were noticed. */
const counts: Readonly<Record<string, string>> = {
  mails: perOrder("outside.mail", "about::uuid", "where recipient <> 'accounting@shop.example'", "deliveries - 1"),
  charges: perOrder("outside.charge", "order_id", "", "requests - 1"),
  webhooks: perOrder("outside.webhook", "order_id", "", "deliveries - 1"),
  documents: perOrder("shop.search_document", "order_id"),
  shipments: perOrder("shop.shipment", "order_id"),
  bookings: perOrder("shop.ledger_line", "order_id"),
  figures: `select o.n as wanted, greatest(o.n - f.n, 0) as missing, greatest(f.n - o.n, 0) as repeated, 0 as noticed
    from (select count(*) as n from shop.placed_order) o, (select coalesce(sum(orders), 0) as n from shop.sales_figure) f`,
  reports: `select count(*) as wanted, count(*) filter (where a.n is null) as missing, coalesce(sum(a.n - 1), 0) as repeated,
      (select coalesce(sum(deliveries - 1), 0) from outside.mail where recipient = 'accounting@shop.example') as noticed
    from (select distinct report_id, order_id from shop.ledger_line where report_id is not null) l
    left join (select report_id, order_id, count(*) as n from outside.accounting_line group by 1, 2) a using (report_id, order_id)`,
  welcomes: `select count(*) as wanted, count(*) filter (where m.n is null) as missing, coalesce(sum(m.n - 1), 0) as repeated, 0 as noticed
    from shop.customer c left join (select about, count(*) as n from outside.mail group by 1) m on m.about = c.id::text
    where c.email <> 'ada@example.com'`,
};

/** `noticed` is an expression over a row. */
function perOrder(table: string, order: string, where = "", noticed = "0"): string {
  return `select count(*) as wanted, count(*) filter (where e.n is null) as missing, coalesce(sum(e.n - 1), 0) as repeated,
      coalesce(sum(e.noticed), 0) as noticed
    from shop.placed_order o left join (
      select ${order} as id, count(*) as n, sum(${noticed}) as noticed from ${table} ${where} group by 1) e using (id)`;
}

const counting = Object.entries(counts)
  .map(([name, text]) => `'${name}', (select to_json(c) from (${text}) c)`)
  .join(",\n");

/** Which queues and subscriptions lead to an effect. */
const ways: Readonly<Record<string, readonly string[]>> = {
  mails: ["confirmations", "email"],
  charges: ["payments"],
  webhooks: ["partner"],
  documents: ["search-index"],
  shipments: ["shipping"],
  bookings: ["payments", "ledger"],
  figures: ["sales-figures"],
  reports: ["reports"],
  welcomes: ["welcome", "email"],
};

interface BacklogRow {
  readonly name: string;
  readonly waiting: number;
  readonly running: number;
  readonly retrying: number;
  readonly dead: number;
  readonly workers: number;
}

export async function audit(): Promise<Audit> {
  return post.transaction(async ({ tx }) => {
    await tx.query("set transaction isolation level repeatable read, read only");
    const { rows: backlog } = await tx.query<BacklogRow>(
      `select name, (backlog - retrying)::float8 as waiting, running::float8 as running, retrying::float8 as retrying,
         (dead_letters + invalid)::float8 as dead, workers::float8 as workers from posthorn.backlog`,
    );
    const { rows } = await tx.query<{ counted: Record<string, Counted>; said: Said }>(
      `select json_build_object(${counting}) as counted, json_build_object(
         'orders', (select count(*) from shop.placed_order),
         'users', (select count(*) from shop.customer where email <> 'ada@example.com'),
         'reports', (select count(*) from shop.report),
         'imports', (select coalesce(sum(case when ended_at is null then placed / 250 + 1 else ceil(total / 250.0) end), 0) from shop.import)) as said`,
    );
    const [row] = rows;
    if (row === undefined) throw new Error("Nothing was counted.");
    const stations = stationsOf(backlog, row.said);
    return { stations, effects: Object.keys(counts).map((name) => effectOf(name, row.counted[name], stations)) };
  });
}

interface Said {
  readonly orders: number;
  readonly users: number;
  readonly reports: number;
  readonly imports: number;
}

/** How much was said follows from the rows that were written with it; what is done, from what is not open any more. */
function stationsOf(backlog: readonly BacklogRow[], said: Said): readonly Station[] {
  const byName = new Map(backlog.map((row) => [row.name, row]));
  const station = (name: string, count: number): Station => {
    const { waiting = 0, running = 0, retrying = 0, dead = 0, workers = 0 } = byName.get(name) ?? {};
    const done = Math.max(0, count - waiting - running - retrying - dead);
    return { name, said: count, waiting, running, retrying, done, dead, workers };
  };
  const { orders, users, reports, imports } = said;
  const confirmations = station("confirmations", orders);
  const welcome = station("welcome", users);
  const payments = station("payments", orders);
  const readers = ["search-index", "sales-figures", "shipping", "partner"].map((name) => station(name, orders));
  return [
    station("imports", imports),
    confirmations,
    station("email", confirmations.done + welcome.done),
    ...readers,
    payments,
    station("ledger", payments.done),
    station("reports", reports),
    welcome,
  ];
}

function effectOf(name: string, counted: Counted | undefined, stations: readonly Station[]): Effect {
  const { wanted = 0, missing = 0, repeated = 0, noticed = 0 } = counted ?? {};
  const way = stations.filter((station) => ways[name]?.includes(station.name));
  const open = way.reduce((sum, { waiting, running, retrying, dead }) => sum + waiting + running + retrying + dead, 0);
  return { name, wanted, there: wanted - missing, lost: Math.max(0, missing - open), repeated, noticed };
}
