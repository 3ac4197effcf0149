/**
 * The kinds of message, as the compiler sees them. This file is only compiled: each `@ts-expect-error` is a test that fails when
 * the line below it compiles. Each row of the kinds table has its lines; those about handlers and
 * their context are in verbs.types.ts.
 */
import type { StandardSchemaV1 } from "@standard-schema/spec";
import { type as ark } from "arktype";
import {
  type Command,
  command,
  type Event,
  event,
  type InputOf,
  type OutputOf,
  policies,
  posthorn,
  type Query,
  query,
  type ResultOf,
  type Schema,
  type,
} from "posthorn";
import * as v from "valibot";
import { z } from "zod";

type Same<A, B> = (<T>() => T extends A ? 1 : 2) extends <T>() => T extends B ? 1 : 2 ? true : false;
/** Compiles only where both types are the same. */
function same<A, B>(..._proof: Same<A, B> extends true ? [] : ["the types differ", A, B]): void {}

const post = posthorn({ service: "shop", database: "postgres://localhost/shop" });
const { publish, send } = post;
const email = post.queue("email", policies.email);

// ---- what the definition functions infer ------------------------------------
const PriceOf = query("PriceOf", {
  request: z.object({ sku: z.string() }),
  response: z.object({ cents: z.number().int() }),
  deadlineMs: 300,
});
const SendEmail = command("SendEmail", {
  queue: "email",
  schema: z.object({ orderId: z.string(), to: z.string() }),
  result: z.object({ messageId: z.string() }),
});
const OrderPlaced = event("OrderPlaced", {
  topic: "orders",
  schema: z.object({ orderId: z.string(), cents: z.number().int() }),
  key: (order) => order.orderId,
});
same<typeof PriceOf, Query<"PriceOf", { sku: string }, { sku: string }, { cents: number }, { cents: number }>>();
same<typeof OrderPlaced.kind, "event">();
same<typeof OrderPlaced.name, "OrderPlaced">();
same<typeof OrderPlaced.channel, "orders">();
same<typeof SendEmail.channel, "email">();
same<ResultOf<typeof SendEmail>, { messageId: string }>();

// ---- without a result: never ------------------------------------------------
const CloseAccount = command("CloseAccount", { queue: "accounts", schema: type<{ id: string }>() });
same<typeof CloseAccount, Command<"CloseAccount", "accounts", { id: string }, { id: string }>>();
same<ResultOf<typeof CloseAccount>, never>();

// ---- input and output of every library --------------------------------------
const ByZod = event("ZodUsed", {
  topic: "t",
  schema: z.object({ n: z.string().transform(Number), d: z.number().default(1) }),
});
same<InputOf<typeof ByZod>, { n: string; d?: number | undefined }>();
same<OutputOf<typeof ByZod>, { n: number; d: number }>();

const ByValibot = event("ValibotUsed", {
  topic: "t",
  schema: v.object({ n: v.pipe(v.string(), v.transform(Number)) }),
  key: (p) => p.n.toFixed(),
});
same<InputOf<typeof ByValibot>, { n: string }>();
same<OutputOf<typeof ByValibot>, { n: number }>();

const ByArk = event("ArkUsed", { topic: "t", schema: ark({ n: "string.numeric.parse" }), key: (p) => p.n.toFixed() });
same<InputOf<typeof ByArk>, { n: string }>();
same<OutputOf<typeof ByArk>, { n: number }>();

const ByType = event("TypeUsed", { topic: "t", schema: type<{ n: number }>(), key: (p) => p.n.toFixed() });
same<typeof ByType, Event<"TypeUsed", "t", { n: number }, { n: number }>>();

/** The specification's own type fits ours and the other way round. */
export const ours = (schema: StandardSchemaV1<string, number>): Schema<string, number> => schema;
export const theirs = (schema: Schema<string, number>): StandardSchemaV1<string, number> => schema;

// ---- the key gets the output and gives a string ------------------------------
// @ts-expect-error the output has no such property
event("KeyMissed", { topic: "t", schema: type<{ id: string }>(), key: (p) => p.orderId });
// @ts-expect-error a key is a string
event("KeyNumbered", { topic: "t", schema: type<{ n: number }>(), key: (p) => p.n });

// ---- row "stored", "receivers": the wrong verb does not compile ---------------
publish(OrderPlaced, { orderId: "1", cents: 1 });
send(SendEmail, { orderId: "1", to: "a@b.example" });
same<ReturnType<typeof post.ask<typeof PriceOf>>, Promise<{ cents: number }>>();
// @ts-expect-error a command is sent
publish(SendEmail, { orderId: "1", to: "a@b.example" });
// @ts-expect-error a query is asked
publish(PriceOf, { sku: "A1" });
// @ts-expect-error an event is published
send(OrderPlaced, { orderId: "1", cents: 1 });
// @ts-expect-error a query is asked
send(PriceOf, { sku: "A1" });
// @ts-expect-error a command is sent
post.ask(SendEmail, { orderId: "1", to: "a@b.example" });
// @ts-expect-error an event is published
post.ask(OrderPlaced, { orderId: "1", cents: 1 });

// ---- the payload is checked as well ------------------------------------------
// @ts-expect-error cents is a number
publish(OrderPlaced, { orderId: "1", cents: "1" });
// @ts-expect-error cents is missing
publish(OrderPlaced, { orderId: "1" });
// @ts-expect-error nothing else is known
publish(OrderPlaced, { orderId: "1", cents: 1, more: 1 });

// ---- row "receivers": a command is handled by its own queue only --------------
email.handle(SendEmail, ({ to }) => ({ messageId: to }));
// @ts-expect-error CloseAccount belongs to the queue "accounts"
email.handle(CloseAccount, () => {});
// @ts-expect-error an event has no queue
email.handle(OrderPlaced, () => {});
// @ts-expect-error the result has another form
email.handle(SendEmail, () => ({ id: 1 }));

// ---- row "reply, result, target": refused for an event ------------------------
// @ts-expect-error an event has no result
event("ResultRefused", { topic: "t", schema: type<string>(), result: type<string>() });
// @ts-expect-error an event is not sent to a queue
event("QueueRefused", { queue: "q", schema: type<string>() });
// @ts-expect-error a command has no owner
command("OwnThing", { queue: "q", schema: type<string>(), owner: "shop" });
// @ts-expect-error a command needs a queue
command("DoThing", { schema: type<string>() });
// @ts-expect-error a query is not stored
query("ThingOf", { request: type<string>(), response: type<string>(), deadlineMs: 1, queue: "q" });
// @ts-expect-error a query needs a deadline
query("ThingOf", { request: type<string>(), response: type<string>() });

// ---- a look-alike does not pass ------------------------------------------------
const alike = { kind: "event", name: "OrderPlaced", channel: "orders", version: 1, keyed: false } as const;
// @ts-expect-error the brand is missing
publish(alike, {});

// ---- contracts cannot be changed -----------------------------------------------
// @ts-expect-error contracts are read-only
OrderPlaced.channel = "orders";
