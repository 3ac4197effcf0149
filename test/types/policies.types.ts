/** The six decisions, as the compiler sees them. Only compiled: each `@ts-expect-error` is a test. */
import {
  type Idempotency,
  OpenCircuit,
  type Policy,
  policies,
  Reject,
  RetryLater,
  retry,
  retryAfterMs,
} from "posthorn";

declare function queue<I extends Idempotency>(name: string, policy: Policy<I>): I;

const whole = {
  retry: retry.exponential({ attempts: 8, firstMs: 1_000, maxMs: 60_000 }),
  idempotency: "handler",
  ordering: "none",
  visibilityTimeoutMs: 30_000,
  deadLetter: { keepMs: 1_000 },
  alerts: { oldestAgeMs: 1, backlog: 1, deadLetters: 1, noWorkerMs: 1 },
} as const;

// ---- the mode is inferred: it decides whether a handler gets `tx` ---------------
export const handler: "handler" = queue("email", whole);
export const transaction: "transaction" = queue("email", { ...whole, idempotency: "transaction" });
export const atMostOnce: "at-most-once" = queue("email", { ...whole, idempotency: "at-most-once", retry: retry.none });
export const presets: readonly ["handler", "handler", "transaction", "handler", "handler", "at-most-once"] = [
  queue("email", policies.email),
  queue("webhook", policies.webhook),
  queue("rollup", policies.rollUp),
  queue("notify", policies.notify),
  queue("payment", policies.payment),
  queue("once", policies.atMostOnce),
];
queue("email", { ...policies.email, concurrency: 3 });
queue("email", { ...whole, ordering: { per: "key", whenDead: "park" } });

// ---- no decision can be left out -------------------------------------------------
// @ts-expect-error retry is missing
queue("email", { ...whole, retry: undefined });
// @ts-expect-error idempotency is missing
queue("email", { ...whole, idempotency: undefined });
// @ts-expect-error ordering is missing
queue("email", { ...whole, ordering: undefined });
// @ts-expect-error visibilityTimeoutMs is missing
queue("email", { ...whole, visibilityTimeoutMs: undefined });
// @ts-expect-error deadLetter is missing
queue("email", { ...whole, deadLetter: undefined });
// @ts-expect-error alerts are missing
queue("email", { ...whole, alerts: undefined });
// @ts-expect-error everything is missing
queue("email", {});
// @ts-expect-error half of the alerts is missing
queue("email", { ...whole, alerts: { oldestAgeMs: 1, backlog: 1 } });
// @ts-expect-error what happens behind a dead message is part of the decision
queue("email", { ...whole, ordering: { per: "key" } });

// ---- at most once cannot retry -----------------------------------------------------
// @ts-expect-error at most once takes retry.none
queue("email", { ...whole, idempotency: "at-most-once" });
// @ts-expect-error a fixed retry is one as well
queue("email", { ...whole, idempotency: "at-most-once", retry: retry.fixed({ attempts: 1, delayMs: 1 }) });

// @ts-expect-error so is a list of one wait
queue("email", { ...whole, idempotency: "at-most-once", retry: retry.delays([1]) });
// @ts-expect-error and a function
queue("email", { ...whole, idempotency: "at-most-once", retry: retry.custom({ attempts: 1, delayMs: () => 1 }) });

// ---- retries ---------------------------------------------------------------------------
queue("email", {
  ...whole,
  retry: retry.exponential({ attempts: 3, firstMs: 1, maxMs: 2, jitter: "full", immediate: 1 }),
});
queue("email", { ...whole, retry: retry.delays([0, 10, 500]) });
queue("email", { ...whole, retry: retry.custom({ attempts: 3, delayMs: (attempt: number) => attempt * 10 }) });
// The error is whatever was thrown.
retry.custom({ attempts: 3, delayMs: (_attempt, error) => (error instanceof TypeError ? 1 : 2) });
// @ts-expect-error no such jitter
retry.exponential({ attempts: 3, firstMs: 1, maxMs: 2, jitter: "some" });
// @ts-expect-error the attempts follow from the list
retry.delays({ attempts: 3, delaysMs: [1, 2] });
// @ts-expect-error a wait is a number, and it is needed at once
retry.custom({ attempts: 3, delayMs: async () => 1 });
// @ts-expect-error attempts are missing
retry.custom({ delayMs: () => 1 });

// ---- the circuit breaker -----------------------------------------------------------------
queue("email", { ...whole, circuitBreaker: { failures: 5, windowMs: 60_000, openMs: 30_000 } });
// @ts-expect-error how long it stays open is missing
queue("email", { ...whole, circuitBreaker: { failures: 5, windowMs: 60_000 } });

// ---- what a handler decides ----------------------------------------------------------------
export const verdicts: readonly Error[] = [
  new RetryLater(1_000),
  new RetryLater(1_000, "busy", { cause: new Error("503") }),
  RetryLater.fromResponse(new Response(null, { status: 429 })),
  RetryLater.fromResponse({ headers: { get: () => "5" } }, { otherwiseMs: 5_000 }),
  new Reject("no such address", { cause: 550 }),
  new OpenCircuit(),
  new OpenCircuit(60_000, "quota spent"),
];
// @ts-expect-error for how long?
new RetryLater();
// @ts-expect-error the reason is part of it
new Reject();
export const asked: number | undefined = retryAfterMs(new Headers().get("retry-after"));

// ---- what is unknown or planned --------------------------------------------------------
// @ts-expect-error there is no such decision
queue("email", { ...whole, concurency: 3 });
// @ts-expect-error planned, not built yet
queue("email", { ...whole, rateLimit: { perSecond: 3 } });
// @ts-expect-error there is no such mode
queue("email", { ...whole, idempotency: "exactly-once" });
// @ts-expect-error firstMs is missing
retry.exponential({ attempts: 1, maxMs: 1 });
// @ts-expect-error presets are read-only
policies.email.visibilityTimeoutMs = 1;
