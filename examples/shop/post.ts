/** How it is carried: six decisions for each queue and subscription. */
import { days, minutes, policies, posthorn, retry, seconds } from "posthorn";

export const database = process.env.DATABASE_URL || "embedded:.posthorn";

export const post = posthorn({ service: "shop", database, migrate: "auto" });

export const email = post.queue("email", {
  retry: retry.exponential({ attempts: 12, firstMs: seconds(1), maxMs: minutes(10) }),
  idempotency: "handler", // the effect is elsewhere: the mail server is shown idempotencyKey()
  ordering: "none",
  visibilityTimeoutMs: seconds(30),
  deadLetter: { keepMs: days(30) },
  alerts: { oldestAgeMs: minutes(5), backlog: 1_000, deadLetters: 1, noWorkerMs: minutes(1) },
});

// A preset with one decision changed: the handler also writes rows, and they commit with what it says.
export const confirmations = post.subscription("confirmations", {
  topic: "orders",
  ...policies.notify,
  idempotency: "transaction",
});
