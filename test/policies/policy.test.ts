import { describe, expect, it } from "vitest";
import { limits } from "../../src/core/limits.js";
import { days, minutes, seconds } from "../../src/core/time.js";
import { describePolicy } from "../../src/policies/describe.js";
import {
  checkPolicy,
  checkSubscription,
  policyFields,
  readStoredPolicy,
  storedPolicy,
} from "../../src/policies/policy.js";
import { policies } from "../../src/policies/presets.js";
import { retry } from "../../src/policies/retry.js";
import { thrown } from "../core/thrown.js";

const whole = {
  retry: retry.exponential({ attempts: 8, firstMs: seconds(1), maxMs: minutes(60) }),
  idempotency: "handler",
  ordering: "none",
  visibilityTimeoutMs: seconds(30),
  deadLetter: { keepMs: days(30) },
  alerts: { oldestAgeMs: minutes(5), backlog: 10_000, deadLetters: 1, noWorkerMs: minutes(1) },
};
const refuse = (change: Record<string, unknown>) => thrown(() => checkPolicy({ ...whole, ...change }, "email"));
const decisions = ["retry", "idempotency", "ordering", "visibilityTimeoutMs", "deadLetter", "alerts"] as const;

describe("checkPolicy", () => {
  it("returns a whole policy complete and frozen, all the way down", () => {
    const policy = checkPolicy(whole, "email");
    expect(policy).toEqual({ ...whole, concurrency: policyFields.concurrency.default });
    for (const part of [policy, policy.retry, policy.deadLetter, policy.alerts])
      expect(Object.isFrozen(part)).toBe(true);
    expect(checkPolicy({ ...whole, concurrency: 3 }, "email").concurrency).toBe(3);
  });

  it("keeps nothing of the object that was passed: a later change of it changes no policy", () => {
    const mine = structuredClone(whole);
    const policy = checkPolicy(mine, "email");
    mine.alerts.backlog = 1;
    expect(policy.alerts.backlog).toBe(10_000);
  });

  it("names every missing decision at once, each with what it decides", () => {
    const error = thrown(() => checkPolicy({}, "email"));
    expect([error.code, error.facts.missing]).toEqual(["PH_OPTION_MISSING", decisions]);
    expect(error.message).toMatch(/^email lacks 6 decisions retry, idempotency, .*alerts\. Add:\n {2}retry: How often/);
  });

  it.each(decisions)("refuses a policy without %s", (decision) => {
    const error = refuse({ [decision]: undefined });
    expect([error.code, error.facts.missing]).toEqual(["PH_OPTION_MISSING", [decision]]);
    expect(error.message).toContain(`email lacks the decision ${decision}. Add:`);
  });

  it.each([undefined, null, "email", 5, [], new Map(), () => whole])("refuses %o in place of a policy", (value) => {
    expect(thrown(() => checkPolicy(value, "email")).code).toBe("PH_OPTION_INVALID");
  });

  it.each(["oldestAgeMs", "backlog", "deadLetters", "noWorkerMs"])("refuses alerts without %s", (alert) => {
    const error = refuse({ alerts: { ...whole.alerts, [alert]: undefined } });
    expect(error.facts).toEqual({ path: "email.alerts", missing: [alert] });
  });

  it("has no priority: urgency is said of a message", () => {
    const error = refuse({ priority: 1 });
    expect([error.code, error.facts.option]).toEqual(["PH_OPTION_UNKNOWN", "priority"]);
  });

  it("takes the order per key with what happens to those behind a dead message, and refuses half of it", () => {
    for (const whenDead of ["park", "skip"] as const) {
      expect(checkPolicy({ ...policies.email, ordering: { per: "key", whenDead } }, "email").ordering).toEqual({
        per: "key",
        whenDead,
      });
    }
    expect(refuse({ ordering: { per: "key" } }).facts.missing).toEqual(["whenDead"]);
    expect(refuse({ ordering: { per: "key", whenDead: "wait" } }).code).toBe("PH_OPTION_INVALID");
    expect(refuse({ ordering: "key" }).message).toBe(
      'email.ordering must be "none" or { per: "key", whenDead: "park" | "skip" }; got the string "key".',
    );
  });

  it("refuses an unknown option with the nearest known one", () => {
    expect(refuse({ concurency: 1 }).message).toContain('unknown option "concurency". Did you mean "concurrency"?');
  });

  it("refuses at-most-once together with retries", () => {
    const error = refuse({ idempotency: "at-most-once" });
    expect(error.facts.path).toBe("email.retry");
    expect(error.message).toContain("must be retry.none");
    expect(refuse({ idempotency: "at-most-once", retry: retry.fixed({ attempts: 1, delayMs: 1 }) }).code).toBe(
      "PH_OPTION_INVALID",
    );
    expect(checkPolicy({ ...whole, idempotency: "at-most-once", retry: retry.none }, "email").retry).toEqual(
      retry.none,
    );
  });

  it.each([
    ["visibilityTimeoutMs", 0],
    ["visibilityTimeoutMs", "30"],
    // A timer of Node with more than 32 bits of milliseconds fires at once: each run was ended after a millisecond.
    ["visibilityTimeoutMs", limits.visibilityMs + 1],
    ["concurrency", 0],
    ["concurrency", limits.concurrency + 1],
    ["idempotency", "exactly-once"],
  ])("refuses %s: %j", (name, value) => {
    const error = refuse({ [name]: value });
    expect([error.code, error.facts.path]).toEqual(["PH_OPTION_INVALID", `email.${name}`]);
  });

  it("refuses dead letters that are kept for no time", () => {
    expect(refuse({ deadLetter: { keepMs: 0 } }).facts.path).toBe("email.deadLetter.keepMs");
  });
});

describe("the decision about retries", () => {
  const exponential = { attempts: 8, firstMs: 1_000, maxMs: 60_000 };
  const loose = (options: object) => refuse({ retry: { ...options, kind: "exponential" } });

  it("is checked under the name of its queue", () => {
    expect(loose({ ...exponential, firstMs: "5" }).message).toBe(
      `email.retry.firstMs must be an integer from 1 to ${limits.durationMs} (milliseconds), got the string "5".`,
    );
    expect(loose({ ...exponential, attempts: limits.attempts + 1 }).facts.path).toBe("email.retry.attempts");
    expect(loose({}).facts.missing).toEqual(["attempts", "firstMs", "maxMs"]);
    expect(loose({ ...exponential, jitters: "none" }).code).toBe("PH_OPTION_UNKNOWN");
    expect(loose({ ...exponential, jitter: false }).message).toBe(
      'email.retry.jitter must be one of "full", "equal", "none", got false.',
    );
    expect(loose({ ...exponential, jitter: "ful" }).message).toMatch(/Did you mean "full"\?$/);
    expect(refuse({ retry: { kind: "fixed", attempts: 2, delayMs: -0 } }).facts.path).toBe("email.retry.delayMs");
    expect(refuse({ retry: { kind: "none", attempts: 2 } }).facts.path).toBe("email.retry.attempts");
  });

  it("refuses a longest wait that is shorter than the first", () => {
    const error = loose({ ...exponential, maxMs: 999 });
    expect(error.facts.path).toBe("email.retry.maxMs");
    expect(error.message).toBe("email.retry.maxMs (999) must not be smaller than email.retry.firstMs (1000).");
    expect(
      checkPolicy({ ...whole, retry: retry.exponential({ ...exponential, maxMs: 1_000 }) }, "email").retry.attempts,
    ).toBe(8);
  });

  it("fills in what has a default: waits are spread over their upper half, and none is left out", () => {
    const plain = { kind: "exponential", ...exponential };
    expect(checkPolicy({ ...whole, retry: plain }, "email").retry).toEqual({ ...plain, jitter: "equal", immediate: 0 });
    expect(retry.exponential(exponential)).toEqual({ ...plain, jitter: "equal", immediate: 0 });
    expect(retry.fixed({ attempts: 2, delayMs: 5 })).toEqual({ kind: "fixed", attempts: 2, delayMs: 5, immediate: 0 });
  });

  it("refuses as many retries at once as there are attempts, and fewer than none", () => {
    const error = loose({ ...exponential, immediate: 8 });
    expect(error.message).toBe("email.retry.immediate (8) must be smaller than email.retry.attempts (8).");
    expect(loose({ ...exponential, immediate: -1 }).facts.path).toBe("email.retry.immediate");
    expect(refuse({ retry: retry.fixed({ attempts: 1, delayMs: 1, immediate: 1 }) }).facts.path).toBe(
      "email.retry.immediate",
    );
    expect(
      checkPolicy({ ...whole, retry: retry.fixed({ attempts: 2, delayMs: 1, immediate: 1 }) }, "email").retry,
    ).toMatchObject({ immediate: 1 });
  });

  it("counts the attempts of a list, keeps a copy of it, and refuses another count", () => {
    const list = [0, 10, seconds(1)];
    const checked = checkPolicy({ ...whole, retry: retry.delays(list) }, "email").retry;
    list.push(5);
    expect(checked).toEqual({ kind: "delays", delaysMs: [0, 10, 1_000], attempts: 4 });
    if (checked.kind === "delays") expect(Object.isFrozen(checked.delaysMs)).toBe(true);
    const error = refuse({ retry: { kind: "delays", delaysMs: [1, 2], attempts: 2 } });
    expect(error.message).toBe("email.retry.attempts (2) must be one more than the waits in the list (2).");
  });

  it.each([
    [[], /^email\.retry\.delaysMs must be a list of 1 to 999 integers .*, got a list of 0\.$/],
    [Array(1_000).fill(1), /got a list of 1000\.$/],
    ["10, 20", /got the string "10, 20"\.$/],
    [[1, -1], /^email\.retry\.delaysMs\[1\] must be an integer from 0 /],
    [[1, undefined, 3], /^email\.retry\.delaysMs\[1\] must be .*, got undefined\.$/],
    [[Number.NaN], /^email\.retry\.delaysMs\[0\] /],
    [[1.5], /^email\.retry\.delaysMs\[0\] /],
    [[limits.durationMs + 1], /^email\.retry\.delaysMs\[0\] /],
    [[-0], /got -0\.$/],
    [undefined, /lacks the option delaysMs/],
  ])("refuses the waits %o", (delaysMs, says) => {
    expect(refuse({ retry: retry.delays(delaysMs as number[]) }).message).toMatch(says);
  });

  it("takes a function and refuses what is none", () => {
    const delayMs = () => 5;
    expect(checkPolicy({ ...whole, retry: retry.custom({ attempts: 3, delayMs }) }, "email").retry).toEqual({
      kind: "custom",
      attempts: 3,
      delayMs,
    });
    const error = refuse({ retry: { kind: "custom", attempts: 3, delayMs: 5 } });
    expect(error.message).toBe(
      "email.retry.delayMs must be a function (attempt, error) => milliseconds, got the number 5.",
    );
    expect(refuse({ retry: { kind: "custom", delayMs } }).facts.missing).toEqual(["attempts"]);
  });

  it("is refused in every form but none at most once", () => {
    const forms = [
      retry.delays([1]),
      retry.custom({ attempts: 1, delayMs: () => 1 }),
      retry.fixed({ attempts: 1, delayMs: 1 }),
    ];
    for (const form of forms)
      expect(refuse({ idempotency: "at-most-once", retry: form }).facts.path).toBe("email.retry");
  });

  it.each([3, "exponential", null, {}, { kind: "linear" }, { attempts: 3 }, retry.exponential])(
    "refuses %o",
    (value) => {
      expect(refuse({ retry: value }).message).toMatch(/^email\.retry must be retry\.exponential\(\{ … \}\), /);
    },
  );

  it("cannot be given another kind through its options", () => {
    const sly = { attempts: 8, firstMs: 1, maxMs: 2, kind: "none" };
    expect(retry.exponential(sly).kind).toBe("exponential");
  });

  it("takes whatever it is given and leaves the refusal to the policy", () => {
    const build: (options: never) => unknown = retry.exponential;
    for (const options of [undefined, null, 5, "text"]) {
      expect(refuse({ retry: build(options as never) }).code).toMatch(/^PH_OPTION_(MISSING|UNKNOWN)$/);
    }
  });
});

describe("limits of the fleet", () => {
  const rate = { messages: 500, perMs: 1_000 };

  it("are absent where nobody asked for them", () => {
    const policy = checkPolicy(whole, "email");
    for (const name of ["rateLimit", "keyRateLimit", "fleetConcurrency", "keyConcurrency", "backlogLimit"])
      expect(policy).not.toHaveProperty(name);
  });

  it("are completed: a burst is what begins in a fifth of a second, at least one message, and a wait has a bound", () => {
    const limited = { rateLimit: rate, keyRateLimit: { messages: 10, perMs: 60_000 } };
    const backlogLimit = { messages: 10_000, whenFull: "wait" };
    const policy = checkPolicy({ ...whole, ...limited, backlogLimit }, "email");
    expect(policy.rateLimit).toEqual({ ...rate, burst: 100 });
    expect(policy.keyRateLimit).toEqual({ messages: 10, perMs: 60_000, burst: 1 });
    expect(policy.backlogLimit).toEqual({ ...backlogLimit, waitMs: 30_000 });
    for (const part of [policy, policy.rateLimit, policy.backlogLimit]) expect(Object.isFrozen(part)).toBe(true);
    // As it comes back from the registry.
    expect(checkPolicy(JSON.parse(JSON.stringify(policy)), "email")).toEqual(policy);
  });

  it.each([
    ["rateLimit.messages", { rateLimit: { ...rate, messages: 0 } }],
    ["rateLimit.messages", { rateLimit: { ...rate, messages: 0.5 } }],
    ["rateLimit.messages", { rateLimit: { ...rate, messages: Number.POSITIVE_INFINITY } }],
    ["rateLimit.messages", { rateLimit: { ...rate, messages: -1 } }],
    ["rateLimit.perMs", { rateLimit: { ...rate, perMs: limits.rateMs + 1 } }],
    ["rateLimit.perMs", { rateLimit: { ...rate, perMs: Number.NaN } }],
    ["rateLimit.burst", { rateLimit: { ...rate, burst: 501 } }],
    ["rateLimit.burst", { rateLimit: { ...rate, burst: 0 } }],
    ["rateLimit", { rateLimit: { messages: 1_000_000, perMs: 1 } }],
    ["rateLimit", { rateLimit: 500 }],
    ["keyRateLimit.burst", { keyRateLimit: { ...rate, burst: 1_000_000 } }],
    ["fleetConcurrency", { fleetConcurrency: 0 }],
    ["keyConcurrency", { keyConcurrency: limits.concurrency + 1 }],
    ["backlogLimit.messages", { backlogLimit: { messages: 0, whenFull: "reject" } }],
    ["backlogLimit.whenFull", { backlogLimit: { messages: 1, whenFull: "drop" } }],
    ["backlogLimit.waitMs", { backlogLimit: { messages: 1, whenFull: "wait", waitMs: limits.backlogWaitMs + 1 } }],
  ])("refuses %s: %j", (path, change) => {
    const error = refuse(change);
    expect([error.code, error.facts.path]).toEqual(["PH_OPTION_INVALID", `email.${path}`]);
  });

  it("refuses half a limit, with what is missing", () => {
    expect(refuse({ rateLimit: { messages: 1 } }).facts.missing).toEqual(["perMs"]);
    expect(refuse({ backlogLimit: { messages: 1 } }).facts.missing).toEqual(["whenFull"]);
  });

  it.each([
    ["keyConcurrency", 2, /one of a key runs at a time there anyway/],
    ["keyRateLimit", rate, /put aside, past its order.*rateLimit/],
  ])("refuses %s where order is kept per key, with the reason", (name, value, why) => {
    const error = refuse({ ordering: { per: "key", whenDead: "park" }, [name]: value });
    expect([error.code, error.facts.path]).toEqual(["PH_OPTION_INVALID", `email.${name}`]);
    expect(error.message).toMatch(why);
  });

  it("takes the limits of the whole fleet where order is kept per key", () => {
    const ordering = { per: "key", whenDead: "skip" };
    const policy = checkPolicy({ ...whole, ordering, rateLimit: rate, fleetConcurrency: 2 }, "email");
    expect(policy).toMatchObject({ ordering, rateLimit: { ...rate, burst: 100 }, fleetConcurrency: 2 });
  });

  it("refuses a full topic, because a fact cannot be refused", () => {
    const backlogLimit = { messages: 1, whenFull: "reject" };
    const error = thrown(() => checkSubscription({ topic: "orders", ...whole, backlogLimit }, "ledger"));
    expect([error.code, error.facts.path]).toEqual(["PH_OPTION_INVALID", "ledger.backlogLimit"]);
    expect(error.message).toMatch(/an event has happened and cannot be refused/);
  });

  it("are read back in words", () => {
    const limited = {
      rateLimit: rate,
      keyRateLimit: { messages: 1, perMs: 2_000 },
      fleetConcurrency: 20,
      keyConcurrency: 1,
    };
    const reject = checkPolicy(
      { ...whole, ...limited, backlogLimit: { messages: 10_000, whenFull: "reject" } },
      "email",
    );
    expect(describePolicy(reject).split("; ").slice(4, 9)).toEqual([
      "up to 20 at once in the whole fleet",
      "up to 1 at once for each key in the whole fleet",
      "no faster in the whole fleet than 500 in 1 s, up to 100 at once",
      "no faster for each key in the whole fleet than 1 in 2 s, one at a time",
      "full at 10,000 waiting messages, and then send rejects",
    ]);
    const waits = checkPolicy({ ...whole, backlogLimit: { messages: 1, whenFull: "wait" } }, "email");
    expect(describePolicy(waits)).toContain("full at 1 waiting message, and then send waits for up to 30 s");
  });
});

describe("the circuit breaker", () => {
  const circuitBreaker = { failures: 5, windowMs: minutes(1), openMs: seconds(30) };

  it("is taken as it is, frozen, and left out where it is not given", () => {
    const policy = checkPolicy({ ...whole, circuitBreaker }, "email");
    expect(policy.circuitBreaker).toEqual(circuitBreaker);
    expect(Object.isFrozen(policy.circuitBreaker)).toBe(true);
    expect(checkPolicy(whole, "email")).not.toHaveProperty("circuitBreaker");
  });

  it.each([
    [{}, ["failures", "windowMs", "openMs"]],
    [{ ...circuitBreaker, openMs: undefined }, ["openMs"]],
  ])("decides about all of it: %o lacks something", (value, missing) => {
    expect(refuse({ circuitBreaker: value }).facts).toEqual({ path: "email.circuitBreaker", missing });
  });

  it.each([
    ["failures", 0],
    ["failures", limits.circuitFailures + 1],
    ["windowMs", Number.POSITIVE_INFINITY],
    ["openMs", -1],
    ["openMs", limits.durationMs + 1],
  ])("refuses %s: %j", (name, value) => {
    const error = refuse({ circuitBreaker: { ...circuitBreaker, [name]: value } });
    expect([error.code, error.facts.path]).toEqual(["PH_OPTION_INVALID", `email.circuitBreaker.${name}`]);
  });
});

describe("a policy in the registry", () => {
  it("says that a function is one, and can be read and described without it", () => {
    const policy = checkPolicy({ ...whole, retry: retry.custom({ attempts: 3, delayMs: () => 1 }) }, "email");
    const stored = JSON.parse(JSON.stringify(storedPolicy(policy)));
    expect(stored.retry).toEqual({ kind: "custom", attempts: 3, delayMs: "function" });
    expect(describePolicy(readStoredPolicy(stored, "email"))).toBe(describePolicy(policy));
  });

  it("is the same after it was stored, whatever it decides", () => {
    const forms = [
      retry.none,
      retry.delays([0, 5]),
      retry.exponential({ attempts: 3, firstMs: 1, maxMs: 2, jitter: "full", immediate: 1 }),
    ];
    for (const form of forms) {
      const circuitBreaker = { failures: 5, windowMs: 1, openMs: 1 };
      const policy = checkPolicy({ ...whole, retry: form, circuitBreaker }, "email");
      expect(readStoredPolicy(JSON.parse(JSON.stringify(storedPolicy(policy))), "email")).toEqual(policy);
    }
    expect(thrown(() => readStoredPolicy(null, "email")).code).toBe("PH_OPTION_INVALID");
  });
});

describe("checkSubscription", () => {
  it("splits the topic from the policy", () => {
    const { topic, policy } = checkSubscription({ topic: "orders", ...whole }, "confirmations");
    expect(topic).toBe("orders");
    expect(policy).toEqual(checkPolicy(whole, "confirmations"));
    expect(Object.isFrozen(policy)).toBe(true);
  });

  it("refuses a missing topic beside the missing decisions, and a hostile one", () => {
    expect(thrown(() => checkSubscription({}, "confirmations")).facts.missing).toEqual(["topic", ...decisions]);
    expect(thrown(() => checkSubscription({ ...whole, topic: "x'; --" }, "c")).code).toBe("PH_NAME_INVALID");
  });
});

describe("the presets", () => {
  it.each(Object.entries(policies))("%s passes the check as it is and says everything itself", (name, preset) => {
    expect(checkPolicy(preset, name)).toEqual(preset);
    for (const part of [preset, preset.retry, preset.deadLetter, preset.alerts])
      expect(Object.isFrozen(part)).toBe(true);
  });

  it("keep the idempotency they are named for", () => {
    expect(Object.fromEntries(Object.entries(policies).map(([name, { idempotency }]) => [name, idempotency]))).toEqual({
      email: "handler",
      webhook: "handler",
      rollUp: "transaction",
      notify: "handler",
      payment: "handler",
      relay: "handler",
      atMostOnce: "at-most-once",
    });
  });
});
