/** What the log shows where nobody has given a logger. */
import { afterEach, expect, test, vi } from "vitest";
import { consoleLogger, recovered } from "../../src/core/logger.js";

afterEach(() => void vi.restoreAllMocks());

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
