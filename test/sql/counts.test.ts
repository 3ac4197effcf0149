/**
 * Goal: what people and autoscalers are told of a queue is true at one moment: a message that moves meanwhile is counted once, neither twice nor not at all.
 * Method: messages go from the log to a worker and from there to what waits outside of the log, again and again, and another session counts all the time.
 */
import { afterAll, beforeAll, expect, test } from "vitest";
import { settle } from "../../src/store/work.js";
import { claim, type Engine, end, makeQueue, makeWorker, openEngine, part, retryNow, say, upTo } from "./engine.js";

let engine: Engine;
beforeAll(async () => {
  engine = await openEngine();
});
afterAll(() => engine.close());

test("a message that moves while it is counted is counted once", async () => {
  const reader = await makeQueue(engine, "moving");
  const worker = await makeWorker(engine, [reader]);
  const all = 1_000;
  await say(engine.db, reader, upTo(all));
  let moving = true;
  const move = async (): Promise<void> => {
    for (let left = all; left > 0; ) {
      const held = await claim(engine.db, reader, worker, 5);
      left -= held.length;
      await settle(
        engine.db,
        [part(held, 1, "failed", true)],
        held.map((one) => end(one, "failed", retryNow)),
        null,
      );
    }
    moving = false;
  };
  const count = async (): Promise<readonly number[]> => {
    const session = await engine.session();
    const seen: number[] = [];
    while (moving) {
      const text = "select (backlog + running)::int from posthorn.gauges(10000) where subscription = $1";
      seen.push(Number(await session.value(text, [reader.subscription])));
    }
    return seen;
  };
  const [, ...counts] = await Promise.all([move(), count(), count()]);
  expect(new Set(counts.flat())).toEqual(new Set([all]));
});
