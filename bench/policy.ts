/** The policies of the rows. "Tuned" changes only documented options, and the bench prints them. */
import { days, minutes, type Policy, retry, seconds } from "posthorn";

const base = {
  retry: retry.exponential({ attempts: 8, firstMs: seconds(1), maxMs: minutes(60) }),
  ordering: "none",
  visibilityTimeoutMs: seconds(30),
  deadLetter: { keepMs: days(30) },
  alerts: { oldestAgeMs: days(1), backlog: 100_000_000, deadLetters: 1, noWorkerMs: days(1) },
} as const;

/** Handlers that run at once in the rows that say "tuned". */
export const tunedConcurrency = 500;

const tuned = (concurrency: number | undefined) => (concurrency === undefined ? {} : { concurrency });

export const handlerPolicy = (concurrency?: number): Policy<"handler"> => ({
  ...base,
  ...tuned(concurrency),
  idempotency: "handler",
});
export const transactionPolicy = (concurrency?: number): Policy<"transaction"> => ({
  ...base,
  ...tuned(concurrency),
  idempotency: "transaction",
});
