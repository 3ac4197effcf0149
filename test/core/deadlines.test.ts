import { afterEach, expect, test, vi } from "vitest";
import { Deadlines, type Overdue } from "../../src/core/deadlines.js";

afterEach(() => {
  vi.useRealTimers();
});

function scene() {
  vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout", "performance"] });
  const deadlines = new Deadlines(100);
  const over: string[] = [];
  const begin = (name: string) => {
    const run: Overdue = {
      dueAt: performance.now() + 100,
      overdue: () => {
        over.push(name);
        deadlines.end(at, run);
      },
    };
    const at = deadlines.begin(run);
    return () => deadlines.end(at, run);
  };
  return { over, begin };
}

test("each run is overdue when its own time has passed, and only once", () => {
  const { over, begin } = scene();
  begin("a");
  vi.advanceTimersByTime(60);
  begin("b");
  vi.advanceTimersByTime(39);
  expect(over).toEqual([]);
  vi.advanceTimersByTime(1);
  expect(over).toEqual(["a"]);
  vi.advanceTimersByTime(59);
  expect(over).toEqual(["a"]);
  vi.advanceTimersByTime(1_000);
  expect(over).toEqual(["a", "b"]);
});

test("a run that has ended is never overdue, and one that begins after it in its place is", () => {
  const { over, begin } = scene();
  const end = begin("a");
  vi.advanceTimersByTime(50);
  end();
  begin("b");
  vi.advanceTimersByTime(99);
  expect(over).toEqual([]);
  vi.advanceTimersByTime(1);
  expect(over).toEqual(["b"]);
});

test("no timer is left when nothing runs", () => {
  const { begin } = scene();
  begin("a")();
  vi.advanceTimersByTime(100);
  expect(vi.getTimerCount()).toBe(0);
});
