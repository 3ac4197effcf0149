/** Reads a policy back: as data, and in words for the CLI, the dashboard and reviews. Nominal waits, without jitter. */
import { count, durationInWords } from "../core/words.js";
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
  /** Of a queue, where it was said. */
  readonly resultsKeptMs?: number;
  readonly toldAfterMs: number;
  readonly toldAtBacklog: number;
  readonly toldAtDeadLetters: number;
  readonly toldWithoutWorkerAfterMs: number;
  readonly atOnce: number;
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
    ...(policy.results === undefined ? {} : { resultsKeptMs: policy.results.keepMs }),
    toldAfterMs: policy.alerts.oldestAgeMs,
    toldAtBacklog: policy.alerts.backlog,
    toldAtDeadLetters: policy.alerts.deadLetters,
    toldWithoutWorkerAfterMs: policy.alerts.noWorkerMs,
    atOnce: policy.concurrency,
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
    `a run is ended after ${durationInWords(data.runEndsAfterMs)}`,
    `dead letters are kept for ${durationInWords(data.deadLettersKeptMs)}`,
    ...(data.resultsKeptMs === undefined ? [] : [`results for ${durationInWords(data.resultsKeptMs)}`]),
    told(data),
  ].join("; ");
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
