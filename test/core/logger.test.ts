import { afterEach, expect, test, vi } from "vitest";
import { DatabaseUnavailableError } from "../../src/core/errors.js";
import { consoleLogger, recovered } from "../../src/core/logger.js";

afterEach(() => vi.restoreAllMocks());

function said(method: "warn" | "error", facts?: object): string {
  const spy = vi.spyOn(console, method).mockImplementation(() => undefined);
  consoleLogger[method]("it failed", facts);
  return spy.mock.lastCall?.join(" ") ?? "";
}

// A database that was away for a minute left fifty lines for each attempt: two stacks, and every field of the driver's error.
test("an error of the surroundings is one line on the console, with its code", () => {
  const cause = Object.assign(new Error("the database system is starting up"), { schema: undefined });
  const reason = new DatabaseUnavailableError("PH_DATABASE_AWAY", "The database cannot be reached.", {}, cause);
  for (const method of ["warn", "error"] as const)
    expect(said(method, { reason, inMs: 800 })).toBe(
      "posthorn: it failed { reason: 'The database cannot be reached. (PH_DATABASE_AWAY)', inMs: 800 }",
    );
});

test("an error of a handler keeps its stack, and what it was caused by", () => {
  const shown = said("error", { error: new TypeError("no such field", { cause: new Error("deeper") }) });
  expect(shown).toContain("TypeError: no such field");
  expect(shown).toContain("logger.test.ts:");
  expect(shown).toContain("[cause]: Error: deeper");
});

// As a fact among others its lines ran together.
test("the stack of what a handler threw, as it is kept, stands below the facts in lines", () => {
  const error = { name: "Error", message: "no such shelf", stack: "Error: no such shelf\n    at shelf.ts:1:1" };
  expect(said("warn", { reader: "stock", error })).toBe(
    "posthorn: it failed { reader: 'stock' }\nError: no such shelf\n    at shelf.ts:1:1",
  );
});

test("without facts nothing stands behind the message", () => {
  expect(said("warn").trimEnd()).toBe("posthorn: it failed");
});

// A console that had shown an outage never showed its end.
test("the console is told of what goes wrong and of what is over again, and of nothing else; all of it on stderr", () => {
  const told: unknown[] = [];
  vi.spyOn(console, "warn").mockImplementation((text) => void told.push(text));
  vi.spyOn(console, "info").mockImplementation((text) => void told.push(["stdout", text]));
  consoleLogger.info("a segment of the log was truncated", { segment: 1 });
  consoleLogger.warn("the broker is away");
  consoleLogger.info("it is back", { awayMs: 5, ...recovered });
  expect(told).toEqual(["posthorn: the broker is away", "posthorn: it is back"]);
});
