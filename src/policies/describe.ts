/** Reads a policy back: as data, and in words for the CLI, the dashboard and reviews. Nominal waits, without jitter. */
import { count, durationInWords } from "../core/words.js";
import type { CheckedFlow, CheckedRate } from "./flow.js";
import type { CheckedPolicy } from "./policy.js";
import { nominalDelayMs } from "./retry.js";

export interface PolicyDescription {
  /** When each attempt begins, counted from the first, if every run failed at once. */
  readonly triedAtMs: readonly number[];
  /** When the last attempt has failed. */
  readonly givesUpAfterMs: number;
  readonly mayRepeat: boolean;
  readonly mayBeLost: boolean;
  readonly runEndsAfterMs: number;
  readonly deadLettersKeptMs: number;
  readonly toldAfterMs: number;
  readonly toldAtBacklog: number;
  readonly toldAtDeadLetters: number;
  readonly toldWithoutWorkerAfterMs: number;
  readonly atOnce: number;
  /** Limits of the whole fleet, where there are any. */
  readonly limits: CheckedFlow;
}

export function describePolicyAsData(policy: CheckedPolicy): PolicyDescription {
  const triedAtMs = [0];
  for (let failures = 1; failures < policy.retry.attempts; failures += 1) {
    triedAtMs.push((triedAtMs.at(-1) ?? 0) + nominalDelayMs(policy.retry, failures));
  }
  return {
    triedAtMs,
    givesUpAfterMs: triedAtMs.at(-1) ?? 0,
    mayRepeat: policy.idempotency === "handler",
    mayBeLost: policy.idempotency === "at-most-once",
    runEndsAfterMs: policy.visibilityTimeoutMs,
    deadLettersKeptMs: policy.deadLetter.keepMs,
    toldAfterMs: policy.alerts.oldestAgeMs,
    toldAtBacklog: policy.alerts.backlog,
    toldAtDeadLetters: policy.alerts.deadLetters,
    toldWithoutWorkerAfterMs: policy.alerts.noWorkerMs,
    atOnce: policy.concurrency,
    limits: limitsOf(policy),
  };
}

/** "tried at 0 s, 1 s, 3 s …, gives up after 2 h 4 min; may repeat after a crash; …" */
export function describePolicy(policy: CheckedPolicy): string {
  const data = describePolicyAsData(policy);
  return [
    tries(data),
    repeats[policy.idempotency],
    "in no particular order",
    `up to ${count(data.atOnce)} at once in each process`,
    ...limitsInWords(data.limits),
    `a run is ended after ${durationInWords(data.runEndsAfterMs)}`,
    `dead letters are kept for ${durationInWords(data.deadLettersKeptMs)}`,
    told(data),
  ].join("; ");
}

function limitsOf({
  fleetConcurrency,
  keyConcurrency,
  rateLimit,
  keyRateLimit,
  backlogLimit,
}: CheckedFlow): CheckedFlow {
  return {
    ...(fleetConcurrency !== undefined && { fleetConcurrency }),
    ...(keyConcurrency !== undefined && { keyConcurrency }),
    ...(rateLimit && { rateLimit }),
    ...(keyRateLimit && { keyRateLimit }),
    ...(backlogLimit && { backlogLimit }),
  };
}

/** Each in words, for people. */
export function limitsInWords(limits: CheckedFlow): string[] {
  const { fleetConcurrency, keyConcurrency, rateLimit, keyRateLimit, backlogLimit } = limits;
  const words: (string | undefined)[] = [
    fleetConcurrency && `up to ${count(fleetConcurrency)} at once in the whole fleet`,
    keyConcurrency && `up to ${count(keyConcurrency)} at once for each key in the whole fleet`,
    rateLimit && `no faster in the whole fleet than ${rateInWords(rateLimit)}`,
    keyRateLimit && `no faster for each key in the whole fleet than ${rateInWords(keyRateLimit)}`,
    backlogLimit && fullInWords(backlogLimit),
  ].map((word) => word || undefined);
  return words.filter((word) => word !== undefined);
}

/** "500 in 1 s, up to 50 at once". */
export function rateInWords({ messages, perMs, burst }: CheckedRate): string {
  return `${count(messages)} in ${durationInWords(perMs)}, ${burst === 1 ? "one at a time" : `up to ${count(burst)} at once`}`;
}

function fullInWords({ messages, whenFull, waitMs }: NonNullable<CheckedFlow["backlogLimit"]>): string {
  const then = whenFull === "reject" ? "send rejects" : `send waits for up to ${durationInWords(waitMs)}`;
  return `full at ${count(messages)} waiting ${messages === 1 ? "message" : "messages"}, and then ${then}`;
}

const shownTries = 5;

function tries({ triedAtMs, givesUpAfterMs }: PolicyDescription): string {
  if (triedAtMs.length === 1) return "tried once, gives up at the first failure";
  const times = triedAtMs.slice(0, shownTries).map(durationInWords).join(", ");
  const more = triedAtMs.length > shownTries ? " …" : "";
  return `tried at ${times}${more}, ${count(triedAtMs.length)} times in all, gives up after ${durationInWords(givesUpAfterMs)}`;
}

const repeats = {
  transaction: "takes effect exactly once, in this database",
  handler: "may repeat after a crash",
  "at-most-once": "never repeats, and may be left undone: a run that failed or died is a dead letter",
} as const satisfies Record<CheckedPolicy["idempotency"], string>;

function told({ toldAfterMs, toldAtBacklog, toldAtDeadLetters, toldWithoutWorkerAfterMs }: PolicyDescription): string {
  return [
    `you are told after ${durationInWords(toldAfterMs)} of waiting`,
    `at ${count(toldAtBacklog)} waiting ${toldAtBacklog === 1 ? "message" : "messages"}`,
    `at ${count(toldAtDeadLetters)} dead ${toldAtDeadLetters === 1 ? "letter" : "letters"}`,
    `and after ${durationInWords(toldWithoutWorkerAfterMs)} without a worker`,
  ].join(", ");
}
