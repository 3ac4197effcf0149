import { expect, test } from "vitest";
import { Permits } from "../../src/worker/permits.js";

test("a reader counts as limited by its own policy, or once the database has said that a newer one limits it", () => {
  expect(new Permits({ fleetConcurrency: 1 }).limited).toBe(true);
  const permits = new Permits({});
  expect([permits.limited, permits.told("log", {}, 0), permits.limited]).toEqual([false, false, false]);
  expect([permits.told("log", { waitMs: 60_000 }, 0), permits.limited]).toEqual([true, true]);
  expect(permits.waitMs).toBeGreaterThan(0);
  permits.freed();
  expect([permits.waitMs, permits.limited]).toEqual([0, true]);
});

// Every worker of a full fleet asked twenty times a second, for as long as it was full.
test("while the fleet stays full a reader asks less and less often; a message that comes, and a run that ends here, begin it anew", () => {
  const permits = new Permits({ fleetConcurrency: 1 }, () => 0);
  const waits = (came: number): number => {
    permits.told("log", { waitMs: 50 }, came);
    return permits.waitMs;
  };
  expect([0, 0, 0, 0, 0, 0].map(waits)).toEqual([50, 100, 200, 400, 500, 500]);
  expect([1, 0, 0].map(waits)).toEqual([50, 50, 100]);
  permits.freed();
  expect([permits.waitMs, waits(0)]).toEqual([0, 50]);
  permits.told("deferred", {}, 0);
  expect(waits(0)).toBe(50);
});

test("a time that a rate tells is kept, however often it is told, and one that is longer is not made shorter", () => {
  const rated = new Permits({ fleetConcurrency: 1, rateLimit: { messages: 1, perMs: 1_000, burst: 1 } }, () => 0);
  const full = new Permits({ fleetConcurrency: 1 }, () => 0);
  for (let n = 0; n < 5; n += 1) {
    rated.told("log", { waitMs: 50 }, 0);
    full.told("log", { waitMs: 900 }, 0);
    expect([rated.waitMs, full.waitMs]).toEqual([50, 900]);
  }
});
