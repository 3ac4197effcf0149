import fc from "fast-check";
import { expect, test } from "vitest";
import { checkCron, checkTimeZone, Times } from "../../src/schedules/times.js";
import { thrown } from "../core/thrown.js";
import { spawnFixture } from "../support/processes.js";

const iso = (times: readonly number[]): readonly string[] => times.map((at) => new Date(at).toISOString().slice(0, 19));
const following = (cron: string, zone: string, after: string, count: number): readonly string[] =>
  iso(new Times(cron, zone).following(Date.parse(after), count));

test("a time of day that does not exist comes at the first moment after the gap, on the same day, once", () => {
  // Berlin: 02:00 to 03:00 is missing on 29 March 2026; New York: 02:00 to 03:00 on 8 March; Lord Howe: 02:00 to 02:30 on 4 October.
  expect(following("30 2 * * *", "Europe/Berlin", "2026-03-27T12:00:00Z", 3)).toEqual([
    "2026-03-28T01:30:00",
    "2026-03-29T01:00:00",
    "2026-03-30T00:30:00",
  ]);
  expect(following("30 2 * * *", "America/New_York", "2026-03-06T12:00:00Z", 3)).toEqual([
    "2026-03-07T07:30:00",
    "2026-03-08T07:00:00",
    "2026-03-09T06:30:00",
  ]);
  expect(following("15 2 * * *", "Australia/Lord_Howe", "2026-10-02T12:00:00Z", 3)).toEqual([
    "2026-10-02T15:45:00",
    "2026-10-03T15:30:00",
    "2026-10-04T15:15:00",
  ]);
});

test("two times of day in one gap meet at its end and are one time", () => {
  expect(following("0,30 2 * * *", "Europe/Berlin", "2026-03-28T12:00:00Z", 3)).toEqual([
    "2026-03-29T01:00:00",
    "2026-03-30T00:00:00",
    "2026-03-30T00:30:00",
  ]);
});

test("a time of day that exists twice comes once, the first time", () => {
  // Berlin: 02:00 to 03:00 twice on 25 October 2026; New York: 01:00 to 02:00 on 1 November; Lord Howe: 01:30 to 02:00 on 5 April.
  expect(following("30 2 * * *", "Europe/Berlin", "2026-10-24T12:00:00Z", 2)).toEqual([
    "2026-10-25T00:30:00",
    "2026-10-26T01:30:00",
  ]);
  expect(following("30 1 * * *", "America/New_York", "2026-10-31T12:00:00Z", 2)).toEqual([
    "2026-11-01T05:30:00",
    "2026-11-02T06:30:00",
  ]);
  expect(following("45 1 * * *", "Australia/Lord_Howe", "2026-04-04T00:00:00Z", 2)).toEqual([
    "2026-04-04T14:45:00",
    "2026-04-05T15:15:00",
  ]);
  expect(following("0,30 2 * * *", "Europe/Berlin", "2026-10-24T12:00:00Z", 3)).toEqual([
    "2026-10-25T00:00:00",
    "2026-10-25T00:30:00",
    "2026-10-26T01:00:00",
  ]);
});

test("between the two passes of a repeated hour its time of day does not come again", () => {
  // 02:45, the first time that the hour passes; the second 02:30 is to come.
  expect(following("30 2 * * *", "Europe/Berlin", "2026-10-25T00:45:00Z", 1)).toEqual(["2026-10-26T01:30:00"]);
  expect(iso(new Times("30 2 * * *", "Europe/Berlin").newest(Date.parse("2026-10-25T01:45:00Z"), 1))).toEqual([
    "2026-10-25T00:30:00",
  ]);
});

test("an interval goes on evenly through both changes", () => {
  const changes = [
    ["Europe/Berlin", "2026-03-29T00:00:00Z"],
    ["Europe/Berlin", "2026-10-24T23:00:00Z"],
    ["America/New_York", "2026-03-08T06:00:00Z"],
    ["America/New_York", "2026-11-01T04:00:00Z"],
    ["Australia/Lord_Howe", "2026-10-03T14:00:00Z"],
    ["Australia/Lord_Howe", "2026-04-04T14:00:00Z"],
  ] as const;
  for (const [zone, after] of changes) {
    const times = new Times("*/10 * * * *", zone).following(Date.parse(after), 24);
    const gaps = new Set(times.slice(1).map((at, i) => at - (times[i] ?? 0)));
    expect([...gaps], `${zone} ${after}`).toEqual([600_000]);
  }
});

test("the newest times up to a moment are those that were to come, whatever the line, the zone and the season", () => {
  const lines = [
    "30 2 * * *",
    "0,30 1-3 * * *",
    "*/20 * * * *",
    "15 2 * * SUN",
    "0 0 29 2 *",
    "0 12 L * *",
    "7 */3 * * *",
  ];
  const zones = [
    "Europe/Berlin",
    "America/New_York",
    "Australia/Lord_Howe",
    "America/St_Johns",
    "Africa/Casablanca",
    "UTC",
  ];
  const from = Date.parse("2024-01-01T00:00:00Z");
  const to = Date.parse("2029-01-01T00:00:00Z");
  fc.assert(
    fc.property(
      fc.constantFrom(...lines),
      fc.constantFrom(...zones),
      fc.integer({ min: from, max: to }),
      fc.integer({ min: 1, max: 30 }),
      (line, zone, start, count) => {
        const times = new Times(line, zone);
        const forward = times.following(start, count);
        const last = forward.at(-1) ?? 0;
        expect(times.newest(last, count)).toEqual(forward);
        expect(times.newest(last + 999, count)).toEqual(forward);
        expect(times.newest(last - 1, count).at(-1) ?? 0).toBeLessThan(last);
        expect([...forward].sort((a, b) => a - b)).toEqual(forward);
        expect(new Set(forward).size).toBe(count);
        for (const at of forward) expect(at).toBeGreaterThan(start);
      },
    ),
    { numRuns: 100 },
  );
});

test("the zone of the process changes nothing", async () => {
  const answers = await Promise.all(
    ["UTC", "Asia/Kolkata", "America/New_York", "Australia/Lord_Howe"].map(async (TZ) => {
      const child = await spawnFixture("test/schedules/fixtures/zone.ts", { env: { TZ } });
      return child.line(/^\[/);
    }),
  );
  expect(new Set(answers).size).toBe(1);
});

test("a cron line that is none is refused with the reason", () => {
  const cases: readonly (readonly [unknown, RegExp])[] = [
    [undefined, /must be a cron line of 5 fields, or 6 with seconds first, got undefined/],
    [5, /got the number 5/],
    ["", /got the string ""/],
    ["* * * *", /got the string "\* \* \* \*"; @yearly, .*@hourly are known too/],
    ["* * * * * * 2026", /got the string/],
    ["2027-01-01T00:00:00", /got the string "2027-01-01T00:00:00"/],
    ["@reboot", /got the string "@reboot"/],
    ["61 * * * *", /"61 \* \* \* \*" is none: Invalid value for minute: 61/],
    ["* 24 * * *", /Invalid value for hour: 24/],
    ["a b c d e", /illegal characters/],
    ["*/0 * * * *", /is none: /],
    ["5-1 * * * *", /is none: /],
    [`* * * * ${"1,".repeat(200)}1`, /must be a cron line/],
  ];
  for (const [line, reason] of cases) {
    const error = thrown(() => checkCron(line, "schedule x.cron"));
    expect(error, String(line)).toMatchObject({ code: "PH_OPTION_INVALID" });
    expect((error as Error).message, String(line)).toMatch(reason);
  }
  expect(checkCron("  0   3 * *\tMON-FRI ", "x")).toBe("0 3 * * MON-FRI");
  expect(checkCron("@daily", "x")).toBe("@daily");
});

test("a zone that is unknown, or an offset, is refused with the nearest name", () => {
  for (const zone of [undefined, 1, "", "+02:00", "Mars/Phobos", "local", "Europe/Berlin\0"]) {
    expect(thrown(() => checkTimeZone(zone, "schedule x.timeZone"))).toMatchObject({ code: "PH_OPTION_INVALID" });
  }
  expect(() => checkTimeZone("Europe/Berln", "x.timeZone")).toThrow(/Did you mean "Europe\/Berlin"\?/);
  for (const zone of ["UTC", "Europe/Berlin", "America/Argentina/Buenos_Aires"])
    expect(checkTimeZone(zone, "x")).toBe(zone);
});
