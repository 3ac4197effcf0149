/** Reads a policy back: as data, and in words for the CLI, the dashboard and reviews. Nominal waits, without jitter. */
import { count, durationInWords } from "../core/words.js";
import type { CheckedPolicy, CircuitBreaker } from "./policy.js";
import { defaultJitter, type Jitter, nominalDelayMs } from "./retry.js";

export interface PolicyDescription {
  /** Runs in all. */
  readonly attempts: number;
  /** When each attempt begins, counted from the first, if every run failed at once; only the first where a function decides. */
  readonly triedAtMs: readonly number[];
  /** When the last attempt has failed; null where a function decides. */
  readonly givesUpAfterMs: number | null;
  /** How the waits are spread. */
  readonly jitter: Jitter;
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
  readonly circuitBreaker: CircuitBreaker | null;
}

export function describePolicyAsData(policy: CheckedPolicy): PolicyDescription {
  const { retry } = policy;
  const triedAtMs = [0];
  for (let failures = 1; retry.kind !== "custom" && failures < retry.attempts; failures += 1) {
    triedAtMs.push((triedAtMs.at(-1) ?? 0) + nominalDelayMs(retry, failures));
  }
  return {
    attempts: retry.attempts,
    triedAtMs,
    givesUpAfterMs: triedAtMs.length === retry.attempts ? (triedAtMs.at(-1) ?? 0) : null,
    jitter: retry.kind === "exponential" ? (retry.jitter ?? defaultJitter) : "none",
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
    circuitBreaker: policy.circuitBreaker ?? null,
  };
}

/** "tried at 0 s, 1 s, 3 s …, gives up after 2 h 4 min; may repeat after a crash; …" */
export function describePolicy(policy: CheckedPolicy): string {
  const data = describePolicyAsData(policy);
  return [
    tries(data),
    repeats[policy.idempotency],
    ordering(policy),
    `up to ${count(data.atOnce)} at once in each process`,
    `a run is ended after ${durationInWords(data.runEndsAfterMs)}`,
    ...(data.circuitBreaker === null ? [] : [pauses(data.circuitBreaker)]),
    `dead letters are kept for ${durationInWords(data.deadLettersKeptMs)}`,
    ...(data.resultsKeptMs === undefined ? [] : [`results for ${durationInWords(data.resultsKeptMs)}`]),
    told(data),
  ].join("; ");
}

function ordering({ ordering }: CheckedPolicy): string {
  if (ordering === "none") return "in no particular order";
  const dead = ordering.whenDead === "park" ? "wait for you" : "go on";
  return `in order within each key, where those behind a dead one ${dead}`;
}

const shownTries = 5;

function tries({ attempts, triedAtMs, givesUpAfterMs, jitter }: PolicyDescription): string {
  if (attempts === 1) return "tried once, gives up at the first failure";
  if (givesUpAfterMs === null) {
    return `tried ${count(attempts)} times in all, each time after a wait that a function of its code tells`;
  }
  const times = triedAtMs.slice(0, shownTries).map(durationInWords).join(", ");
  const more = triedAtMs.length > shownTries ? " …" : "";
  const spread = jitter === "full" ? ", each wait being a random part of that" : "";
  return `tried at ${times}${more}, ${count(attempts)} times in all, gives up after ${durationInWords(givesUpAfterMs)}${spread}`;
}

function pauses({ failures, windowMs, openMs }: CircuitBreaker): string {
  const runs = `${count(failures)} failed ${failures === 1 ? "run" : "runs"}`;
  return `after ${runs} within ${durationInWords(windowMs)} nobody takes a message for ${durationInWords(openMs)}, then one is tried`;
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
