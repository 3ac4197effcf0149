import { expect, test } from "vitest";
import { type Io, oneLine, paint, table } from "../../src/cli/io.js";
import { sentenceOf } from "../../src/cli/sentences.js";
import { about, clock, errorInWords, grouped, ordinal, plural, workersHave } from "../../src/cli/words.js";
import { countedUpTo } from "../../src/store/why.js";

const io = (terminal: boolean): Io => ({
  out: () => undefined,
  err: () => undefined,
  terminal,
  watched: false,
  answers: false,
  ask: async () => "",
});

test("numbers are grouped, counted and ordered as English does", () => {
  expect([0, 999, 1_204, 1_000_000].map(grouped)).toEqual(["0", "999", "1,204", "1,000,000"]);
  expect([1, 2, 3, 10, 11, 12, 13, 21, 22, 23, 111, 1_001].map(ordinal)).toEqual([
    "first",
    "second",
    "third",
    "tenth",
    "11th",
    "12th",
    "13th",
    "21st",
    "22nd",
    "23rd",
    "111th",
    "1,001st",
  ]);
  expect([plural(1, "alert"), plural(2, "alert"), workersHave(1), workersHave(2), workersHave(40)]).toEqual([
    "1 alert",
    "2 alerts",
    "one worker has",
    "two workers have",
    "40 workers have",
  ]);
});

test("an estimate has one unit, and says less than a second where it is", () => {
  expect([0.2, 1, 40, 99, 120, 7_200, 400_000].map(about)).toEqual([
    "less than a second",
    "about 1 s",
    "about 40 s",
    "about 99 s",
    "about 2 min",
    "about 2 h",
    "about 5 days",
  ]);
});

test("a time of another day has its date", () => {
  const at = new Date(2025, 10, 3, 14, 5, 9);
  expect(clock(at.toISOString(), new Date(2025, 10, 3, 23, 0).toISOString())).toBe("14:05:09");
  expect(clock(at.toISOString(), new Date(2025, 10, 4, 1, 0).toISOString())).toBe("2025-11-03 14:05:09");
});

test("foreign text comes on one line and without what a terminal obeys, and is cut", () => {
  expect(oneLine("a\n\u001b[31mb\u0007\u009b2J\u202ec")).toBe("a [31mb 2J c");
  expect(oneLine("x".repeat(300), 10)).toBe("xxxxxxxxx…");
  expect(errorInWords({ name: "Error\u001b", message: "", code: null })).toBe("Error");
});

test("what is counted up to a bound is said as more than the bound, and without an estimate", () => {
  const receiver = {
    subscription: "email",
    state: "queued",
    before: countedUpTo + 1,
    perSecond: 10,
    attended: { workers: 1, versions: [{ version: 1, workers: 1 }], lastSign: null },
  } as const;
  const message = {
    kind: "command",
    contract: "SendEmail",
    version: 1,
    channel: "email",
    receivers: [receiver],
  } as const;
  const facts = { ...message, message: "1-00c0ffee00c0ffee", publishedAt: "", now: "" };
  expect(sentenceOf(facts, receiver)).toBe("waits for its turn in 'email': more than 100,000 before it");
});

test("tables are aligned, and painted only where somebody sees them", () => {
  const rows = [
    [{ text: "a", colour: "red" }, "1"],
    ["bcd", "1,204"],
  ] as const;
  const columns = [{ title: "Name" }, { title: "N", right: true }] as const;
  expect(table(io(false), columns, rows)).toBe("Name      N\na         1\nbcd   1,204\n");
  expect(paint(io(true), "red", "x")).toBe("\u001b[31mx\u001b[39m");
  expect(table(io(true), columns, rows)).toContain("\u001b[31ma   \u001b[39m");
});
