import { afterAll, beforeAll, expect, test } from "vitest";
import { move } from "../../src/store/move.js";
import { die, type Engine, failure, openEngine, rescueAll, say } from "../sql/engine.js";
import { makeRandom, seedOf } from "../sql/random.js";
import { type OwnServer, startServer } from "../support/server.js";
import { drain, leftToDo, makeFleet, underLoad } from "./load.js";

let other: OwnServer;
beforeAll(async () => {
  other = await startServer();
});
afterAll(() => other.remove());

async function bothEngines<T>(work: (from: Engine, to: Engine) => Promise<T>): Promise<T> {
  const [from, to] = await Promise.all([openEngine(), openEngine(other)]);
  try {
    return await work(from, to);
  } finally {
    await Promise.all([from.close(), to.close()]);
  }
}

async function stopAll(engine: Engine): Promise<void> {
  const workers = await engine.admin.rows("select id::text from posthorn.worker");
  await die(engine, ...workers.map(({ id }) => String(id)));
}

test("a log is moved with all that was not done, and the source says where it went", async () => {
  await bothEngines(async (from, to) => {
    const random = makeRandom(seedOf("move"));
    const fleet = await makeFleet(from);
    await underLoad(from, fleet, random, () => new Promise((resolve) => setTimeout(resolve, 500)));
    const [reader] = fleet.readers;
    if (reader === undefined) throw new Error("no reader");
    expect(await failure(move({ source: from.db, target: to.db }))).toMatchObject({ code: "PH_SOURCE_IN_USE" });
    await stopAll(from);
    await rescueAll(from.db);
    const left = await leftToDo(from);
    const moved = await move({ source: from.db, target: to.db });
    expect(moved).toMatchObject({ resumed: false });
    const error = await failure(say(from.db, reader, [1]));
    expect(error).toMatchObject({ code: "PH_DATABASE_MOVED", facts: { detail: "moved" } });
    expect(error.message).toContain(`127.0.0.1:${other.port}`);
    expect(error.message).not.toContain("postgres@");
    expect((await drain(to, fleet)).deliveries.toSorted()).toEqual([...left].toSorted());
    expect(await move({ source: from.db, target: to.db })).toMatchObject({ resumed: true });
  });
});
