import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { limits } from "../../src/core/limits.js";
import { retryAfterMs } from "../../src/core/retry-after.js";
import { RetryLater } from "../../src/policies/verdicts.js";

/** The instant of the examples in RFC 9110, 5.6.7. */
const instant = Date.UTC(1994, 10, 6, 8, 49, 37);
const answer = (headers: Readonly<Record<string, string>>, status?: number) => ({
  headers: { get: (name: string) => headers[name] ?? null },
  ...(status === undefined ? {} : { status }),
});

describe("retryAfterMs", () => {
  it("reads seconds", () => {
    expect(["0", "120", " 5 ", "007"].map((text) => retryAfterMs(text))).toEqual([0, 120_000, 5_000, 7_000]);
  });

  it.each(["Sun, 06 Nov 1994 08:49:37 GMT", "Sunday, 06-Nov-94 08:49:37 GMT", "Sun Nov  6 08:49:37 1994"])(
    "reads the date %s",
    (text) => {
      expect(retryAfterMs(text, instant - 90_000)).toBe(90_000);
      expect(retryAfterMs(text, instant + 1)).toBe(0);
    },
  );

  it("counts a date from the clock here where nothing else is said", () => {
    const inTen = new Date(Date.now() + 600_000).toUTCString();
    expect(Math.abs((retryAfterMs(inTen) ?? 0) - 600_000)).toBeLessThan(60_000);
  });

  it.each([
    null,
    undefined,
    "",
    "soon",
    "-1",
    "+5",
    "1.5",
    "1e3",
    "0x10",
    "5 seconds",
    "5,6",
    "Infinity",
    "NaN",
    "2030-01-01T00:00:00Z",
    "Sun, 06 Nov 1994 08:49:37 CET",
    "Sun, 31 Feb 2030 08:49:37 GMT",
    "Sun, 06 Nox 1994 08:49:37 GMT",
    "Sun, 06 Nov 1994 25:49:37 GMT",
    "Sun, 06 Nov 1994 08:61:37 GMT",
    "9".repeat(101),
  ])("takes %o for no answer", (text) => {
    expect(retryAfterMs(text)).toBeUndefined();
  });

  it("is never longer than the limit and never less than nothing, whatever it is given", () => {
    expect(retryAfterMs("9".repeat(100))).toBe(limits.retryAfterMostMs);
    expect(retryAfterMs("Fri, 31 Dec 9999 23:59:59 GMT")).toBe(limits.retryAfterMostMs);
    fc.assert(
      fc.property(
        fc.oneof(
          fc.string(),
          fc.stringMatching(/^\d{1,30}$/),
          fc.date().map((date) => date.toUTCString()),
        ),
        (text) => {
          const waitMs = retryAfterMs(text) ?? 0;
          expect(waitMs >= 0 && waitMs <= limits.retryAfterMostMs).toBe(true);
        },
      ),
    );
  });

  it("takes a leap second for the moment after it", () => {
    expect(retryAfterMs("Sat, 31 Dec 2016 23:59:60 GMT", Date.UTC(2016, 11, 31, 23, 59, 59))).toBe(1_000);
  });

  it("takes the two digits of a year for the one that is not more than 50 years ahead", () => {
    expect(retryAfterMs("Sunday, 06-Nov-94 08:49:37 GMT", instant)).toBe(0);
    const next = String((new Date().getUTCFullYear() + 1) % 100).padStart(2, "0");
    expect(retryAfterMs(`Sunday, 06-Nov-${next} 08:49:37 GMT`)).toBe(limits.retryAfterMostMs);
  });
});

describe("RetryLater.fromResponse", () => {
  it("waits as the answer says, and says of whom that is", () => {
    const later = RetryLater.fromResponse(answer({ "retry-after": "120" }, 429), { cause: "limit" });
    expect(later).toMatchObject({
      delayMs: 120_000,
      message: "the answer 429 asks to come back later",
      cause: "limit",
    });
    expect(RetryLater.fromResponse(new Response(null, { status: 503, headers: { "Retry-After": "7" } })).delayMs).toBe(
      7_000,
    );
  });

  it("compares a date with the clock of the answer, so that a wrong clock here does no harm", () => {
    const date = new Date(Date.now() - 86_400_000).toUTCString();
    const until = new Date(Date.parse(date) + 60_000).toUTCString();
    expect(RetryLater.fromResponse(answer({ date, "retry-after": until })).delayMs).toBe(60_000);
  });

  it("waits a minute, or what it is told, where the answer says nothing usable", () => {
    expect(RetryLater.fromResponse(answer({})).delayMs).toBe(60_000);
    expect(RetryLater.fromResponse(answer({ "retry-after": "soon" }), { otherwiseMs: 5_000 }).delayMs).toBe(5_000);
    const broken = {
      headers: {
        get: () => {
          throw new Error("no");
        },
      },
    };
    expect(RetryLater.fromResponse(broken).delayMs).toBe(60_000);
  });

  it("never asks again in less than the limit, and never waits for longer than a day", () => {
    expect(RetryLater.fromResponse(answer({ "retry-after": "0" })).delayMs).toBe(limits.retryAfterLeastMs);
    expect(RetryLater.fromResponse(answer({ "retry-after": "99999999999" })).delayMs).toBe(limits.retryAfterMostMs);
  });
});
