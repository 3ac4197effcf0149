import { afterAll, beforeAll, expect, test } from "vitest";
import { planRebase, rebase } from "../../src/store/rebase.js";
import { work } from "../../src/store/work.js";
import { type Engine, failure, openEngine, openSession } from "../sql/engine.js";
import { makeRandom, seedOf } from "../sql/random.js";
import { eventually } from "../support/eventually.js";
import { type OwnServer, startServer } from "../support/server.js";
import { type Dump, dump } from "./copying.js";
import { drain, type Fleet, leftToDo, makeFleet, underLoad } from "./load.js";

/** What a rebase touches, in the order in which it does. */
const all = ["ring", "worker", "deferred", "settlement_1", "tick_1", "claim_1", "epoch", "move", "parked_key"];
const tables = process.env.POSTHORN_LONG === "1" ? all : ["worker", "deferred", "claim_1", "epoch", "parked_key"];

let server: OwnServer;
let from: Engine;
let fleet: Fleet;
let taken: Dump;
beforeAll(async () => {
  server = await startServer();
  from = await openEngine();
  fleet = await makeFleet(from);
  taken = await underLoad(from, fleet, makeRandom(seedOf("killed")), async () => {
    await eventually(async () => Number(await from.admin.value("select count(*) from posthorn.claim_1")) >= 150, {
      everyMs: 5,
    });
    return dump(from.url);
  });
});
afterAll(async () => {
  await Promise.all([taken.remove(), from.close(), server.remove()]);
});

/**
 * Goal: a rebase whose server dies at any step has changed nothing, and is done again as if for the first time.
 * Method: it is stopped by a lock on a table that it comes to, then the server is killed with SIGKILL.
 */
test.each(tables)(
  "a rebase that is at posthorn.%s when the server is killed has changed nothing, and can be repeated",
  async (table) => {
    const to = await openEngine(server);
    await taken.restore(to.url);
    const left = await leftToDo(to);
    const before = await planRebase(to.db);
    const holder = await openSession(to.url);
    await holder.rows(`begin; lock table posthorn.${table} in access exclusive mode`);
    const rebasing = failure(rebase(to.db));
    await eventually(
      async () =>
        Number(
          await holder.value(
            "select count(*) from pg_locks where not granted and locktype = 'relation' and database = (select oid from pg_database where datname = current_database())",
          ),
        ) > 0,
      { everyMs: 5 },
    );
    await server.kill();
    expect(await rebasing).toMatchObject({ retryable: true });
    await server.start();
    const [reader] = fleet.readers;
    expect(await failure(work(to.db, reader?.subscription ?? 0, "1", 1, []))).toMatchObject({
      code: "PH_DATABASE_MOVED",
    });
    expect(await planRebase(to.db)).toEqual(before);
    expect(await rebase(to.db)).toMatchObject({ held: before?.held, missed: before?.missed });
    const again = { ...to, admin: await openSession(to.url) };
    expect((await drain(again, fleet)).deliveries.toSorted()).toEqual([...left].toSorted());
    await again.admin.close();
    await to.close();
  },
);
