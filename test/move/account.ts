/** What a copy must do once it is rebased: exactly what was not done in it, now and when its server has come to the transaction ids of the old one. */
import { expect } from "vitest";
import { planRebase, rebase } from "../../src/store/rebase.js";
import { work } from "../../src/store/work.js";
import { type Engine, failure, makeWorker, say, upTo } from "../sql/engine.js";
import { drain, type Fleet, leftToDo } from "./load.js";

/** Uses up transaction ids, as a server does that works on. */
async function burn(engine: Engine, count: number): Promise<void> {
  await engine.admin.rows("create temp table if not exists burnt (n int)");
  for (let left = count; left > 0; left -= 5_000) {
    await engine.admin.rows(`do $$ begin for i in 1..${Math.min(left, 5_000)} loop
      begin insert into burnt values (i); raise exception 'undone'; exception when raise_exception then null; end; end loop; end $$`);
  }
}

/** The next transaction id. */
export async function nextXid(engine: Engine): Promise<number> {
  return Number(await engine.admin.value("select pg_snapshot_xmax(pg_current_snapshot())::text"));
}

/** `highest`: beyond every transaction id in the log. */
export async function expectRebaseToBeExact(copy: Engine, fleet: Fleet, highest: number): Promise<void> {
  const [reader] = fleet.readers;
  if (reader === undefined) throw new Error("the fleet has readers");
  for (const refused of [
    () => say(copy.db, reader, [1]),
    () => makeWorker(copy, [reader]),
    () => work(copy.db, reader.subscription, "1", 1, []),
  ]) {
    expect(await failure(refused())).toMatchObject({ code: "PH_DATABASE_MOVED", facts: { detail: "copied" } });
  }
  const left = await leftToDo(copy);
  const plan = await planRebase(copy.db);
  expect(await rebase(copy.db)).toMatchObject({ reason: "copied", held: plan?.held, missed: plan?.missed });
  expect(await rebase(copy.db)).toBeUndefined();

  const { deliveries, byKey } = await drain(copy, fleet);
  expect(deliveries.toSorted()).toEqual([...left].toSorted());
  for (const [key, numbers] of byKey) expect(numbers, key).toEqual(numbers.toSorted((a, b) => a - b));

  const steps = 5;
  const each = Math.ceil(Math.max(0, highest + 2_000 - (await nextXid(copy))) / steps);
  const readers = fleet.readers.filter(({ channel }) => channel === reader.channel);
  for (let step = 1; step <= steps; step += 1) {
    await burn(copy, each);
    const ids = await say(copy.db, reader, upTo(3, 1_000_000 * step));
    const expected = readers.flatMap(({ subscription }) => ids.map((id) => `${subscription}/${id}`));
    expect((await drain(copy, fleet)).deliveries.toSorted()).toEqual(expected.toSorted());
  }
  expect(await nextXid(copy)).toBeGreaterThan(highest);
}
