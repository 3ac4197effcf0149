import { describe, expect, test } from "vitest";
import { type Bar, figure, median, percentile, worst } from "../../bench/measure.js";

const rounds = (...values: readonly number[]) => values.map((value) => ({ value, seconds: 3 }));

describe("a figure", () => {
  const measured = { name: "x", unit: "messages/s", bar: { least: 0.5 } };

  test("is the median of its rounds, beside the smallest and largest, and tells for how long the product was measured", () => {
    const made = figure({ ...measured, rounds: rounds(10, 50, 30), limits: rounds(100, 100, 100) });
    expect(made).toEqual({
      name: "x",
      value: 30,
      unit: "messages/s",
      limit: 100,
      ratio: 0.3,
      min: 10,
      max: 50,
      n: 3,
      seconds: 9,
      bar: "≥ 0.5 of the limit",
      holds: false,
    });
  });

  test("is compared with the limit round by round, so that a slow minute of the machine hits both", () => {
    const made = figure({ ...measured, rounds: rounds(60, 30, 6), limits: rounds(100, 50, 10) });
    expect(made.ratio).toBeCloseTo(0.6);
  });

  test("is the worst of its rounds where the row says so", () => {
    const made = figure({ ...measured, rounds: rounds(1, 9, 2), bar: { atMost: 8 }, of: worst });
    expect([made.value, made.limit, made.ratio, made.holds]).toEqual([9, null, null, false]);
  });
});

test.each<[Bar, number, boolean]>([
  [{ least: 0.5 }, 50, true],
  [{ least: 0.5 }, 49, false],
  [{ most: 2 }, 200, true],
  [{ most: 2 }, 201, false],
  [{ atMost: 25 }, 25, true],
  [{ atMost: 25 }, 26, false],
])("a bar of %j is met by %d against a limit of 100: %s", (bar, value, holds) => {
  const made = figure({ name: "x", unit: "ms", rounds: rounds(value), limits: rounds(100), bar });
  expect(made.holds).toBe(holds);
});

test("nothing measured holds no bar", () => {
  for (const bar of [{ least: 0.5 }, { most: 2 }, { atMost: 25 }]) {
    expect(figure({ name: "x", unit: "ms", rounds: [], limits: [], bar }).holds).toBe(false);
  }
});

test("the median of an even number of values lies between the two in the middle, and percentiles are values that occurred", () => {
  const upToHundred = Array.from({ length: 100 }, (_, i) => 100 - i);
  expect([median([4, 1, 3, 2]), median([3, 1, 2])]).toEqual([2.5, 2]);
  expect([percentile(upToHundred, 0.5), percentile(upToHundred, 0.99), percentile([7], 0.99)]).toEqual([51, 100, 7]);
});
