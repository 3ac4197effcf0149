/** What is kept of a failure that has nobody's code on its stack. */
import { policies, Reject } from "posthorn";
import { expect, test } from "vitest";
import { composed } from "../../src/core/composed.js";
import { checkPolicy } from "../../src/policies/policy.js";
import { failureOf, tooLong } from "../../src/worker/failure.js";
import { withoutBreaker } from "../../src/worker/verdict.js";

const checked = checkPolicy(policies.email, "email");

test("an error that the library makes is kept with its name, code and words alone, and one that a handler threw with its stack", () => {
  for (const error of [
    tooLong("SendEmail", checked),
    withoutBreaker("email", new Error("cause")),
    composed(new Reject("no")),
  ]) {
    const { name, message } = error;
    const code = "code" in error ? { code: error.code } : {};
    expect(failureOf(error)).toEqual({ name, message, ...code });
  }
  expect(failureOf(new Error("theirs")).stack).toContain("composed.test");
});
