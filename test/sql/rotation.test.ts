import { afterAll, beforeAll, beforeEach, expect, test } from "vitest";
import { writeMessages } from "../../src/store/publish.js";
import { rotate } from "../../src/store/segments.js";
import { type Delivery, settle, spill, takeDue, work } from "../../src/store/work.js";
import {
  claim,
  die,
  type Engine,
  end,
  endInTransaction,
  failure,
  makeQueue,
  makeTopic,
  makeWorker,
  numberOf,
  openEngine,
  outgoing,
  part,
  type Reader,
  rescueAll,
  retryNow,
  say,
  startedAt,
  upTo,
} from "./engine.js";
import { keepNothing, pinsOf, ringOf, rowsOf, turn } from "./rotation.js";

let engine: Engine;
beforeEach(async () => {
  engine = await openEngine();
  await keepNothing(engine);
  return () => engine.close();
});

async function handleAll(reader: Reader, worker: string): Promise<number[]> {
  const numbers: number[] = [];
  for (;;) {
    const { deliveries } = await work(engine.db, reader.subscription, worker, 10, []);
    if (deliveries.length === 0) return numbers;
    numbers.push(...deliveries.map(numberOf));
    await settle(engine.db, [part(deliveries, 1, "succeeded", true)], [], null);
  }
}

test("a segment that nobody needs is truncated, its slot is used again, and no message is lost on seven rounds of the ring", async () => {
  const reader = await makeQueue(engine, "rounds");
  const worker = await makeWorker(engine, [reader]);
  for (const round of upTo(60)) {
    await say(engine.db, reader, [round]);
    expect(await handleAll(reader, worker)).toEqual([round]);
    expect(await turn(engine)).toContain("truncated");
    expect((await ringOf(engine)).slots).toHaveLength(1);
  }
  expect(await ringOf(engine)).toEqual({ slots: [(60 % 8) + 1], slot: (60 % 8) + 1, first: 61 });
  for (const table of ["message", "claim", "settlement"] as const) expect(await rowsOf(engine, table)).toBe(0);
});
