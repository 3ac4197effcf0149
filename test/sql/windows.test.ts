import { afterAll, beforeAll, expect, test } from "vitest";
import type { Delivery } from "../../src/store/work.js";
import { type Engine, makeTopic, makeWorker, openEngine, type Reader } from "./engine.js";
import { makeRandom, seedOf } from "./random.js";
import { claimAll, countByNumber, Ledger, Pace, Producer } from "./traffic.js";

let engine: Engine;
beforeAll(async () => {
  engine = await openEngine();
});
afterAll(() => engine.close());

/**
 * Goal: invariant 2. A message is in exactly one window of each subscription, whatever commits when.
 * Method: producers run random transactions: every isolation level, open over up to 200 claims, rolled back as a whole or to a
 * savepoint, prepared and ended later, with ids drawn long before the insert, through the library, posthorn.publish and plain
 * SQL. Five claimers on one subscription and two on another take random numbers. Every message is accounted for by its number.
 */
test("every committed message is claimed exactly once for each subscription, and none of a rolled-back transaction", async () => {
  const seed = seedOf("windows");
  const readers = await makeTopic(engine, "Traffic", ["first", "second"]);
  const worker = await makeWorker(engine, readers);
  const [ledger, pace] = [new Ledger(), new Pace()];
  const handed = new Map<Reader, Delivery[]>(readers.map((reader) => [reader, []]));
  let finished = false;

  const claimers = readers.flatMap((reader, r) =>
    Array.from({ length: r === 0 ? 5 : 2 }, async (_, i) => {
      const random = makeRandom(seed + 1_000 * (r + 1) + i);
      const seen = handed.get(reader) ?? [];
      const session = await engine.session();
      await claimAll({ session, reader, worker, random, pace, seen, finished: () => finished });
    }),
  );
  const producers = Array.from({ length: 6 }, async (_, i) => {
    const session = await engine.session();
    const [reader] = readers;
    if (reader === undefined) throw new Error("there is no reader");
    const random = makeRandom(seed + i);
    await new Producer({ session, reader, event: "TrafficHappened", random, ledger, pace }).run(140);
  });
  const produced = Promise.all(producers).finally(() => {
    finished = true;
  });
  await Promise.all([produced, ...claimers]);

  for (const reader of readers) expectExactlyOnce(handed.get(reader) ?? [], ledger);
  expect(ledger.committed.size).toBeGreaterThan(2_000);
  expect(ledger.rolledBack.size).toBeGreaterThan(500);
  const tookLate = await engine.admin.value("select count(*)::int from posthorn.claim_1 where took_late");
  const windows = await engine.admin.value("select count(*)::int from posthorn.tick_1");
  process.stdout.write(
    `windows: ${ledger.committed.size} messages, ${windows} ticks, ${tookLate} claims took late ones\n`,
  );
  expect(tookLate, "late messages were among them").toBeGreaterThan(50);
});

function expectExactlyOnce(deliveries: readonly Delivery[], ledger: Ledger): void {
  const counts = countByNumber(deliveries);
  expect(
    [...ledger.committed].filter((number) => !counts.has(number)),
    "lost",
  ).toEqual([]);
  expect(
    [...counts].filter(([, times]) => times > 1),
    "twice",
  ).toEqual([]);
  expect(
    [...counts.keys()].filter((number) => !ledger.committed.has(number)),
    "never committed",
  ).toEqual([]);
}
