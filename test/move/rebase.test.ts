import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { planRebase, rebase } from "../../src/store/rebase.js";
import { work } from "../../src/store/work.js";
import { type Engine, failure, makeWorker, openEngine, say, upTo } from "../sql/engine.js";
import { makeRandom, seedOf } from "../sql/random.js";
import { eventually } from "../support/eventually.js";
import { type OwnServer, startServer } from "../support/server.js";
import { dump } from "./copying.js";
import { drain, leftToDo, makeFleet, underLoad } from "./load.js";

let other: OwnServer;
beforeAll(async () => {
  other = await startServer();
});
afterAll(() => other.remove());

/** Uses up transaction ids, as a server does that works on. */
async function burn(engine: Engine, count: number): Promise<void> {
  await engine.admin.rows("create temp table if not exists burnt (n int)");
  for (let left = count; left > 0; left -= 5_000) {
    await engine.admin.rows(`do $$ begin for i in 1..${Math.min(left, 5_000)} loop
      begin insert into burnt values (i); raise exception 'undone'; exception when raise_exception then null; end; end loop; end $$`);
  }
}

const nextXid = async (engine: Engine) =>
  Number(await engine.admin.value("select pg_snapshot_xmax(pg_current_snapshot())::text"));

/** A copy of `from`, at a moment when at least `claims` claims were made. */
async function copyUnderLoad(seed: number, from: Engine, to: Engine) {
  const random = makeRandom(seed);
  const fleet = await makeFleet(from);
  const least = random.int(20, 200);
  const taken = await underLoad(from, fleet, random, async () => {
    await eventually(async () => Number(await from.admin.value("select count(*) from posthorn.claim_1")) >= least, {
      everyMs: 5,
    });
    return dump(from.url);
  });
  try {
    await taken.restore(to.url);
  } finally {
    await taken.remove();
  }
  return fleet;
}

/**
 * Goal: a copy that is rebased does exactly what was not done in it, in order, however its transaction ids compare with those of its server; and
 * nothing of the past comes back when the server reaches them.
 * Method: dumps at random moments under load, from one server to the other and back; what is left to do is read from the tables before; then ids are
 * used up until far beyond the highest of the log, with new messages between.
 */
describe("a copy that was taken under load and rebased", () => {
  test.each([1, 2, 3, 4, 5, 6])(
    "does what was not done in it, and nothing else, also long after (%i)",
    async (round) => {
      const seed = seedOf(`copy ${round}`);
      const [from, to] = await Promise.all(
        round % 2 === 0 ? [openEngine(other), openEngine()] : [openEngine(), openEngine(other)],
      );
      try {
        const fleet = await copyUnderLoad(seed, from, to);
        const [reader] = fleet.readers;
        if (reader === undefined) throw new Error("the fleet has readers");
        for (const refused of [
          () => say(to.db, reader, [1]),
          () => makeWorker(to, [reader]),
          () => work(to.db, reader.subscription, "1", 1, []),
        ])
          expect(await failure(refused())).toMatchObject({ code: "PH_DATABASE_MOVED", facts: { detail: "copied" } });

        const left = await leftToDo(to);
        const plan = await planRebase(to.db);
        const done = await rebase(to.db);
        expect(done).toMatchObject({ reason: "copied", held: plan?.held, missed: plan?.missed });
        expect(await rebase(to.db)).toBeUndefined();

        const { deliveries, byKey } = await drain(to, fleet);
        expect(deliveries.toSorted()).toEqual([...left].toSorted());
        for (const [key, numbers] of byKey) expect(numbers, key).toEqual(numbers.toSorted((a, b) => a - b));

        const highest = Number(await from.admin.value("select pg_snapshot_xmax(pg_current_snapshot())::text"));
        const steps = 5;
        const each = Math.ceil(Math.max(0, highest + 2_000 - (await nextXid(to))) / steps);
        for (let step = 1; step <= steps; step += 1) {
          await burn(to, each);
          const ids = await say(to.db, reader, upTo(3, 1_000_000 * step));
          const readers = fleet.readers.filter(({ channel }) => channel === reader.channel);
          const expected = readers.flatMap(({ subscription }) => ids.map((id) => `${subscription}/${id}`));
          expect((await drain(to, fleet)).deliveries.toSorted()).toEqual(expected.toSorted());
        }
        expect(await nextXid(to)).toBeGreaterThan(highest);
      } finally {
        await Promise.all([from.close(), to.close()]);
      }
    },
  );
});
