import { expect, test } from "vitest";
import { Permits } from "../../src/worker/permits.js";

test("a reader counts as limited by its own policy, or once the database has said that a newer one limits it", () => {
  expect(new Permits({ fleetConcurrency: 1 }).limited).toBe(true);
  const permits = new Permits({});
  expect([permits.limited, permits.told("log", {}), permits.limited]).toEqual([false, false, false]);
  expect([permits.told("log", { waitMs: 60_000 }), permits.limited]).toEqual([true, true]);
  expect(permits.waitMs).toBeGreaterThan(0);
  permits.freed();
  expect([permits.waitMs, permits.limited]).toEqual([0, true]);
});
