/** Limits of a fleet of real processes, some of which are killed. */
import { beforeEach, expect, test } from "vitest";
import { eventually } from "../support/eventually.js";
import { type FixtureProcess, spawnFixture } from "../support/processes.js";
import { type LimitedSettings, Step } from "./fixtures/limited-contract.js";
import { openScene, type Scene } from "./scene.js";

const patience = { withinMs: 60_000 };
const runTable = `create table run (id bigserial primary key, n int not null, key text not null, pid int not null,
  began_at timestamptz not null default clock_timestamp(), ended_at timestamptz, died_at timestamptz)`;

let scene: Scene;
let processes: FixtureProcess[] = [];
beforeEach(async () => {
  scene = await openScene();
  await scene.rows(runTable);
  return async () => {
    for (const one of processes) one.kill();
    await Promise.all(processes.map(({ exited }) => exited));
    processes = [];
  };
});

async function spawn(settings: Omit<LimitedSettings, "url">): Promise<FixtureProcess> {
  const args = [JSON.stringify({ ...settings, url: scene.url })];
  const started = await spawnFixture("test/failure/fixtures/limited.ts", { args });
  processes.push(started);
  return started;
}

async function fleetOf(size: number, settings: Omit<LimitedSettings, "url" | "role">): Promise<FixtureProcess[]> {
  const fleet = await Promise.all(Array.from({ length: size }, () => spawn({ ...settings, role: "work" })));
  await Promise.all(fleet.map((one) => one.line("works", patience)));
  return fleet;
}

/** The most runs that were open at one moment, of all or of one key. */
function mostAtOnce(perKey: boolean): Promise<number> {
  return scene.count(`with spans as (
      select id, key, began_at, coalesce(ended_at, died_at, clock_timestamp()) as until from run)
    select max(open) from (select count(*) as open from spans a join spans b
      on b.began_at <= a.began_at and b.until > a.began_at ${perKey ? "and b.key = a.key" : ""} group by a.id) c`);
}

const ended = () => scene.count("select count(distinct n) from run where ended_at is not null");

for (const [what, limits] of [
  ["fleetConcurrency", { fleetConcurrency: 2 }],
  ["keyConcurrency", { keyConcurrency: 1 }],
] as const) {
  test(`${what} holds over several processes, and the permits of one that is killed come back`, async () => {
    // Goal: nothing runs beyond the limit, whoever dies, and nothing stands still afterwards.
    // Method: three workers, one of which is killed in the middle of a run; the table of runs says what overlapped.
    const messages = 24;
    const fleet = await fleetOf(3, { limits, runMs: 60 });
    await scene.post.sendMany(
      Step,
      Array.from({ length: messages }, (_, n) => ({ n, of: `key-${n % 3}` })),
    );
    let victim: unknown;
    await eventually(async () => {
      const [held] = await scene.rows("select pid from run where ended_at is null limit 1");
      victim = held?.pid;
      return victim !== undefined && (await ended()) > 3;
    }, patience);
    const one = fleet.find(({ pid }) => pid === victim);
    // Read before the kill: once it is dead others may take its permit before this test comes to the database.
    const [death] = await scene.rows<{ at: string }>("select clock_timestamp()::text as at");
    one?.kill();
    await one?.exited;
    await scene.rows("update run set died_at = greatest($2, began_at) where pid = $1 and ended_at is null", [
      victim,
      death?.at,
    ]);
    await eventually(async () => (await ended()) === messages, patience);
    await scene.quiet();
    expect(one).toBeDefined();
    expect(await mostAtOnce(what === "keyConcurrency")).toBe(what === "keyConcurrency" ? 1 : 2);
    expect(await scene.count("select count(*) from posthorn.dead_letter")).toBe(0);
  });
}

test("a rate holds over several processes of which one is killed, and everything is handled", async () => {
  const rateLimit = { messages: 60, perMs: 1_000, burst: 6 };
  const messages = 120;
  const [before] = await scene.rows<{ at: string }>("select clock_timestamp() as at");
  const fleet = await fleetOf(3, { limits: { rateLimit } });
  await scene.post.sendMany(
    Step,
    Array.from({ length: messages }, (_, n) => ({ n, of: "any" })),
  );
  await eventually(async () => (await ended()) > 20, patience);
  fleet[0]?.kill();
  await eventually(async () => (await ended()) === messages, patience);
  // Whatever the machine does meanwhile: by each moment no more have begun than a burst and what the rate allows since the beginning.
  const most = `select max(place - 6 - extract(epoch from began_at - $1::timestamptz) * 60) from (
    select began_at, row_number() over (order by began_at) as place from run) r`;
  expect(await scene.count(most, [before?.at])).toBeLessThanOrEqual(0.01);
});

test("a worker that is stopped hands back what it has not begun, and the others go on within the limits", async () => {
  const fleet = await fleetOf(2, { limits: { fleetConcurrency: 1 }, runMs: 30 });
  await scene.post.sendMany(
    Step,
    Array.from({ length: 10 }, (_, n) => ({ n, of: "any" })),
  );
  await eventually(async () => (await ended()) > 2, patience);
  fleet[0]?.say("stop");
  expect(await fleet[0]?.exited).toEqual({ code: 0, signal: null });
  await eventually(async () => (await ended()) === 10, patience);
  expect(await mostAtOnce(false)).toBe(1);
});

test("several processes that send as fast as they can fill a queue to its limit, and over it by no more than is stated", async () => {
  // Goal: the bound of docs/guides/backpressure.md: each process beyond the limit by what it is granted at once and one call.
  const [limit, senders] = [200, 4];
  const share = limit / 100;
  const [declarer] = await fleetOf(1, { limits: { backlogLimit: { messages: limit, whenFull: "reject", waitMs: 1 } } });
  declarer?.say("stop");
  await declarer?.exited;
  const tills = await Promise.all(
    Array.from({ length: senders }, () => spawn({ role: "send", limits: {}, refusals: 30 })),
  );
  await Promise.all(tills.map((one) => one.line(/^full after/, patience)));
  const waiting = await scene.count("select backlog from posthorn.backlog where name = 'steps'");
  expect(waiting).toBeGreaterThanOrEqual(limit);
  expect(waiting).toBeLessThanOrEqual(limit + senders * (share + 1));
});

test("sessions that send in SQL share what is known of a full queue, and are refused with PH040 and its facts", async () => {
  const limit = 50;
  const [declarer] = await fleetOf(1, { limits: { backlogLimit: { messages: limit, whenFull: "wait" } } });
  declarer?.say("stop");
  await declarer?.exited;
  const send = `select posthorn.send('Step', '{"n":1,"of":"a"}', 'a')`;
  let sent = 0;
  const refusal = await (async () => {
    for (;;) {
      try {
        await scene.rows(send);
        sent += 1;
      } catch (error) {
        return error;
      }
    }
  })();
  expect(sent).toBe(limit);
  expect(refusal).toMatchObject({ code: "PH040" });
  const facts = JSON.parse(String((refusal as { detail?: unknown }).detail));
  expect(facts).toMatchObject({ queue: "steps", backlog: limit, limit });
  // Nobody has drained anything, so nothing is known about when there will be room.
  expect(facts.retryAfterMs).toBe(60_000);
});
