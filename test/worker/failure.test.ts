import fc from "fast-check";
import { expect, test } from "vitest";
import { limits } from "../../src/core/limits.js";
import { checkPolicy } from "../../src/policies/policy.js";
import { policies } from "../../src/policies/presets.js";
import type { Delivery } from "../../src/store/work.js";
import { afterFailure, failureOf } from "../../src/worker/failure.js";

const delivery = (attempts: number): Delivery => ({
  subscription: 1,
  id: "1",
  nonce: "1",
  contract: 1,
  key: null,
  payload: null,
  headers: null,
  publishedAt: 0,
  delivery: attempts + 1,
  attempts,
  crashes: 2,
  hold: { from: "deferred", deferred: "1", token: "1" },
});

test("whatever a handler throws becomes a failure that the database can store", () => {
  const hostile = [
    undefined,
    null,
    Symbol("s"),
    10n,
    () => 1,
    new Proxy(
      {},
      {
        get: () => {
          throw new Error("no");
        },
        ownKeys: () => {
          throw new Error("no");
        },
      },
    ),
    Object.defineProperty(new Error("x"), "message", {
      get: () => {
        throw new Error("no");
      },
    }),
    Object.assign(new Error("\u0000half \ud800"), { code: 7 }),
    Object.create(null),
  ];
  fc.assert(
    fc.property(
      fc.oneof(
        fc.constantFrom(...hostile),
        fc.anything(),
        fc.string().map((text) => new Error(text)),
      ),
      (thrown) => {
        const failure = failureOf(thrown);
        const json = JSON.stringify(failure);
        expect(json).not.toMatch(/\\u0000|\\ud[89a-f]/);
        expect(failure.name).not.toBe("");
        expect(failure.message.length).toBeLessThanOrEqual(limits.errorBytes + 100);
      },
    ),
  );
});

test("an error keeps its name, message and code", () => {
  const error = Object.assign(new TypeError("no such host"), { code: "ENOTFOUND" });
  expect(failureOf(error)).toMatchObject({ name: "TypeError", message: "no such host", code: "ENOTFOUND" });
});

test("a failed run is tried again until the attempts of the policy are spent, then it is a dead letter that says why", () => {
  const policy = checkPolicy({ ...policies.email, retry: { kind: "fixed", attempts: 3, delayMs: 50 } }, "email");
  expect(afterFailure(delivery(0), policy, undefined).next).toEqual({
    defer: { delayMs: 50, attempts: 1, crashes: 2 },
  });
  expect(afterFailure(delivery(1), policy, undefined).next).toEqual({
    defer: { delayMs: 50, attempts: 2, crashes: 2 },
  });
  expect(afterFailure(delivery(2), policy, undefined).next).toEqual({
    dead: { reason: "failed 3 times", keepMs: policy.deadLetter.keepMs, attempts: 3, crashes: 2 },
  });
});

test("without retries the first failure is a dead letter", () => {
  const policy = checkPolicy(policies.atMostOnce, "once");
  expect(afterFailure(delivery(0), policy, undefined).next).toMatchObject({
    dead: { reason: "failed and is not retried", attempts: 1 },
  });
});
