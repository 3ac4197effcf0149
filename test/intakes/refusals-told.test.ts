/**
 * Goal: what is refused is told in time and never without bound, whatever is sent.
 * Method: the clock is moved; refusals are noted as a broker notes them.
 */
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { Refusals } from "../../src/intakes/refusals.js";
import { listening } from "./stage.js";

const minute = 60_000;
const wrong = { reason: "signed with none of its secrets", meant: true };
const stray = { reason: "without a signature", meant: false };

beforeEach(() => {
  vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout", "performance"] });
});
afterEach(() => {
  vi.useRealTimers();
});

function refusing() {
  const { logger, told } = listening();
  return { refusals: new Refusals({ name: "in", where: "its fetch handler", logger }), told };
}

test("the first is told at once, a flood as one line a minute with the counts, and the end of it as well; then nothing is left to wake up for", () => {
  const { refusals, told } = refusing();
  refusals.note(wrong);
  expect(told.map(({ level, message }) => [level, message])).toEqual([
    ["warn", 'the intake "in" has refused 1 message at its fetch handler: signed with none of its secrets'],
  ]);
  for (let second = 0; second < 120; second += 1) {
    for (let i = 0; i < 1_000; i += 1) refusals.note(i % 100 === 0 ? stray : wrong);
    vi.advanceTimersByTime(1_000);
  }
  expect(told).toHaveLength(3);
  expect(told[1]?.message).toBe(
    'the intake "in" has refused 60,000 messages at its fetch handler in 1 min: 59,400 signed with none of its secrets; 600 without a signature',
  );
  refusals.note(wrong);
  vi.advanceTimersByTime(minute);
  expect(told).toHaveLength(4);
  expect(told[3]?.facts).toEqual({
    intake: "in",
    where: "its fetch handler",
    refused: 1,
    reasons: { [wrong.reason]: 1 },
  });
  expect(vi.getTimerCount()).toBe(0);
  expect(told.reduce((sum, { facts }) => sum + Number(facts.refused), 0)).toBe(120_002);
});

test("what no sender means is told at once and then once an hour, and holds up nothing that one means", () => {
  const { refusals, told } = refusing();
  for (let i = 0; i < 59; i += 1) {
    refusals.note(stray);
    vi.advanceTimersByTime(minute);
  }
  expect(told).toHaveLength(1);
  refusals.note(wrong);
  expect(told).toHaveLength(2);
  expect(told[1]?.facts.reasons).toEqual({ [stray.reason]: 58, [wrong.reason]: 1 });
  refusals.note(stray);
  vi.advanceTimersByTime(59 * minute);
  expect(told).toHaveLength(2);
  vi.advanceTimersByTime(2 * minute);
  expect(told).toHaveLength(3);
  refusals.note(stray);
  refusals.tellRest();
  expect(told).toHaveLength(4);
  expect(vi.getTimerCount()).toBe(0);
  refusals.tellRest();
  expect(told).toHaveLength(4);
});

test("what is reported is counted until nothing was refused for 15 minutes, from the beginning of the worker; a stray one hides no reason of a sender", () => {
  const { refusals } = refusing();
  expect(refusals.report(0)).toEqual({ total: 0, now: null, agoMs: null, why: null });
  refusals.note(stray);
  expect(refusals.report(0)).toEqual({ total: 1, now: 0, agoMs: 0, why: stray.reason });
  refusals.note(wrong);
  vi.advanceTimersByTime(14 * minute);
  refusals.note(wrong);
  refusals.note(stray);
  expect(refusals.report(0)).toEqual({ total: 4, now: 2, agoMs: 0, why: wrong.reason });
  vi.advanceTimersByTime(14 * minute);
  expect(refusals.report(3)).toEqual({ total: 1, now: 2, agoMs: 14 * minute, why: wrong.reason });
  vi.advanceTimersByTime(minute);
  expect(refusals.report(0)).toEqual({ total: 4, now: null, agoMs: null, why: null });
  refusals.note(stray);
  expect(refusals.report(0)).toEqual({ total: 5, now: 0, agoMs: 0, why: stray.reason });
});

test("a broker of one's own that makes a reason of each message, with a password and lines of a log in it, fills neither memory nor log", () => {
  const { refusals, told } = refusing();
  for (let i = 0; i < 10_000; i += 1) {
    refusals.note({
      reason: `no ${i}\r\n2026 ERROR everything is lost \u001b[31m amqp://ada:hunter2@mq\u2028`,
      meant: true,
    });
  }
  refusals.note({ reason: "x".repeat(1_000_000), meant: true });
  refusals.tellRest();
  const text = JSON.stringify(told.map(({ message, facts }) => [message, facts]));
  expect(told).toHaveLength(2);
  expect(Object.keys(told[1]?.facts.reasons ?? {})).toHaveLength(32);
  expect(told[1]?.facts.reasons).toMatchObject({ "for other reasons": 10_001 - 32 });
  expect(text).not.toContain("hunter2");
  for (const { message } of told) expect(message).not.toMatch(/[\p{Cc}\u2028]/u);
  expect(text.length).toBeLessThan(20_000);
});
