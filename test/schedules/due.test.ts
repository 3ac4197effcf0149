import fc from "fast-check";
import { limits } from "posthorn";
import { expect, test } from "vitest";
import { type Due, dueOf, jitterOf, type Missed, type Waiting } from "../../src/schedules/due.js";
import { Times } from "../../src/schedules/times.js";

const iso = (at: number): string => new Date(at).toISOString().slice(0, 19);
const waiting = (missed: Missed, nextAt: string, jitterMs = 0): Waiting => ({
  name: "report",
  missed,
  jitterMs,
  nextAt: Date.parse(nextAt),
});
const shown = ({ send, upcoming, passedOver }: Due) => ({ send: send.map(iso), upcoming: iso(upcoming), passedOver });
const daily = new Times("0 3 * * *", "Europe/Berlin");
const at = (time: string): number => Date.parse(time);

test("a time that is due is sent whatever the decision, also up to a minute late", () => {
  for (const missed of ["skip", "once", "all"] as const) {
    for (const late of [0, 1, 900, limits.scheduleLateMs]) {
      const due = dueOf(waiting(missed, "2026-06-01T01:00:00Z"), daily, at("2026-06-01T01:00:00Z") + late);
      expect(shown(due), `${missed} ${late}`).toEqual({
        send: ["2026-06-01T01:00:00"],
        upcoming: "2026-06-02T01:00:00",
        passedOver: false,
      });
    }
  }
});

test("after a downtime skip sends nothing, once the newest, and all each in its order", () => {
  const now = at("2026-06-04T09:00:00Z");
  const next = "2026-06-01T01:00:00Z";
  const upcoming = "2026-06-05T01:00:00";
  const days = [1, 2, 3, 4].map((day) => `2026-06-0${day}T01:00:00`);
  expect(shown(dueOf(waiting("skip", next), daily, now))).toEqual({ send: [], upcoming, passedOver: true });
  expect(shown(dueOf(waiting("once", next), daily, now))).toEqual({ send: days.slice(-1), upcoming, passedOver: true });
  expect(shown(dueOf(waiting("all", next), daily, now))).toEqual({ send: days, upcoming, passedOver: false });
});

test("skip sends the newest time where only the ones before it are missed", () => {
  const minutely = new Times("* * * * *", "UTC");
  const due = dueOf(waiting("skip", "2026-06-01T00:00:00Z"), minutely, at("2026-06-01T00:10:30Z"));
  expect(shown(due)).toEqual({ send: ["2026-06-01T00:10:00"], upcoming: "2026-06-01T00:11:00", passedOver: true });
});

test("all makes up for the newest thousand times and passes over those before them", () => {
  const secondly = new Times("* * * * * *", "UTC");
  const now = at("2026-06-02T00:00:00.500Z");
  const due = dueOf(waiting("all", "2026-06-01T00:00:00Z"), secondly, now);
  expect(due.send).toHaveLength(limits.missedTimes);
  expect(iso(due.send[0] ?? 0)).toBe("2026-06-01T23:43:21");
  expect(iso(due.send.at(-1) ?? 0)).toBe("2026-06-02T00:00:00");
  expect(due.passedOver).toBe(true);
  // The next time of the schedule is sent as well where exactly so many are missed.
  const exact = dueOf(waiting("all", "2026-06-01T23:43:21Z"), secondly, now);
  expect({ ...exact, passedOver: true }).toEqual(due);
  expect(exact.passedOver).toBe(false);
});

test("a missed time of day of the night in which the clocks change is one time", () => {
  const night = new Times("30 2 * * *", "Europe/Berlin");
  const spring = dueOf(waiting("all", "2026-03-28T01:30:00Z"), night, at("2026-03-30T06:00:00Z"));
  expect(spring.send.map(iso)).toEqual(["2026-03-28T01:30:00", "2026-03-29T01:00:00", "2026-03-30T00:30:00"]);
  const autumn = dueOf(waiting("all", "2026-10-24T00:30:00Z"), night, at("2026-10-26T06:00:00Z"));
  expect(autumn.send.map(iso)).toEqual(["2026-10-24T00:30:00", "2026-10-25T00:30:00", "2026-10-26T01:30:00"]);
});

test("the next time in the database counts also where this process would compute another", () => {
  // As with an older table of zones: by it, the time was an hour earlier or later.
  const due = dueOf(waiting("all", "2026-06-01T02:00:00Z"), daily, at("2026-06-01T02:00:01Z"));
  expect(shown(due)).toEqual({ send: ["2026-06-01T02:00:00"], upcoming: "2026-06-02T01:00:00", passedOver: false });
});

test("the jitter is the same for everybody, another for each time and name, and within its bounds", () => {
  const times = Array.from({ length: 2_000 }, (_, i) => at("2026-06-01T00:00:00Z") + i * 60_000);
  const delays = times.map((time) => jitterOf("report", time, 5_000));
  expect(times.map((time) => jitterOf("report", time, 5_000))).toEqual(delays);
  expect(times.map((time) => jitterOf("other", time, 5_000))).not.toEqual(delays);
  for (const delay of delays) expect(Number.isInteger(delay) && delay >= 0 && delay <= 5_000).toBe(true);
  // Spread, not heaped: each fifth of the range has its share.
  for (let fifth = 0; fifth < 5; fifth += 1) {
    const within = delays.filter((delay) => Math.min(4, Math.floor(delay / 1_000)) === fifth).length;
    expect(within).toBeGreaterThan(300);
  }
  expect(jitterOf("report", times[0] ?? 0, 0)).toBe(0);
});

test("a time whose jitter has not passed is not due yet, and is the next one", () => {
  const minutely = new Times("* * * * *", "UTC");
  const start = at("2026-06-01T00:00:00Z");
  const minute = [1, 2, 3, 4, 5, 6, 7, 8].find((one) => jitterOf("report", start + one * 60_000, 30_000) > 5_000) ?? 0;
  const now = start + minute * 60_000 + 1_000;
  const due = dueOf(waiting("all", "2026-06-01T00:00:00Z", 30_000), minutely, now);
  expect(iso(due.upcoming)).toBe(iso(start + minute * 60_000));
  expect(due.send).toHaveLength(minute);
});

test("whenever somebody looks, each time is sent once where all are to be sent, at most once elsewhere, and in its order", () => {
  // Method: one schedule through a random series of looks, across the changes of the clocks, against the list of all its times.
  const lines = ["30 2 * * *", "*/10 * * * *", "0,30 1-3 * * *"];
  const zones = ["Europe/Berlin", "America/New_York", "Australia/Lord_Howe"];
  fc.assert(
    fc.property(
      fc.constantFrom(...lines),
      fc.constantFrom(...zones),
      fc.constantFrom<Missed>("skip", "once", "all"),
      fc.constantFrom(0, 90_000, 300_000),
      fc.constantFrom("2026-03-07", "2026-03-28", "2026-04-04", "2026-10-03", "2026-10-24", "2026-10-31"),
      fc.array(fc.integer({ min: 1, max: 3 * 3_600_000 }), { minLength: 1, maxLength: 15 }),
      (line, zone, missed, jitterMs, day, steps) => {
        const times = new Times(line, zone);
        let now = at(`${day}T00:00:00Z`);
        const first = times.next(now) ?? 0;
        let nextAt = first;
        const sent: number[] = [];
        for (const step of steps) {
          now += step;
          while (nextAt + jitterOf("report", nextAt, jitterMs) <= now) {
            const due = dueOf({ name: "report", missed, jitterMs, nextAt }, times, now);
            expect(due.upcoming).toBeGreaterThan(nextAt);
            for (const one of due.send) expect(one + jitterOf("report", one, jitterMs)).toBeLessThanOrEqual(now);
            sent.push(...due.send);
            nextAt = due.upcoming;
          }
        }
        const all = times.newest(now, 300).filter((one) => one >= first && one < nextAt);
        expect([...new Set(sent)].sort((a, b) => a - b)).toEqual(sent);
        if (missed === "all") expect(sent).toEqual(all);
        else expect(all).toEqual(expect.arrayContaining(sent));
      },
    ),
    { numRuns: 40 },
  );
});
