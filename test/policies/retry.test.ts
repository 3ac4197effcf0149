import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { limits } from "../../src/core/limits.js";
import { days, hours, minutes, seconds } from "../../src/core/time.js";
import { describePolicy, describePolicyAsData } from "../../src/policies/describe.js";
import { type CheckedPolicy, checkPolicy } from "../../src/policies/policy.js";
import { policies } from "../../src/policies/presets.js";
import { delayMs, type Jitter, nominalDelayMs, type Retry, retry, waitAfter } from "../../src/policies/retry.js";

const doubling = retry.exponential({ attempts: 8, firstMs: seconds(1), maxMs: minutes(1) });

describe("delayMs", () => {
  it("doubles from the first wait up to the longest", () => {
    const nominal = [1, 2, 3, 4, 5, 6, 7, 8].map((failures) => nominalDelayMs(doubling, failures));
    expect(nominal).toEqual([1, 2, 4, 8, 16, 32, 60, 60].map(seconds));
    expect(nominalDelayMs(doubling, 5_000)).toBe(minutes(1));
  });

  it("spreads over the upper half of the nominal wait", () => {
    expect(delayMs(doubling, 3, () => 0)).toBe(2_000);
    expect(delayMs(doubling, 3, () => 0.5)).toBe(3_000);
    expect(delayMs(doubling, 3, () => 0.999_999_9)).toBe(4_000);
  });

  it("spreads over all of the wait with full jitter, and not at all without", () => {
    const form = { attempts: 8, firstMs: seconds(1), maxMs: minutes(1) };
    const at = (jitter: Jitter, random: number) => delayMs(retry.exponential({ ...form, jitter }), 3, () => random);
    expect([0, 0.5, 0.999_999_9].map((random) => at("full", random))).toEqual([0, 2_000, 4_000]);
    expect([0, 0.5, 0.999_999_9].map((random) => at("none", random))).toEqual([4_000, 4_000, 4_000]);
  });

  it("waits for nothing before the first retries that come at once, and begins its series after them", () => {
    const form = { attempts: 8, firstMs: 100, maxMs: 1_000, immediate: 2 };
    expect([1, 2, 3, 4, 5].map((n) => delayMs(retry.exponential({ ...form, jitter: "none" }), n))).toEqual([
      0, 0, 100, 200, 400,
    ]);
    expect([1, 2, 3].map((n) => delayMs(retry.fixed({ attempts: 8, delayMs: 7, immediate: 1 }), n))).toEqual([0, 7, 7]);
  });

  it("waits as the list says, and beyond its end as the last entry", () => {
    const listed = retry.delays([0, 10, 500]);
    expect([1, 2, 3, 9].map((n) => delayMs(listed, n))).toEqual([0, 10, 500, 500]);
  });

  it("waits exactly as long as fixed says, and not at all where there is no retry", () => {
    const fixed = retry.fixed({ attempts: 3, delayMs: 500 });
    expect([1, 2, 9].map((failures) => delayMs(fixed, failures, () => 0))).toEqual([500, 500, 500]);
    expect(delayMs(retry.none, 1)).toBe(0);
  });

  it("is a whole number of milliseconds between half the nominal wait and the whole, whatever the decision", () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 1e9 }),
        fc.integer({ min: 1, max: 1e9 }),
        fc.integer({ min: 1, max: 2_000 }),
        fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true }),
        (firstMs, more, failures, random) => {
          const decision = retry.exponential({ attempts: 1_000, firstMs, maxMs: firstMs + more });
          const wait = delayMs(decision, failures, () => random);
          const base = nominalDelayMs(decision, failures);
          expect(Number.isSafeInteger(wait)).toBe(true);
          expect(wait).toBeGreaterThanOrEqual(Math.floor(base / 2));
          expect(wait).toBeLessThanOrEqual(base);
          expect(base).toBeLessThanOrEqual(firstMs + more);
        },
      ),
    );
  });
});

describe("a function of one's own", () => {
  const asked = (returned: unknown) =>
    waitAfter(retry.custom({ attempts: 3, delayMs: () => returned as number }), 1, new Error("x"));

  it("decides with any number of milliseconds, rounded to whole ones", () => {
    fc.assert(
      fc.property(fc.double({ min: 0, max: limits.durationMs, noNaN: true }), (ms) => {
        expect(asked(ms)).toEqual({ delayMs: Math.round(ms) + 0 });
      }),
    );
  });

  it("never throws, whatever it returns or throws: the wait is stated, and a note says what happened", () => {
    const hostile = new Proxy(
      {},
      {
        get: () => {
          throw new Error("no");
        },
        getPrototypeOf: () => {
          throw new Error("no");
        },
      },
    );
    const isWait = (value: unknown) => typeof value === "number" && value >= 0 && value <= limits.durationMs;
    fc.assert(
      fc.property(
        fc.oneof(
          fc.anything(),
          fc.constantFrom<unknown>(hostile, Promise.reject(new Error("late")), -1, limits.durationMs + 1),
        ),
        (value) => {
          fc.pre(!isWait(value));
          const throwing = retry.custom({
            attempts: 3,
            delayMs: () => {
              throw value;
            },
          });
          for (const wait of [asked(value), waitAfter(throwing, 1, undefined)]) {
            expect(wait.delayMs).toBe(limits.retryFallbackMs);
            expect(wait.note).toMatch(/^retry\.custom: delayMs (threw|returned) /);
            expect(wait.note?.length).toBeLessThan(300);
          }
        },
      ),
    );
  });
});

describe("describePolicy", () => {
  const policy = (decision: Retry, change: Partial<CheckedPolicy> = {}) =>
    checkPolicy({ ...policies.email, retry: decision, ...change }, "email");

  it("reads a policy with retries back in words", () => {
    const alerts = { oldestAgeMs: minutes(5), backlog: 10_000, deadLetters: 1, noWorkerMs: minutes(1) };
    expect(describePolicy(policy(doubling, { alerts }))).toBe(
      "tried at 0 s, 1 s, 3 s, 7 s, 15 s …, 8 times in all, gives up after 2 min 3 s; may repeat after a crash; " +
        "in no particular order; up to 10 at once in each process; a run is ended after 1 min; " +
        "dead letters are kept for 30 d; you are told after 5 min of waiting, at 10,000 waiting messages, " +
        "at 1 dead letter or invalid message, and after 1 min without a worker",
    );
  });

  it("reads a preset back as the queue that takes it has it", () => {
    for (const preset of Object.values(policies)) {
      expect(describePolicy(preset)).toBe(describePolicy(checkPolicy(preset, "preset")));
    }
    const { concurrency: _, ...sixDecisions } = policies.email;
    expect(describePolicy(sixDecisions)).toContain("up to 10 at once in each process");
  });

  it("says how long results are kept where the policy says it", () => {
    const kept = checkPolicy({ ...policies.email, results: { keepMs: days(7) } }, "email");
    expect(describePolicy(kept)).toContain("; dead letters are kept for 30 d; results for 7 d; you are told");
    expect(describePolicy(policy(doubling))).not.toContain("results");
  });

  it("reads a transaction policy with a fixed wait and larger alerts back", () => {
    const words = describePolicy(
      policy(retry.fixed({ attempts: 3, delayMs: 1_500 }), {
        idempotency: "transaction",
        deadLetter: { keepMs: hours(36) },
        alerts: { oldestAgeMs: days(1), backlog: 1, deadLetters: 20, noWorkerMs: 500 },
      }),
    );
    expect(words).toMatch(
      /^tried at 0 s, 1\.5 s, 3 s, 3 times in all, gives up after 3 s; takes effect exactly once, in this database; /,
    );
    expect(words).toContain(
      "dead letters are kept for 1 d 12 h; you are told after 1 d of waiting, at 1 waiting message, at 20 dead letters or invalid messages, and after 500 ms without a worker",
    );
  });

  it("says of full jitter that waits are a part, of a function that it decides, and of a breaker when it pauses", () => {
    const full = retry.exponential({
      attempts: 3,
      firstMs: seconds(1),
      maxMs: minutes(1),
      jitter: "full",
      immediate: 1,
    });
    expect(describePolicy(policy(full))).toMatch(
      /^tried at 0 s, 0 s, 1 s, 3 times in all, gives up after 1 s, each wait being a random part of that; /,
    );
    const custom = retry.custom({ attempts: 9, delayMs: () => 1 });
    expect(describePolicy(policy(custom))).toMatch(
      /^tried 9 times in all, each time after a wait that a function of its code tells; /,
    );
    expect(describePolicyAsData(policy(custom))).toMatchObject({ attempts: 9, triedAtMs: [0], givesUpAfterMs: null });
    const circuitBreaker = { failures: 5, windowMs: minutes(1), openMs: seconds(30) };
    expect(describePolicy(policy(retry.delays([10, 20]), { circuitBreaker }))).toContain(
      "; after 5 failed runs within 1 min nobody takes a message for 30 s, then one is tried; ",
    );
    expect(describePolicyAsData(policy(retry.delays([10, 20]), { circuitBreaker }))).toMatchObject({
      triedAtMs: [0, 10, 30],
      circuitBreaker,
    });
  });

  it("reads at most once back as one run that may be left undone", () => {
    expect(describePolicy(checkPolicy(policies.atMostOnce, "once"))).toMatch(
      /^tried once, gives up at the first failure; never repeats, and may be left undone: a run that failed or died is a dead letter; /,
    );
  });

  it("gives the same as data", () => {
    expect(describePolicyAsData(policy(retry.fixed({ attempts: 3, delayMs: 10 })))).toEqual({
      attempts: 3,
      triedAtMs: [0, 10, 20],
      givesUpAfterMs: 20,
      jitter: "none",
      mayRepeat: true,
      mayBeLost: false,
      runEndsAfterMs: minutes(1),
      deadLettersKeptMs: days(30),
      toldAfterMs: minutes(15),
      toldAtBacklog: 10_000,
      toldAtDeadLetters: 1,
      toldWithoutWorkerAfterMs: minutes(2),
      atOnce: 10,
      limits: {},
      circuitBreaker: null,
    });
  });

  it("says that a handler of email keeps trying for hours", () => {
    expect(describePolicyAsData(checkPolicy(policies.email, "email")).givesUpAfterMs).toBeGreaterThan(hours(2));
  });
});
