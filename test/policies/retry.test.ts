import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { days, hours, minutes, seconds } from "../../src/core/time.js";
import { describePolicy, describePolicyAsData } from "../../src/policies/describe.js";
import { type CheckedPolicy, checkPolicy } from "../../src/policies/policy.js";
import { policies } from "../../src/policies/presets.js";
import { delayMs, nominalDelayMs, type Retry, retry } from "../../src/policies/retry.js";

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

describe("describePolicy", () => {
  const policy = (decision: Retry, change: Partial<CheckedPolicy> = {}) =>
    checkPolicy({ ...policies.email, retry: decision, ...change }, "email");

  it("reads a policy with retries back in words", () => {
    const alerts = { oldestAgeMs: minutes(5), backlog: 10_000, deadLetters: 1, noWorkerMs: minutes(1) };
    expect(describePolicy(policy(doubling, { alerts }))).toBe(
      "tried at 0 s, 1 s, 3 s, 7 s, 15 s …, 8 times in all, gives up after 2 min 3 s; may repeat after a crash; " +
        "in no particular order; up to 10 at once in each process; a run is ended after 1 min; " +
        "dead letters are kept for 30 d; you are told after 5 min of waiting, at 10 000 waiting messages, " +
        "at 1 dead letter, and after 1 min without a worker",
    );
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
      "dead letters are kept for 1 d 12 h; you are told after 1 d of waiting, at 1 waiting message, at 20 dead letters, and after 500 ms without a worker",
    );
  });

  it("reads at most once back as one run that may be left undone", () => {
    expect(describePolicy(checkPolicy(policies.atMostOnce, "once"))).toMatch(
      /^tried once, gives up at the first failure; never repeats, and may be left undone: a run that failed or died is a dead letter; /,
    );
  });

  it("gives the same as data", () => {
    expect(describePolicyAsData(policy(retry.fixed({ attempts: 3, delayMs: 10 })))).toEqual({
      triedAtMs: [0, 10, 20],
      givesUpAfterMs: 20,
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
    });
  });

  it("says that a handler of email keeps trying for hours", () => {
    expect(describePolicyAsData(checkPolicy(policies.email, "email")).givesUpAfterMs).toBeGreaterThan(hours(2));
  });
});
