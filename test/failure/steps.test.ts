import { type Post, posthorn, type Sql } from "posthorn";
import { afterAll, beforeEach, expect, onTestFinished, test } from "vitest";
import { silentLogger } from "../../src/core/logger.js";
import { openSession, type Session } from "../sql/engine.js";
import { eventually } from "../support/eventually.js";
import { type FixtureProcess, spawnFixture } from "../support/processes.js";
import { createDatabase } from "../support/server.js";
import { PayOrder, type SteppingSettings } from "./fixtures/stepping.js";

const patience = { withinMs: 60_000 };
const kills = process.env.POSTHORN_LONG === "1" ? 60 : 10;

let url: string;
let admin: Session;
let post: Post<Sql>;
const workers: FixtureProcess[] = [];
const closing: (() => Promise<unknown>)[] = [];
beforeEach(async () => {
  const database = await createDatabase();
  url = database.url;
  admin = await openSession(url);
  post = posthorn({ service: "till", database: url, migrate: "auto", logger: silentLogger });
  await post.migrate();
  await admin.rows(`create table journal (id bigserial primary key, what text not null, n int not null, step text not null, pid int not null,
    key text not null)`);
  closing.push(admin.close, () => post.stop(), database.drop);
  onTestFinished(killWorkers);
});
afterAll(async () => {
  await killWorkers();
  for (const close of closing) await close();
});

async function killWorkers(): Promise<void> {
  for (const worker of workers) worker.kill();
  await Promise.all(workers.splice(0).map(({ exited }) => exited));
}

async function spawn(settings: Omit<SteppingSettings, "url"> = {}): Promise<FixtureProcess> {
  const worker = await spawnFixture("test/failure/fixtures/stepping.ts", {
    args: [JSON.stringify({ ...settings, url })],
  });
  workers.push(worker);
  return worker;
}

async function working(settings?: Omit<SteppingSettings, "url">): Promise<FixtureProcess> {
  const worker = await spawn(settings);
  await worker.line("works", patience);
  return worker;
}

const effects = () => admin.rows("select step, pid from journal where what = 'effect' order by id");
const recorded = () => admin.rows("select name from posthorn.step order by name");

for (const leaves of ["is killed", "is told to stop"] as const) {
  test(`of a worker that ${leaves} between two steps the first is not repeated: the next worker goes on with the second`, async () => {
    const first = await working({ waitsAt: "between" });
    const receipt = await post.send(PayOrder, { n: 1 });
    await first.line("at between", patience);
    expect(await recorded()).toEqual([{ name: "charge" }]);
    if (leaves === "is killed") first.kill();
    else first.say("stop 100");
    await first.exited;
    const second = await working();
    expect(await receipt.settled(patience)).toMatchObject({ state: "succeeded" });
    expect(await effects()).toEqual([
      { step: "charge", pid: first.pid },
      { step: "ship", pid: second.pid },
    ]);
    // The second worker got what the first one had returned.
    const results = await admin.rows(
      "select pid, key from journal where what = 'done' and step = 'charge' order by id",
    );
    expect(results).toEqual([first, second].map(({ pid }) => ({ pid, key: String(first.pid) })));
    expect(await recorded()).toEqual([]);
  });
}

test("a worker that is killed after the effect of a step and before its record repeats it, with the same idempotency key", async () => {
  const first = await working({ waitsAt: "charge" });
  const receipt = await post.send(PayOrder, { n: 1 });
  await first.line("at charge", patience);
  first.kill();
  await first.exited;
  const second = await working();
  expect(await receipt.settled(patience)).toMatchObject({ state: "succeeded" });
  const charges = await admin.rows(
    "select pid, key from journal where what = 'effect' and step = 'charge' order by id",
  );
  expect(charges.map(({ pid }) => pid)).toEqual([first.pid, second.pid]);
  expect(new Set(charges.map(({ key }) => key)).size).toBe(1);
});

for (const spared of [true, false]) {
  const whose = spared ? "whose sessions nobody could end" : "whose sessions were ended";
  test(`a worker that was stopped in a step, ${whose}, and comes back while its replacement runs records nothing`, async () => {
    // Goal: only the holder records. Method: the sleeper has done the effect of its step when it is stopped, and ends the step when the message
    // is in the hands of another worker. Its steps have names of their own.
    const sleeper = await working({ waitsAt: "charge", suffix: " of the sleeper", workerTimeoutMs: 5_000 });
    const receipt = await post.send(PayOrder, { n: 1 });
    await sleeper.line("at charge", patience);
    if (spared) await admin.rows("update posthorn.worker set backends = '[]' where pid = $1", [sleeper.pid]);
    const replacement = await working({ waitsAt: "between" });
    sleeper.kill("SIGSTOP");
    // Dead from now on, and not because the machine was slow before.
    await admin.rows("update posthorn.worker set heartbeat_at = '-infinity' where pid = $1", [sleeper.pid]);
    await replacement.line("at between", patience);
    sleeper.say("go");
    sleeper.kill("SIGCONT");
    await sleeper.line(/^refused PH_(CLAIM_LOST|WORKER_FORGOTTEN)$/, patience);
    expect(await recorded()).toEqual([{ name: "charge" }]);
    replacement.say("go");
    expect(await receipt.settled(patience)).toMatchObject({ state: "succeeded" });
    expect(await recorded()).toEqual([]);
    expect(await effects()).toEqual([
      { step: "charge", pid: sleeper.pid },
      { step: "charge", pid: replacement.pid },
      { step: "ship", pid: replacement.pid },
    ]);
  });
}

test(`no step that was done for its handler begins again while workers are killed ${kills} times, and nothing is left in the end`, async () => {
  const count = 150;
  const numbers = Array.from({ length: count }, (_, i) => ({ n: i + 1 }));
  const receipts = await post.sendMany(PayOrder, numbers);
  let left = kills;
  const place = async () => {
    while (left > 0) {
      left -= 1;
      const worker = await working();
      const before = await admin.value("select count(*) from journal");
      // Killed in the middle of its work, or when there is none left.
      await eventually(
        async () =>
          Number(await admin.value("select count(*) from journal")) > Number(before) + Math.random() * 10 ||
          (await over()),
        patience,
      );
      worker.kill();
      await worker.exited;
    }
  };
  const over = async () =>
    Number(await admin.value("select count(distinct n) from journal where what = 'done' and step = 'ship'")) === count;
  await Promise.all([place(), place()]);
  await working();
  for (const receipt of receipts) expect(await receipt.settled(patience)).toMatchObject({ state: "succeeded" });
  const repeated = await admin.rows(`select e.n, e.step from journal e where e.what = 'effect' and exists (
    select from journal d where d.what = 'done' and d.n = e.n and d.step = e.step and d.id < e.id)`);
  expect(repeated).toEqual([]);
  expect(await admin.value("select count(distinct (n, step)) from journal where what = 'done'")).toBe(
    String(2 * count),
  );
  await eventually(async () => (await recorded()).length === 0, patience);
}, 240_000);
