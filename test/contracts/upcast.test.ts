/** Steps between the versions of a contract: what is refused when it is defined, and what becomes of a payload. */
import { command, event, policies, posthorn, type } from "posthorn";
import { expect, test } from "vitest";
import { receive } from "../../src/contracts/check.js";
import { readableVersions } from "../../src/contracts/upcast.js";
import { compareVersions } from "../../src/core/library.js";
import { thrown } from "../core/thrown.js";

/** As JavaScript may call it. */
const define = (version: unknown, upcast: unknown) =>
  Reflect.apply(command, undefined, ["SendEmail", { queue: "email", schema: type<unknown>(), version, upcast }]);
const step = (value: unknown): unknown => value;

test.each([
  ["a step that is missing in the middle", 4, { 1: step, 3: step }, /no step from version 2 to 3/],
  ["the last step missing", 3, { 1: step }, /no step from version 2 to 3/],
  ["a step from the newest version", 2, { 1: step, 2: step }, /a step from version 2, and SendEmail has version 2/],
  [
    "steps of a contract without a version",
    undefined,
    { 1: step },
    /a step from version 1, and SendEmail has version 1/,
  ],
  ["a step that is no function", 2, { 1: "x" }, /SendEmail\.upcast\.1 must be an object with a function/],
  ["a version that is no number", 2, { one: step }, /SendEmail\.upcast\.one must be/],
  ["a version of zero", 2, { 0: step, 1: step }, /SendEmail\.upcast\.0 must be/],
  ["a list", 2, [step], /SendEmail\.upcast must be/],
  ["null", 2, null, /SendEmail\.upcast must be/],
])("%s is refused when the contract is defined", (_what, version, upcast, message) => {
  expect(thrown(() => define(version, upcast))).toMatchObject({
    code: "PH_OPTION_INVALID",
    message: expect.stringMatching(message),
  });
});

test("a contract reads the versions that it has steps from, and its own; without steps or with none its own alone", () => {
  expect(readableVersions(define(4, { 2: step, 3: step }))).toEqual([2, 3, 4]);
  expect(readableVersions(define(3, undefined))).toEqual([3]);
  expect(readableVersions(define(3, {}))).toEqual([3]);
  const Fact = event("EmailSent", {
    topic: "mails",
    schema: type<{ n: number }>(),
    version: 2,
    upcast: { 1: (n: number) => ({ n }) },
  });
  expect(readableVersions(Fact)).toEqual([1, 2]);
});

test("the steps run in order from the version of the message, before the schema, and none for its own version", () => {
  const ran: number[] = [];
  const add = (n: number) => (payload: unknown) => {
    ran.push(n);
    return `${payload}${n}`;
  };
  const contract = define(4, { 3: add(3), 1: add(1), 2: add(2) });
  expect(receive(contract, "x", 2)).toEqual({ ok: true, payload: "x23" });
  expect(receive(contract, "x", 1)).toEqual({ ok: true, payload: "x123" });
  expect(receive(contract, "x")).toEqual({ ok: true, payload: "x" });
  expect(ran).toEqual([2, 3, 1, 2, 3]);
});

test("a step that throws anything, or returns a promise, makes the message invalid with the step in the issue", () => {
  const hostile = {
    toString: () => {
      throw new Error("again");
    },
  };
  for (const [from, words] of [
    [
      () => {
        throw new Error("cannot");
      },
      "the step from version 1 to 2 of SendEmail threw: cannot",
    ],
    [
      () => {
        throw hostile;
      },
      "the step from version 1 to 2 of SendEmail threw: ",
    ],
    [
      async () => Promise.reject(new Error("late")),
      "the step from version 1 to 2 of SendEmail returned a promise; steps are synchronous",
    ],
  ] as const) {
    const received = receive(define(2, { 1: from }), {}, 1);
    expect(received).toMatchObject({ ok: false, issues: [{ message: expect.stringContaining(words) }] });
  }
});

test("one handler reads each version: a second contract of the same version, read or own, is refused", async () => {
  const post = posthorn({ service: "versions", database: "postgres://nobody@127.0.0.1:1/nothing" });
  const queue = post.queue("email", policies.email);
  const [one, two, both] = [define(1, undefined), define(2, undefined), define(3, { 2: step })];
  queue.handle(one, () => undefined);
  queue.handle(both, () => undefined);
  expect(thrown(() => queue.handle(two, () => undefined))).toMatchObject({
    code: "PH_DECLARED_TWICE",
    message: expect.stringContaining("a handler for SendEmail version 2 already"),
  });
  await post.stop();
});

test("versions of the library compare by their numbers", () => {
  for (const [a, b] of [
    ["0.1.0", "0.1.1"],
    ["0.9.0", "0.10.0"],
    ["1.2", "1.2.1"],
    ["9.0.0", "10.0.0-next.1"],
  ] as const) {
    expect(compareVersions(a, b)).toBeLessThan(0);
    expect(compareVersions(b, a)).toBeGreaterThan(0);
  }
  expect(compareVersions("1.0.0", "1.0.0-next.1")).toBe(0);
});
