/** How it is carried: six decisions for each queue and subscription, spelled out, or a preset that was chosen on purpose. */
import { fileURLToPath } from "node:url";
import { type Context, days, minutes, policies, posthorn, retry, type Sql, seconds } from "posthorn";
import { CloseBooks } from "./contracts.js";
import { calmLogger } from "./demo/logger.js";

/** The folder is the same from wherever the shop or the command line is started. */
const folder = fileURLToPath(new URL("../../.posthorn/shop", import.meta.url));

export const database = process.env.DATABASE_URL || `embedded:${folder}`;

export const post = posthorn({ service: "shop", database, migrate: "auto", logger: calmLogger() });

/** What a handler is given where the policy says `idempotency: "transaction"`: among others `tx`. */
export type InTransaction = Context<"transaction", Sql>;
/** Where it says `idempotency: "handler"`: no `tx`, and `idempotencyKey()` for the other side. */
export type Elsewhere = Context<"handler", Sql>;

/** Rows of the shop's tables; for what changes nothing. */
export async function read<Row>(text: string, params: readonly unknown[] = []): Promise<readonly Row[]> {
  return post.transaction(async ({ tx }) => (await tx.query<Row>(text, params)).rows);
}

/** People try the shop and watch: the other side is asked again soon, and for a quarter of an hour. */
export const soon = retry.exponential({ attempts: 24, firstMs: seconds(1), maxMs: minutes(1) });

/* Queues: one handler in the fleet. */

export const email = post.queue("email", {
  retry: soon,
  idempotency: "handler", // the effect is at the mail server, which is shown idempotencyKey() as Message-ID
  ordering: "none",
  visibilityTimeoutMs: seconds(30),
  deadLetter: { keepMs: days(30) },
  alerts: { oldestAgeMs: minutes(5), backlog: 20_000, deadLetters: 1, noWorkerMs: minutes(1) },
  concurrency: 25,
  rateLimit: { messages: 100, perMs: seconds(1) }, // what the mail provider allows, for all processes together
});

// The preset for money, with less patience and more at once.
export const payments = post.queue("payments", { ...policies.payment, retry: soon, concurrency: 25 });

export const warehouse = post.queue("warehouse", {
  retry: retry.exponential({ attempts: 8, firstMs: seconds(1), maxMs: minutes(1) }),
  idempotency: "transaction", // the piece, the shelf and the settlement are one commit: no piece is given out twice
  ordering: { per: "key", whenDead: "park" }, // who orders an article first is served first; nobody is passed by, also while a person looks
  visibilityTimeoutMs: seconds(30),
  deadLetter: { keepMs: days(30) },
  alerts: { oldestAgeMs: minutes(30), backlog: 20_000, deadLetters: 1, noWorkerMs: minutes(1) },
  concurrency: 4, // one for each article: of one article one runs at a time anyway
});

export const imports = post.queue("imports", {
  retry: retry.exponential({ attempts: 8, firstMs: seconds(1), maxMs: minutes(1) }),
  idempotency: "transaction", // a step places its orders, counts them and asks for the next step, in one commit
  ordering: "none",
  visibilityTimeoutMs: seconds(60),
  deadLetter: { keepMs: days(30) },
  alerts: { oldestAgeMs: minutes(10), backlog: 100, deadLetters: 1, noWorkerMs: minutes(1) },
  concurrency: 1,
});

export const reports = post.queue("reports", { ...policies.email, retry: soon, concurrency: 2 });

export const surveys = post.queue("surveys", {
  retry: soon,
  idempotency: "handler", // it only reads: a repeated run reads again
  ordering: "none",
  visibilityTimeoutMs: minutes(2),
  deadLetter: { keepMs: days(7) },
  alerts: { oldestAgeMs: minutes(5), backlog: 10, deadLetters: 1, noWorkerMs: minutes(1) },
  fleetConcurrency: 1, // each reads all orders: two at once would take the database from the customers
  backlogLimit: { messages: 3, whenFull: "reject" }, // who would wait for long is told so now, instead of waiting in vain
  results: { keepMs: days(1) }, // it is out of date by tomorrow
});

/* By the clock: one command for each time, however many processes the shop has. */

// A real shop would say "0 3 * * *". After a pause one report holds everything, so one run makes up for all that were missed.
post.schedule("close-books", {
  cron: "*/10 * * * * *",
  timeZone: "Europe/Berlin",
  command: CloseBooks,
  payload: {},
  missed: "once",
});

/* Subscriptions: each reads its topic at its own pace. */

// Quick, as the preset for what follows from a fact; in a transaction, because it also notes which mail belongs to the order.
export const confirmations = post.subscription("confirmations", {
  topic: "orders",
  ...policies.notify,
  idempotency: "transaction",
});
export const searchIndex = post.subscription("search-index", { topic: "orders", ...policies.rollUp });
export const salesFigures = post.subscription("sales-figures", { topic: "orders", ...policies.rollUp, concurrency: 4 });
export const shipping = post.subscription("shipping", { topic: "orders", ...policies.rollUp });
/** What the shipping department says. It comes in from the broker: see neighbours.ts, where the relays are as well. */
export const tracking = post.subscription("tracking", { topic: "parcels", ...policies.rollUp });
export const ledger = post.subscription("ledger", { topic: "payments", ...policies.rollUp });
export const welcome = post.subscription("welcome", { topic: "users", ...policies.notify });
