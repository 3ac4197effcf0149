import { expect, test } from "vitest";
import { reasonOf } from "../../src/core/clean.js";
import { clause } from "../../src/core/words.js";

test.each([
  ["The queue is full.", "The queue is full"],
  ["The queue is full. \n", "The queue is full"],
  ["It waits ...", "It waits ..."],
  ["It waits…", "It waits…"],
  ["version 1.2", "version 1.2"],
  [".", ""],
])("a sentence inside another has no full stop at its end: %j", (sentence, part) => {
  expect(clause(sentence)).toBe(part);
});

test("a reason is the part of a sentence, with its code and whatever was thrown", () => {
  const refused = Object.assign(new Error("The connection was refused."), { code: "ECONNREFUSED" });
  expect(reasonOf(refused)).toBe("The connection was refused (ECONNREFUSED)");
  expect(reasonOf(new Error("The queue is gone."))).toBe("The queue is gone");
  expect(reasonOf(new AggregateError([refused, new Error("Nobody is there.")], ""))).toBe(
    "The connection was refused (ECONNREFUSED); Nobody is there",
  );
  expect(reasonOf(".")).toBe("it does not say why");
});
