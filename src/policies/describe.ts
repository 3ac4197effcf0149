/** Reads a policy back: as data, and in words for the CLI, the dashboard and reviews. Nominal waits, without jitter. */
import { count, durationInWords } from "../core/words.js";
import type { CheckedFlow, CheckedRate } from "./flow.js";
import { type CheckedPolicy, type CircuitBreaker, type QueuePolicy, type RelayedTo, recheckPolicy } from "./policy.js";
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
  /** Limits of the whole fleet, where there are any. */
  readonly limits: CheckedFlow;
  readonly circuitBreaker: CircuitBreaker | null;
  /** Of a relay: the broker that its messages go to. */
  readonly relayedTo?: RelayedTo;
}

/**
 * A policy as data: as it is declared, or a queue's `policy`.
 *
 * Errors: as `describePolicy`.
 */
export function describePolicyAsData(described: QueuePolicy | CheckedPolicy): PolicyDescription {
  const policy = recheckPolicy(described, "policy");
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
    limits: limitsOf(policy),
    circuitBreaker: policy.circuitBreaker ?? null,
    ...(policy.relay && { relayedTo: policy.relay }),
  };
}

/**
 * "tried at 0 s, 1 s, 3 s …, gives up after 2 h 4 min; may repeat after a crash; …", of a policy as it is declared, or of a queue's `policy`.
 *
 * Errors: `ConfigurationError` for a policy that no queue could have.
 */
export function describePolicy(policy: QueuePolicy | CheckedPolicy): string {
  const data = describePolicyAsData(policy);
  return [
    ...(data.relayedTo === undefined ? [] : [relayed(data.relayedTo)]),
    tries(data),
    repeats[policy.idempotency],
    ordering(policy),
    atOnce(data),
    ...limitsInWords(data.limits),
    runEnds(data),
    ...(data.circuitBreaker === null ? [] : [pauses(data.circuitBreaker)]),
    lettersKept(data),
    ...(data.resultsKeptMs === undefined ? [] : [`results for ${durationInWords(data.resultsKeptMs)}`]),
    `you are told ${Object.values(alerts)
      .map((words, i, all) => `${i === all.length - 1 ? "and " : ""}${words(data)}`)
      .join(", ")}`,
  ].join("; ");
}

/** Each decision by itself, by its name in the policy; an alert by "alerts." and its name. Without those that a policy may leave out and does. */
export function decisionsInWords(policy: CheckedPolicy): ReadonlyMap<string, string> {
  const data = describePolicyAsData(policy);
  const limits = Object.entries(data.limits).map(
    ([name, limit]) => [name, limitsInWords({ [name]: limit })[0]] as const,
  );
  const words: readonly (readonly [string, string | undefined])[] = [
    ["relay", data.relayedTo && relayed(data.relayedTo)],
    ["retry", tries(data)],
    ["idempotency", repeats[policy.idempotency]],
    ["ordering", ordering(policy)],
    ["concurrency", atOnce(data)],
    ...limits,
    ["visibilityTimeoutMs", runEnds(data)],
    ["circuitBreaker", data.circuitBreaker ? pauses(data.circuitBreaker) : undefined],
    ["deadLetter", lettersKept(data)],
    [
      "results",
      data.resultsKeptMs === undefined ? undefined : `results are kept for ${durationInWords(data.resultsKeptMs)}`,
    ],
    ...Object.entries(alerts).map(([name, told]) => [`alerts.${name}`, `you are told ${told(data)}`] as const),
  ];
  return new Map(words.filter((one): one is readonly [string, string] => one[1] !== undefined));
}

function relayed({ broker, where }: RelayedTo): string {
  return `relayed to ${broker} ${where}`;
}

function atOnce(data: PolicyDescription): string {
  return `up to ${count(data.atOnce)} at once in each process`;
}

function runEnds({ runEndsAfterMs }: PolicyDescription): string {
  return `a run is ended after ${durationInWords(runEndsAfterMs)}`;
}

function lettersKept({ deadLettersKeptMs }: PolicyDescription): string {
  return `dead letters are kept for ${durationInWords(deadLettersKeptMs)}`;
}

function ordering({ ordering }: QueuePolicy | CheckedPolicy): string {
  if (ordering === "none") return "in no particular order";
  const dead = ordering.whenDead === "park" ? "wait for you" : "go on";
  return `in order within each key, where those behind a dead one ${dead}`;
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

/** When you are told, by the names of the alerts. */
const alerts = {
  oldestAgeMs: ({ toldAfterMs }) => `after ${durationInWords(toldAfterMs)} of waiting`,
  backlog: ({ toldAtBacklog }) => `at ${count(toldAtBacklog)} waiting ${toldAtBacklog === 1 ? "message" : "messages"}`,
  deadLetters: ({ toldAtDeadLetters }) =>
    `at ${count(toldAtDeadLetters)} dead ${toldAtDeadLetters === 1 ? "letter or invalid message" : "letters or invalid messages"}`,
  noWorkerMs: ({ toldWithoutWorkerAfterMs }) => `after ${durationInWords(toldWithoutWorkerAfterMs)} without a worker`,
} as const satisfies Record<keyof CheckedPolicy["alerts"], (data: PolicyDescription) => string>;
