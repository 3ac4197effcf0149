import { expect, it } from "vitest";
import { days, minutes, seconds } from "../../src/core/time.js";
import { differences, policyDifferences } from "../../src/policies/differences.js";
import { checkPolicy, policyFields, type QueuePolicy, storedPolicy } from "../../src/policies/policy.js";
import { policies } from "../../src/policies/presets.js";
import { retry } from "../../src/policies/retry.js";

const base = { ...policies.email, ordering: "none" } as const;
const stored = (change: Partial<QueuePolicy> = {}): unknown =>
  JSON.parse(JSON.stringify(storedPolicy(checkPolicy({ ...base, ...change }, "email"))));
const told = (was: unknown, became: unknown) =>
  policyDifferences(was, became, "email").map((one) => [one.decision, one.wasInWords, one.becameInWords]);

/** A change of each decision, the words of it before, and after. */
const changes: Readonly<Record<string, readonly [Partial<QueuePolicy>, string, RegExp, RegExp]>> = {
  retry: [{ retry: retry.none }, "retry", /^tried at 0 s, /, /^tried once, gives up at the first failure$/],
  idempotency: [
    { idempotency: "transaction" },
    "idempotency",
    /^may repeat after a crash$/,
    /^takes effect exactly once, in this database$/,
  ],
  ordering: [
    { ordering: { per: "key", whenDead: "park" } },
    "ordering",
    /^in no particular order$/,
    /^in order within each key, where those behind a dead one wait for you$/,
  ],
  visibilityTimeoutMs: [{ visibilityTimeoutMs: minutes(9) }, "visibilityTimeoutMs", /after 1 min$/, /after 9 min$/],
  deadLetter: [{ deadLetter: { keepMs: days(2) } }, "deadLetter", /kept for \d+ d$/, /kept for 2 d$/],
  alerts: [
    { alerts: { ...base.alerts, backlog: 1 } },
    "alerts.backlog",
    /^you are told at [\d,]+ waiting messages$/,
    /^you are told at 1 waiting message$/,
  ],
  concurrency: [{ concurrency: 3 }, "concurrency", /^up to \d+ at once in each process$/, /^up to 3 at once/],
  fleetConcurrency: [{ fleetConcurrency: 7 }, "fleetConcurrency", /^none$/, /^up to 7 at once in the whole fleet$/],
  keyConcurrency: [{ keyConcurrency: 1 }, "keyConcurrency", /^none$/, /^up to 1 at once for each key/],
  rateLimit: [{ rateLimit: { messages: 5, perMs: 1_000 } }, "rateLimit", /^none$/, /than 5 in 1 s, one at a time$/],
  keyRateLimit: [{ keyRateLimit: { messages: 5, perMs: 1_000 } }, "keyRateLimit", /^none$/, /for each key .+ 5 in 1 s/],
  backlogLimit: [{ backlogLimit: { messages: 5, whenFull: "reject" } }, "backlogLimit", /^none$/, /^full at 5 waiting/],
  circuitBreaker: [
    { circuitBreaker: { failures: 2, windowMs: 1_000, openMs: 2_000 } },
    "circuitBreaker",
    /^none$/,
    /^after 2 failed runs within 1 s nobody takes a message for 2 s/,
  ],
  results: [{ results: { keepMs: seconds(5) } }, "results", /^none$/, /^results are kept for 5 s$/],
};

it("of each decision that differs both values are said in words, and nothing else", () => {
  expect(Object.keys(changes).sort()).toEqual(Object.keys(policyFields).sort());
  for (const [change, decision, was, became] of Object.values(changes)) {
    expect(told(stored(), stored(change))).toEqual([
      [decision, expect.stringMatching(was), expect.stringMatching(became)],
    ]);
    expect(told(stored(change), stored())).toEqual([
      [decision, expect.stringMatching(became), expect.stringMatching(was)],
    ]);
    expect(told(stored(change), stored(change))).toEqual([]);
  }
});

it("where both values have the same words, what differs is added", () => {
  const exact = { attempts: 3, firstMs: 1_000, maxMs: 60_000 };
  expect(
    told(
      stored({ retry: retry.exponential(exact) }),
      stored({ retry: retry.exponential({ ...exact, jitter: "none" }), visibilityTimeoutMs: 60_001 }),
    ),
  ).toEqual([
    ["retry", expect.stringMatching(/ \(retry\.jitter equal\)$/), expect.stringMatching(/ \(retry\.jitter none\)$/)],
    [
      "visibilityTimeoutMs",
      "a run is ended after 1 min (visibilityTimeoutMs 60000)",
      "a run is ended after 1 min (visibilityTimeoutMs 60001)",
    ],
  ]);
});

it("what one library leaves out and the other completes is no difference, and a relay elsewhere is one", () => {
  const { concurrency: _completed, ...older } = { concurrency: 10, ...Object(stored({ concurrency: 10 })) };
  expect(told(older, stored({ concurrency: 10 }))).toEqual([]);
  const to = (where: string) => ({ ...Object(stored()), relay: { broker: "kafka", where } });
  expect(told(to("a:9092/t"), to("b:9092/t"))).toEqual([
    ["relay", "relayed to kafka a:9092/t", "relayed to kafka b:9092/t"],
  ]);
});

it("what a newer library stored and this one cannot read is told as it is stored", () => {
  expect(told({ ...Object(stored()), moonPhase: { full: true } }, stored())).toEqual([
    ["moonPhase", '{"full":true}', "none"],
  ]);
  expect(told(null, stored())).toContainEqual(["policy", "null", "none"]);
});

it("parts are named by their path", () => {
  expect(differences({ a: { b: 1, c: [1] }, d: 2 }, { a: { b: 1, c: [1, 2] } })).toEqual([
    { path: "a.c", was: [1], became: [1, 2] },
    { path: "d", was: 2, became: undefined },
  ]);
});
