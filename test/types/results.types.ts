/** Receipts, results and progress as the compiler sees them. Only compiled: each `@ts-expect-error` is a test that fails when the line below it compiles. */
import type { Pool } from "pg";
import {
  type CancelAnswer,
  command,
  event,
  policies,
  posthorn,
  query,
  type Receipt,
  type ReceiptWithResult,
  type Status,
  type,
} from "posthorn";
import { z } from "zod";

type Same<A, B> = (<T>() => T extends A ? 1 : 2) extends <T>() => T extends B ? 1 : 2 ? true : false;
/** Compiles only where both types are the same. */
function same<A, B>(..._proof: Same<A, B> extends true ? [] : ["the types differ", A, B]): void {}

declare const pool: Pool;
const post = posthorn({ service: "shop", database: pool });
const PriceOf = query("PriceOf", { request: type<object>(), response: type<number>(), deadlineMs: 300 });
const SendEmail = command("SendEmail", {
  queue: "email",
  schema: type<{ to: string }>(),
  result: z.object({ at: z.string().transform((text) => new Date(text)) }),
});
const CloseAccount = command("CloseAccount", { queue: "accounts", schema: type<{ id: string }>() });
const OrderPlaced = event("OrderPlaced", { topic: "orders", schema: type<{ orderId: string }>() });

// ---- a receipt from an id is as the one that send returned ---------------------------------
const known = post.receipt(SendEmail, "1");
same<typeof known, ReceiptWithResult<{ at: Date }>>();
const plain = post.receipt(CloseAccount, "1");
same<typeof plain, Receipt>();
const bare = post.receipt("1");
same<typeof bare, Receipt>();
// @ts-expect-error there is no result to wait for
void plain.result({ withinMs: 1 });
// @ts-expect-error without the contract nobody knows the result's schema
void bare.result({ withinMs: 1 });
// @ts-expect-error an event has no receipt
post.receipt(OrderPlaced, "1");
// @ts-expect-error a query is answered, not sent
post.receipt(PriceOf, "1");
// @ts-expect-error an id is a text
post.receipt(SendEmail, 1);

export async function asking() {
  const result = await known.result({ withinMs: 1 });
  same<typeof result, { at: Date }>();
  const status = await known.settled({ withinMs: 1 });
  same<typeof status, Status<{ at: Date }>>();
  same<(typeof status)["result"], { at: Date } | undefined>();
  same<(typeof status)["progress"], unknown>();
  same<Awaited<ReturnType<typeof bare.status>>["result"], unknown>();
  const answer = await plain.cancel();
  same<typeof answer, CancelAnswer>();
  same<CancelAnswer, "cancelled" | "signalled" | "too-late">();
  // @ts-expect-error how long is to be said
  await known.result();
}

// ---- how long results are kept is said of a queue -------------------------------------------
const email = post.queue("email", { ...policies.email, results: { keepMs: 5 } });
post.queue("email", { ...policies.email, results: {} });
// @ts-expect-error there is no such option
post.queue("email", { ...policies.email, results: { keepForMs: 5 } });
// @ts-expect-error an event has no result
post.subscription("orders", { topic: "orders", ...policies.notify, results: { keepMs: 5 } });

// ---- progress is told by handlers, not by answers -----------------------------------------------
email.handle(SendEmail, ({ to }, { progress, signal }) => {
  progress(0.5);
  progress({ done: 1, of: 2 });
  progress("half");
  progress([1, 2]);
  // @ts-expect-error a function is no progress
  progress(() => 1);
  // @ts-expect-error nor is nothing
  progress();
  same<typeof signal, AbortSignal>();
  return { at: to };
});
// @ts-expect-error an answer is there in a moment
post.answer(PriceOf, (_request, { progress }) => progress(1));
