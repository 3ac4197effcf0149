/**
 * Policies to choose from. Each is complete and spelled out: choosing one is a decision too. A project that wants another keeps
 * its own as a constant, for instance `{ ...policies.email, visibilityTimeoutMs: minutes(2) }`.
 */
import { days, hours, minutes, seconds } from "../core/time.js";
import type { Idempotency, Policy } from "./policy.js";
import { retry } from "./retry.js";

/** Frozen all the way down: a shared preset that somebody changes would change every queue that chose it. */
function preset<const I extends Idempotency>(policy: Policy<I>): Policy<I> {
  Object.freeze(policy.deadLetter);
  Object.freeze(policy.alerts);
  Object.freeze(policy.ordering);
  Object.freeze(policy.circuitBreaker);
  return Object.freeze(policy);
}

export const policies = Object.freeze({
  /**
   * Mail and other messages to people: the effect is elsewhere and may repeat after a crash, so show `idempotencyKey()` to the
   * mail server. Patient, because mail servers come back.
   */
  email: preset({
    retry: retry.exponential({ attempts: 11, firstMs: seconds(10), maxMs: hours(1) }),
    idempotency: "handler",
    ordering: "none",
    visibilityTimeoutMs: seconds(60),
    deadLetter: { keepMs: days(30) },
    alerts: { oldestAgeMs: minutes(15), backlog: 10_000, deadLetters: 1, noWorkerMs: minutes(2) },
    concurrency: 10,
  }),
  /**
   * Calls to somebody else's HTTP endpoint: the effect is elsewhere and may repeat after a crash, so send `idempotencyKey()`
   * along. Very patient: an endpoint may be away for long.
   */
  webhook: preset({
    retry: retry.exponential({ attempts: 16, firstMs: seconds(5), maxMs: hours(6) }),
    idempotency: "handler",
    ordering: "none",
    visibilityTimeoutMs: seconds(30),
    deadLetter: { keepMs: days(30) },
    alerts: { oldestAgeMs: hours(1), backlog: 100_000, deadLetters: 100, noWorkerMs: minutes(2) },
    concurrency: 20,
  }),
  /**
   * Figures kept from facts: the effects are rows in this database and commit with the settlement, exactly once. Few and
   * quick retries: what fails here again and again is a mistake in the code.
   */
  rollUp: preset({
    retry: retry.exponential({ attempts: 8, firstMs: seconds(1), maxMs: minutes(5) }),
    idempotency: "transaction",
    ordering: "none",
    visibilityTimeoutMs: seconds(30),
    deadLetter: { keepMs: days(30) },
    alerts: { oldestAgeMs: minutes(5), backlog: 100_000, deadLetters: 1, noWorkerMs: minutes(2) },
    concurrency: 10,
  }),
  /**
   * Facts that lead to further messages: the handler only sends or publishes, and what it says is written with its settlement,
   * so nothing goes out twice. Quick: people wait for what follows.
   */
  notify: preset({
    retry: retry.exponential({ attempts: 8, firstMs: seconds(1), maxMs: minutes(10) }),
    idempotency: "handler",
    ordering: "none",
    visibilityTimeoutMs: seconds(30),
    deadLetter: { keepMs: days(30) },
    alerts: { oldestAgeMs: minutes(5), backlog: 10_000, deadLetters: 1, noWorkerMs: minutes(2) },
    concurrency: 20,
  }),
  /**
   * Money through a provider: the effect is elsewhere and may repeat after a crash, so the provider must be given
   * `idempotencyKey()`. Long visibility, few at once, and you are told of every dead letter, which is kept for a year.
   */
  payment: preset({
    retry: retry.exponential({ attempts: 10, firstMs: seconds(5), maxMs: minutes(30) }),
    idempotency: "handler",
    ordering: "none",
    visibilityTimeoutMs: minutes(2),
    deadLetter: { keepMs: days(365) },
    alerts: { oldestAgeMs: minutes(5), backlog: 1_000, deadLetters: 1, noWorkerMs: minutes(1) },
    concurrency: 5,
  }),
  /**
   * A relay to a broker: what it sends may repeat after a crash, under the same id. In order per key, and behind a message that the broker refuses its
   * key waits for you. Many at once, because each waits for an acknowledgement. While the broker is away nothing is tried but one message a second.
   */
  relay: preset({
    retry: retry.exponential({ attempts: 10, firstMs: seconds(1), maxMs: minutes(5) }),
    idempotency: "handler",
    ordering: { per: "key", whenDead: "park" },
    visibilityTimeoutMs: seconds(30),
    deadLetter: { keepMs: days(30) },
    alerts: { oldestAgeMs: minutes(1), backlog: 100_000, deadLetters: 1, noWorkerMs: minutes(1) },
    concurrency: 1_000,
    circuitBreaker: { failures: 20, windowMs: seconds(10), openMs: seconds(1) },
  }),
  /**
   * Effects that must never repeat and cannot be told apart by the other side: one run, perhaps none that ends. A run that
   * failed or died is a dead letter for a person to look at.
   */
  atMostOnce: preset({
    retry: retry.none,
    idempotency: "at-most-once",
    ordering: "none",
    visibilityTimeoutMs: seconds(60),
    deadLetter: { keepMs: days(365) },
    alerts: { oldestAgeMs: minutes(15), backlog: 10_000, deadLetters: 1, noWorkerMs: minutes(2) },
    concurrency: 10,
  }),
});
