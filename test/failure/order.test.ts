import { posthorn } from "posthorn";
import { afterAll, beforeAll, expect, test } from "vitest";
import { silentLogger } from "../../src/core/logger.js";
import { openSession, type Session } from "../sql/engine.js";
import { eventually } from "../support/eventually.js";
import { type FixtureProcess, spawnFixture } from "../support/processes.js";
import { createDatabase } from "../support/server.js";
import { KeepStep, TellStep } from "./fixtures/orderly.js";

const kills = process.env.POSTHORN_LONG === "1" ? 120 : 24;
const keys = Array.from({ length: 10 }, (_, i) => `key ${i}`);

let database: Awaited<ReturnType<typeof createDatabase>>;
let admin: Session;
const workers: FixtureProcess[] = [];
beforeAll(async () => {
  database = await createDatabase();
  admin = await openSession(database.url);
  await admin.rows(
    "create table journal (id bigserial primary key, reader text not null, key text not null, n int not null)",
  );
});
afterAll(async () => {
  for (const worker of workers) worker.kill();
  await Promise.all(workers.map(({ exited }) => exited));
  await admin.close();
  await database.drop();
});

async function spawn(): Promise<FixtureProcess> {
  const worker = await spawnFixture("test/failure/fixtures/orderly.ts", { args: [database.url] });
  workers.push(worker);
  return worker;
}

const after = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

/** The first effect of each message, in the order in which they were written, for one reader and key. */
async function firstEffects(reader: string, key: string): Promise<number[]> {
  const rows = await admin.rows(
    "select n, min(id) as id from journal where reader = $1 and key = $2 group by n order by min(id)",
    [reader, key],
  );
  return rows.map(({ n }) => Number(n));
}

test(`order per key holds while workers are killed ${kills} times: nothing is lost, nothing overtakes, and in transaction mode nothing repeats`, async () => {
  const post = posthorn({ service: "till", database: database.url, migrate: "auto", logger: silentLogger });
  await post.migrate();
  const left = { kills };
  let said = 0;
  const saying = (async () => {
    while (left.kills > 0) {
      said += 1;
      const steps = keys.map((key) => ({ key, n: said }));
      await Promise.all([post.sendMany(KeepStep, steps), post.sendMany(TellStep, steps)]);
      await after(150);
    }
  })();
  const place = async () => {
    while (left.kills > 0) {
      left.kills -= 1;
      const worker = await spawn();
      if (Math.random() < 0.8) await worker.line("works", { withinMs: 60_000 });
      await after(50 + Math.random() * 600);
      worker.kill();
      await worker.exited;
    }
  };
  await Promise.all([place(), place(), place()]);
  await saying;
  const survivors = [await spawn(), await spawn()];
  await eventually(
    async () => {
      // A slow message can be under so many kills that it is taken for what kills them, and lies dead in the way of its key.
      await admin.rows("select posthorn.redrive('{\"list\":\"dead-letters\"}', 'test', 100)");
      const left =
        "(select sum(backlog + running) from posthorn.backlog) + (select count(*) from posthorn.dead_letter)";
      return Number(await admin.value(`select ${left}`)) === 0;
    },
    { withinMs: 120_000, everyMs: 200 },
  );
  const expected = Array.from({ length: said }, (_, i) => i + 1);
  for (const key of keys) {
    expect(await firstEffects("kept", key), `kept, ${key}`).toEqual(expected);
    expect(await firstEffects("told", key), `told, ${key}`).toEqual(expected);
  }
  expect(
    await admin.rows("select key, n from journal where reader = 'kept' group by key, n having count(*) > 1"),
  ).toEqual([]);
  expect(await admin.rows("select reason from posthorn.dead_letter")).toEqual([]);
  // Every key is free again.
  await eventually(async () => Number(await admin.value("select count(*) from posthorn.parked_key")) === 0, {
    withinMs: 60_000,
  });
  for (const worker of survivors) {
    worker.say("stop");
    expect(await worker.exited).toEqual({ code: 0, signal: null });
  }
  expect(await admin.value("select count(*) from posthorn.deferred")).toBe("0");
  await post.stop();
}, 300_000);
