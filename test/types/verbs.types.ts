/**
 * What the verbs and handlers of an instance take and give, as the compiler sees them. Only compiled: each `@ts-expect-error` is a test
 * that fails when the line below it compiles.
 */
import type { PGlite, Transaction } from "@electric-sql/pglite";
import type { Pool, PoolClient } from "pg";
import {
  type Batched,
  command,
  event,
  policies,
  posthorn,
  query,
  type Receipt,
  type ReceiptWithResult,
  type Schedule,
  type Sql,
  type Status,
  type TransactionContext,
  type,
} from "posthorn";
import { z } from "zod";

type Same<A, B> = (<T>() => T extends A ? 1 : 2) extends <T>() => T extends B ? 1 : 2 ? true : false;
/** Compiles only where both types are the same. */
function same<A, B>(..._proof: Same<A, B> extends true ? [] : ["the types differ", A, B]): void {}

const PriceOf = query("PriceOf", {
  request: z.object({ sku: z.string().transform(Number) }),
  response: z.object({ cents: z.number().transform(String) }),
  deadlineMs: 300,
});
const SendEmail = command("SendEmail", {
  queue: "email",
  schema: z.object({ to: z.string(), at: z.string().transform((text) => new Date(text)) }),
  result: z.object({ messageId: z.string() }),
});
const CloseAccount = command("CloseAccount", { queue: "accounts", schema: type<{ id: string }>() });
const OrderPlaced = event("OrderPlaced", { topic: "orders", schema: type<{ orderId: string }>() });

// ---- tx is the client of the database that was given ---------------------------
declare const pool: Pool;
declare const pglite: PGlite;
const onPool = posthorn({ service: "shop", database: pool });
const onPglite = posthorn({ service: "shop", database: pglite });
const onText = posthorn({ service: "shop", database: process.env.DATABASE_URL ?? "embedded:.posthorn" });
const post = onPool;

void onPool.transaction(async ({ tx }) => same<typeof tx, PoolClient>());
void onPglite.transaction(async ({ tx }) => same<typeof tx, Transaction>());
void onText.transaction(async ({ tx }) => same<typeof tx, Sql>());
onPool.answer(PriceOf, ({ sku }, { tx, signal }) => {
  same<typeof sku, number>();
  same<typeof tx, PoolClient>();
  same<typeof signal, AbortSignal>();
  return { cents: 1 };
});
onPglite.queue("accounts", policies.rollUp).handle(CloseAccount, async ({ id }, { tx }) => {
  same<typeof id, string>();
  same<typeof tx, Transaction>();
});
onText.subscription("books", { topic: "orders", ...policies.rollUp }).on(OrderPlaced, async (_order, { tx }) => {
  same<typeof tx, Sql>();
  await tx.query<{ n: number }>("select 1 as n");
});

// ---- tx is there in transaction mode alone ---------------------------------------
const accounts = post.queue("accounts", policies.rollUp);
const email = post.queue("email", policies.email);
const once = post.queue("accounts", policies.atMostOnce);
const orders = post.subscription("orders", { topic: "orders", ...policies.notify });
accounts.handle(CloseAccount, async (_payload, { tx }) => same<typeof tx, PoolClient>());
// @ts-expect-error the effect is elsewhere: there is no transaction
email.handle(SendEmail, (_payload, { tx }) => ({ messageId: String(tx) }));
// @ts-expect-error at most once has none either
once.handle(CloseAccount, (_payload, { tx }) => void tx);
// @ts-expect-error nor has a subscription in handler mode
orders.on(OrderPlaced, (_order, { tx }) => void tx);

// ---- step is there in handler mode alone, and returns what comes back from JSON --------
email.handle(SendEmail, async (_payload, { step }) => {
  const paid = await step("pay", async () => ({
    id: "1",
    at: new Date(),
    lines: [{ sku: 1, by: undefined as Date | undefined }],
  }));
  same<typeof paid, { id: string; at: string; lines: { sku: number; by: string | undefined }[] }>();
  const none = await step("none", () => undefined);
  same<typeof none, undefined>();
  const kind = await step("kind", () => "a" as "a" | "b" | null);
  same<typeof kind, "a" | "b" | null>();
  const free = await step("free", (): unknown => 1);
  same<typeof free, unknown>();
  await step("nothing", async () => {});
  // @ts-expect-error a step has a name
  await step(() => 1);
  // @ts-expect-error a step is a function
  await step("late", Promise.resolve(1));
  return { messageId: paid.id };
});
orders.on(OrderPlaced, async (_order, { step }) => void (await step("index", () => 1)));
// @ts-expect-error in transaction mode the effects commit with the end of the message
accounts.handle(CloseAccount, (_payload, { step }) => void step);
// @ts-expect-error at most once is never delivered again
once.handle(CloseAccount, (_payload, { step }) => void step);

// ---- row "receivers": its own queue, its own topic ----------------------------------
// @ts-expect-error CloseAccount belongs to the queue "accounts"
email.handle(CloseAccount, () => {});
// @ts-expect-error an event has no queue
email.handle(OrderPlaced, () => {});
// @ts-expect-error a command has no topic
orders.on(CloseAccount, () => {});
// @ts-expect-error another topic
orders.on(event("UserLeft", { topic: "users", schema: type<{ id: string }>() }), () => {});
// @ts-expect-error a command is handled, not answered
post.answer(SendEmail, () => ({ messageId: "1" }));
// @ts-expect-error a subscription needs its topic
post.subscription("topicless", policies.notify);

// ---- row "caller gets", row "reply, result, target" ----------------------------------
email.handle(SendEmail, async ({ to, at }) => {
  same<typeof at, Date>();
  return { messageId: to };
});
// @ts-expect-error the contract has a result
email.handle(SendEmail, () => {});
// @ts-expect-error the result has another form
email.handle(SendEmail, () => ({ messageId: 1 }));
// @ts-expect-error the contract has no result
accounts.handle(CloseAccount, () => ({ closed: true }));
// @ts-expect-error a result from an event handler: nobody waits for it
orders.on(OrderPlaced, () => ({ seen: true }));
// @ts-expect-error the same from a promise
orders.on(OrderPlaced, async () => 1);
// @ts-expect-error an answer has the form of its response
post.answer(PriceOf, () => ({ cents: "1" }));

async function saying() {
  const sent = await post.send(SendEmail, { to: "a", at: "2026-01-01" }, { headers: { trace: "1" } });
  same<typeof sent, ReceiptWithResult<{ messageId: string }>>();
  const closed = await post.send(CloseAccount, { id: "1" });
  same<typeof closed, Receipt>();
  // @ts-expect-error there is no result to wait for
  closed.result({ withinMs: 1 });
  same<Awaited<ReturnType<typeof closed.settled>>, Status>();
  const many = await post.sendMany(CloseAccount, new Set([{ id: "1" }]));
  same<typeof many, Receipt[]>();
  const published = await post.publish(OrderPlaced, { orderId: "1" });
  same<typeof published, void>();
  const price = await post.ask(PriceOf, { sku: "1" }, { deadlineMs: 5, signal: AbortSignal.timeout(5) });
  same<typeof price, { cents: string }>();
  return post.transaction(async () => ({ returned: 1 }));
}
same<ReturnType<typeof saying>, Promise<{ returned: number }>>();

// ---- row "delayed, scheduled, prioritised, cancelled, expired" -----------------------
// @ts-expect-error a fact has happened
post.publish(OrderPlaced, { orderId: "1" }, { delayMs: 5 });
// @ts-expect-error a fact is not urgent
post.publish(OrderPlaced, { orderId: "1" }, { priority: 1 });
// @ts-expect-error a fact does not expire
post.publishMany(OrderPlaced, [{ orderId: "1" }], { expiresInMs: 5 });
// @ts-expect-error a query is asked now
post.ask(PriceOf, { sku: "1" }, { delayMs: 5 });
post.send(CloseAccount, { id: "1" }, { delayMs: 5, priority: 1, expiresInMs: 60_000 });
post.send(CloseAccount, { id: "1" }, { dedupe: { key: ({ id }) => id, mode: "drop", windowMs: 5 } });
post.sendMany(CloseAccount, [{ id: "1" }], { dedupe: { key: "one", mode: "debounce", windowMs: 5, maxWaitMs: 50 } });
// @ts-expect-error a mode that there is none of
post.send(CloseAccount, { id: "1" }, { dedupe: { key: "1", mode: "once", windowMs: 5 } });
// @ts-expect-error a window is what drop is about
post.send(CloseAccount, { id: "1" }, { dedupe: { key: "1", mode: "drop" } });
// @ts-expect-error replace has no window
post.send(CloseAccount, { id: "1" }, { dedupe: { key: "1", mode: "replace", windowMs: 5 } });
// @ts-expect-error a time is a Date
post.send(CloseAccount, { id: "1" }, { runAt: "2030-01-01" });
// @ts-expect-error a fact is not deduped
post.publish(OrderPlaced, { orderId: "1" }, { dedupe: { key: "1", mode: "replace" } });
// @ts-expect-error headers are texts
post.send(CloseAccount, { id: "1" }, { headers: { retries: 1 } });
// @ts-expect-error many takes a list
post.sendMany(CloseAccount, { id: "1" });

// ---- inside a transaction and a handler: at once, and nothing to await ------------------
function buffered({ send, publish }: TransactionContext<unknown>) {
  same<ReturnType<typeof publish>, void>();
  const receipt = send(SendEmail, { to: "a", at: "2026-01-01" });
  same<typeof receipt, ReceiptWithResult<{ messageId: string }>>();
  // @ts-expect-error a command is sent
  publish(CloseAccount, { id: "1" });
  // @ts-expect-error an event is published
  send(OrderPlaced, { orderId: "1" });
}
void post.transaction(async (context) => buffered(context));
orders.on(OrderPlaced, ({ orderId }, { send, message, attempt, idempotencyKey, signal }) => {
  send(CloseAccount, { id: `${orderId}${message.id}${attempt}${idempotencyKey("mail")}${signal.aborted}` });
});

// ---- in(tx): awaited, whatever the client -----------------------------------------------
export async function inside(tx: PoolClient, receipt: Receipt): Promise<Receipt[]> {
  await post.in(tx).publish(OrderPlaced, { orderId: "1" });
  // @ts-expect-error an event is published
  await post.in(tx).send(OrderPlaced, { orderId: "1" });
  return [receipt, await post.in(tx).send(CloseAccount, { id: "1" })];
}

// ---- schedules: commands only -----------------------------------------------------------
const weekly = { cron: "0 3 * * MON", timeZone: "UTC", missed: "once" } as const;
same<ReturnType<typeof post.schedule>, Schedule>();
post.schedule("close-old", {
  ...weekly,
  command: CloseAccount,
  payload: { id: "1" },
  jitterMs: 1,
  headers: { a: "b" },
});
// The payload is the input of the schema, not its output.
post.schedule("mail", { ...weekly, command: SendEmail, payload: (at) => ({ to: "a", at: at.toISOString() }) });
// @ts-expect-error an event is a fact, and time alone makes none
post.schedule("event", { ...weekly, command: OrderPlaced, payload: { orderId: "1" } });
// @ts-expect-error a query is asked
post.schedule("query", { ...weekly, command: PriceOf, payload: { sku: "1" } });
// @ts-expect-error the payload of another command
post.schedule("wrong", { ...weekly, command: CloseAccount, payload: { to: "a" } });
// @ts-expect-error a function of the payload of another command
post.schedule("wrong", { ...weekly, command: CloseAccount, payload: () => ({ to: "a" }) });
// @ts-expect-error what becomes of missed times is to be decided
post.schedule("missed", { cron: "* * * * *", timeZone: "UTC", command: CloseAccount, payload: { id: "1" } });
// @ts-expect-error and so is whose clock is meant
post.schedule("zone", { cron: "* * * * *", missed: "skip", command: CloseAccount, payload: { id: "1" } });
// @ts-expect-error there is no such decision
post.schedule("never", { ...weekly, missed: "never", command: CloseAccount, payload: { id: "1" } });

// ---- what is no database ----------------------------------------------------------------
// @ts-expect-error a promise of one: an await is missing
posthorn({ service: "shop", database: Promise.resolve(pglite) });
// @ts-expect-error an unset variable is not a database
posthorn({ service: "shop", database: process.env.DATABASE_URL });
// @ts-expect-error there is no such option
posthorn({ service: "shop", database: pool, migrations: "auto" });

// ---- handlers of many ------------------------------------------------------------
const batch = { size: 100, maxWaitMs: 1_000 };
onPool
  .queue("accounts", policies.rollUp)
  .handleMany(CloseAccount, batch, async (messages, { tx, signal, send, publish }) => {
    same<typeof messages, readonly Batched<{ id: string }>[]>();
    same<typeof tx, PoolClient>();
    same<typeof signal, AbortSignal>();
    publish(OrderPlaced, { orderId: "1" });
    same<ReturnType<typeof send<typeof CloseAccount>>, Receipt>();
    for (const { payload, message, attempt, idempotencyKey, fail } of messages) {
      same<typeof payload.id, string>();
      same<typeof message.headers.a, string | undefined>();
      same<typeof attempt, number>();
      if (idempotencyKey("close") === message.id) fail(new Error("closed already"));
    }
  });
const many = onPglite
  .subscription("confirmations", { topic: "orders", ...policies.notify })
  .onMany(OrderPlaced, batch, (messages) => {
    for (const { payload } of messages) same<typeof payload, { orderId: string }>();
  });
same<typeof many.topic, "orders">();
// @ts-expect-error tx exists in transaction mode only
onPool.queue("accounts", policies.email).handleMany(CloseAccount, batch, (_messages, { tx }) => void tx);
// @ts-expect-error a result belongs to one message
onPool.queue("email", policies.email).handleMany(SendEmail, batch, () => undefined);
// @ts-expect-error a handler of many returns nothing
onPool.queue("accounts", policies.email).handleMany(CloseAccount, batch, () => [1]);
// @ts-expect-error the size is missing
onPool.queue("accounts", policies.email).handleMany(CloseAccount, { maxWaitMs: 0 }, () => undefined);
// @ts-expect-error not a command of this queue
onPool.queue("email", policies.email).handleMany(CloseAccount, batch, () => undefined);
// @ts-expect-error an event has no handleMany
onPool.queue("email", policies.email).handleMany(OrderPlaced, batch, () => undefined);
