/**
 * Compares what was ordered with what became of it, from the tables alone.
 *
 * Missing: orders without the effect. Lost: missing although nothing is on its way to it any more, nor among the dead letters.
 * Repeated: an effect that is there more often than once. Noticed: what arrived again and was known by its idempotency key.
 *
 * Looked at in this order: a snapshot, what is open, the effects. Only what the snapshot saw is wanted. So a message of it that was not
 * open had ended before, and its effect must be there; one that ends meanwhile counts as open, and its effect may be there already.
 */
import { importStep } from "../features/orders.js";
import { demoUser } from "../features/passwords.js";
import { accounting } from "../features/report.js";
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
  readonly orders: number;
  /** Taken at the list price, because pricing did not answer. */
  readonly atListPrice: number;
  /** Pieces that were given out of turn. */
  readonly outOfTurn: number;
  readonly stations: readonly Station[];
  readonly effects: readonly Effect[];
}

interface Counted {
  readonly wanted: number;
  readonly missing: number;
  readonly repeated: number;
  readonly noticed: number;
  /** Missing although others that were wanted long after it are there. */
  readonly overdue?: number;
}

/** Rows that the snapshot $1 saw. Its newest version's transaction, without the epoch that a row does not keep. */
const seen = (row: string): string =>
  `pg_visible_in_snapshot(((pg_snapshot_xmax($1::pg_snapshot)::text::bigint >> 32 << 32) | ${row}.xmin::text::bigint)::text::xid8, $1::pg_snapshot)`;

/** `noticed` is an expression over a row. */
function perOrder(table: string, order: string, noticed = "0", of = "wanted"): string {
  return `select count(*) as wanted, count(*) filter (where e.n is null) as missing, coalesce(sum(e.n - 1), 0) as repeated,
      coalesce(sum(e.noticed), 0) as noticed
    from ${of} o left join (
      select ${order} as id, count(*) as n, sum(${noticed}) as noticed from ${table} group by 1) e using (id)`;
}

/** Each: what there should be, what of it is missing, how much is there too often, and how many repetitions were noticed. */
const counts: Readonly<Record<string, string>> = {
  mails: perOrder("outside.mail", "about", "deliveries - 1").replace("using (id)", "on e.id = o.id::text"),
  charges: perOrder("outside.charge", "order_id", "requests - 1"),
  webhooks: perOrder("outside.webhook", "order_id", "deliveries - 1"),
  documents: perOrder("shop.search_document", "order_id"),
  shipments: perOrder("shop.shipment", "order_id"),
  // What is on its way between two services, nobody here can see: what is overtaken by others by ten minutes counts as lost.
  parcels: `select count(*) as wanted, count(*) filter (where e.n is null) as missing, coalesce(sum(e.n - 1), 0) as repeated, 0 as noticed,
      count(*) filter (where e.n is null and o.placed_at < newest.at - interval '10 minutes') as overdue
    from wanted o left join (select order_id as id, count(*) as n from shop.parcel group by 1) e using (id),
      (select max(p.placed_at) as at from shop.parcel x join shop.placed_order p on p.id = x.order_id) newest`,
  pieces: perOrder("shop.piece", "order_id", "0", "(select id from wanted where turn is not null)"),
  bookings: perOrder("shop.ledger_line", "order_id"),
  // A sum does not say which order is missing in it: the one that is lost and one that is there twice would hide each other.
  figures: `select w.n as wanted, greatest(w.n - f.n, 0) as missing, greatest(f.n - o.n, 0) as repeated, 0 as noticed
    from (select count(*) as n from wanted) w, (select count(*) as n from shop.placed_order) o,
      (select coalesce(sum(orders), 0) as n from shop.sales_figure) f`,
  reports: `select count(*) as wanted, count(*) filter (where a.n is null) as missing, coalesce(sum(a.n - 1), 0) as repeated,
      (select coalesce(sum(deliveries - 1), 0) from outside.mail where recipient = '${accounting}') as noticed
    from shop.ledger_line l left join (
      select report_id, order_id, count(*) as n from outside.accounting_line group by 1, 2) a using (report_id, order_id)
    where l.report_id is not null and ${seen("l")}`,
  welcomes: `select count(*) as wanted, count(*) filter (where m.n is null) as missing, coalesce(sum(m.n - 1), 0) as repeated,
      coalesce(sum(m.noticed), 0) as noticed
    from newcomers c left join (
      select about, count(*) as n, sum(deliveries - 1) as noticed from outside.mail group by 1) m on m.about = c.id::text`,
};

const counting = `with wanted as materialized (select id, turn, placed_at from shop.placed_order o where ${seen("o")}),
  newcomers as materialized (select id from shop.customer c where id <> '${demoUser.id}' and ${seen("c")})
select json_build_object(${Object.entries(counts)
  .map(([name, text]) => `'${name}', (select to_json(c) from (${text}) c)`)
  .join(",\n")}) as counted,
  json_build_object('orders', (select count(*) from wanted), 'atListPrice', (select count(*) from shop.placed_order where not price_confirmed),
    'outOfTurn', (select count(*) from shop.piece p join shop.placed_order o on o.id = p.order_id where p.number <> o.turn),
    'picks', (select count(*) from wanted where turn is not null), 'surveys', (select count(*) from shop.survey v where ${seen("v")}),
    'users', (select count(*) from newcomers), 'parcels', (select count(*) from shop.parcel),
    'reports', (select count(*) from shop.report r where ${seen("r")}),
    'imports', (select coalesce(sum(placed / ${importStep} + case when ended_at is null or placed % ${importStep} > 0 then 1 else 0 end), 0)
      from shop.import)) as said`;

/** Which queues and subscriptions lead to an effect. */
const ways: Readonly<Record<string, readonly string[]>> = {
  mails: ["confirmations", "email"],
  charges: ["payments"],
  webhooks: ["partner"],
  documents: ["search-index"],
  shipments: ["shipping"],
  parcels: ["to-shipping", "tracking"],
  pieces: ["warehouse"],
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
    const { rows: snapshots } = await tx.query<{ snapshot: string }>("select pg_current_snapshot()::text as snapshot");
    const { rows: backlog } = await tx.query<BacklogRow>(
      `select name, (backlog - retrying)::float8 as waiting, running::float8 as running, retrying::float8 as retrying,
         (dead_letters + invalid)::float8 as dead, workers::float8 as workers from posthorn.backlog`,
    );
    const { rows } = await tx.query<{ counted: Record<string, Counted>; said: Said }>(counting, [
      snapshots[0]?.snapshot,
    ]);
    const [row] = rows;
    if (row === undefined) throw new Error("Nothing was counted.");
    const byName = new Map(backlog.map((one) => [one.name, one]));
    const stations = stationsOf(byName, row.said);
    const { orders, atListPrice, outOfTurn } = row.said;
    return {
      orders,
      atListPrice,
      outOfTurn,
      stations,
      effects: Object.keys(counts)
        .filter((name) => name !== "parcels" || byName.has("to-shipping"))
        .map((name) => effectOf(name, row.counted[name], stations)),
    };
  });
}

interface Said {
  readonly orders: number;
  readonly atListPrice: number;
  readonly outOfTurn: number;
  readonly picks: number;
  readonly surveys: number;
  readonly users: number;
  readonly reports: number;
  readonly imports: number;
  readonly parcels: number;
}

/** How much was said follows from the rows that were written with it; what is done, from what is not open any more. */
function stationsOf(byName: ReadonlyMap<string, BacklogRow>, said: Said): readonly Station[] {
  const station = (name: string, count: number): Station => {
    const { waiting = 0, running = 0, retrying = 0, dead = 0, workers = 0 } = byName.get(name) ?? {};
    const done = Math.max(0, count - waiting - running - retrying - dead);
    return { name, said: count, waiting, running, retrying, done, dead, workers };
  };
  const { orders, picks, users, reports, imports, surveys } = said;
  const confirmations = station("confirmations", orders);
  const welcome = station("welcome", users);
  const payments = station("payments", orders);
  const readers = ["search-index", "sales-figures", "shipping", "partner"].map((name) => station(name, orders));
  const { waiting = 0, running = 0, retrying = 0, dead = 0 } = byName.get("tracking") ?? {};
  const parcels = said.parcels + waiting + running + retrying + dead;
  const ways = byName.has("to-shipping") ? [station("to-shipping", orders), station("tracking", parcels)] : [];
  return [
    station("imports", imports),
    confirmations,
    station("email", confirmations.done + welcome.done),
    ...readers,
    ...ways,
    payments,
    station("ledger", payments.done),
    station("reports", reports),
    station("warehouse", picks),
    station("surveys", surveys),
    welcome,
  ];
}

function effectOf(name: string, counted: Counted | undefined, stations: readonly Station[]): Effect {
  const { wanted = 0, missing = 0, repeated = 0, noticed = 0 } = counted ?? {};
  const way = stations.filter((station) => ways[name]?.includes(station.name));
  const open = way.reduce((sum, { waiting, running, retrying, dead }) => sum + waiting + running + retrying + dead, 0);
  // One message stands for one order; but one report for all its lines.
  const lost = counted?.overdue ?? (name === "reports" && open > 0 ? 0 : Math.max(0, missing - open));
  return { name, wanted, there: wanted - missing, lost, repeated, noticed };
}
