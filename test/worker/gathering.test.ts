import { expect, test } from "vitest";
import { silentLogger } from "../../src/core/logger.js";
import { command, type } from "../../src/index.js";
import type { Delivery } from "../../src/store/work.js";
import { Batches, type BatchesOptions } from "../../src/worker/batches.js";
import { Gathering } from "../../src/worker/gathering.js";
import { type Item, inside } from "./batching.js";

function delivery(id: number): Delivery {
  return {
    subscription: 1,
    id: String(id),
    nonce: "7",
    contract: 1,
    key: null,
    payload: {},
    headers: null,
    publishedAt: 0,
    delivery: 1,
    attempts: 0,
    crashes: 0,
    hold: { from: "log", claim: "1", token: "9", claimSlot: 1, messageSlot: 1 },
  };
}

/** A gathering whose clock stands still until the test moves it. */
function gathering(size: number, maxWaitMs: number) {
  const clock = { ms: 1_000 };
  const made = new Gathering({ size, maxWaitMs }, () => clock.ms);
  return { made, clock, ids: () => made.take().map(({ id }) => Number(id)) };
}

test("a batch is due when it is full, however short it has waited", () => {
  const { made, ids } = gathering(3, 60_000);
  made.add(delivery(1));
  made.add(delivery(2));
  expect([made.due, made.dueInMs]).toEqual([0, 60_000]);
  made.add(delivery(3));
  expect([made.due, made.dueInMs]).toEqual([1, undefined]);
  expect(ids()).toEqual([1, 2, 3]);
  expect([made.count, made.due]).toEqual([0, 0]);
});

test("the longest wait is the age of the oldest message: later ones do not put it off", () => {
  const { made, clock, ids } = gathering(10, 100);
  made.add(delivery(1));
  for (let i = 2; i <= 5; i += 1) {
    clock.ms += 20;
    made.add(delivery(i));
    expect([made.due, made.dueInMs]).toEqual([0, 100 - 20 * (i - 1)]);
  }
  clock.ms += 20;
  expect([made.due, made.dueInMs]).toEqual([1, undefined]);
  expect(ids()).toEqual([1, 2, 3, 4, 5]);
});

test("what is left over by full batches keeps its own age", () => {
  const { made, clock, ids } = gathering(2, 100);
  for (const id of [1, 2]) made.add(delivery(id));
  clock.ms += 60;
  made.add(delivery(3));
  expect([made.due, made.dueInMs]).toEqual([1, 100]);
  clock.ms += 40;
  expect([made.due, made.dueInMs]).toEqual([1, 60]);
  expect(ids()).toEqual([1, 2]);
  clock.ms += 60;
  expect(made.due).toBe(1);
  expect(ids()).toEqual([3]);
});

test("with a longest wait of zero everything that is there is due at once", () => {
  const { made } = gathering(4, 0);
  for (const id of [1, 2, 3, 4, 5]) made.add(delivery(id));
  expect([made.due, made.dueInMs]).toEqual([2, undefined]);
});

test("what is drained waits no more", () => {
  const { made } = gathering(4, 50);
  for (const id of [1, 2, 3]) made.add(delivery(id));
  expect(made.drain()).toHaveLength(3);
  expect([made.count, made.due, made.dueInMs]).toEqual([0, 0, undefined]);
});

test("a batch that comes due between two looks is ready, and takes a slot before anything is claimed for it", () => {
  const clock = { ms: 0 };
  const Clock = command("ClockItem", { queue: "clock", schema: type<Item>() });
  const many = { size: 3, maxWaitMs: 100, handler: () => undefined };
  const nothing = (): void => undefined;
  const batches = Batches.of({
    running: { policy: inside } as unknown as BatchesOptions["running"],
    handlers: new Map([[1, { contract: Clock, handler: nothing, many }]]),
    logger: silentLogger,
    slots: undefined,
    outcomes: {} as BatchesOptions["outcomes"],
    broken: () => false,
    onEnded: nothing,
    onBroken: nothing,
    now: () => clock.ms,
  });
  if (batches === undefined) throw new Error("no handler of many");
  batches.add(delivery(1));
  expect([batches.due, batches.goesInMs(1)]).toEqual([0, 100]);
  clock.ms += 100;
  // Without a slot it waits for one, and not for a time.
  expect([batches.due, batches.goesInMs(1), batches.goesInMs(0)]).toEqual([1, 0, Number.POSITIVE_INFINITY]);
  expect(batches.take(0)).toEqual([]);
  expect(batches.take(1)).toHaveLength(1);
  expect([batches.due, batches.running, batches.idle]).toEqual([0, 1, false]);
});
