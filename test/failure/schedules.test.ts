import { beforeAll, expect, test } from "vitest";
import { eventually } from "../support/eventually.js";
import { type FixtureProcess, spawnFixture } from "../support/processes.js";
import { openScene, type Scene } from "./scene.js";

const long = process.env.POSTHORN_LONG === "1";
const kills = long ? 200 : 24;
const places = 3;

let scene: Scene;
beforeAll(async () => {
  scene = await openScene();
  await scene.rows("create table rung (schedule text, second int, said text)");
});

const after = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));
/** Around the moment at which all of them send. */
const toTheSecond = () => after(1_000 - (Date.now() % 1_000) + Math.random() * 40 - 5);
const fleet = new Set<FixtureProcess>();

async function scheduler(): Promise<FixtureProcess> {
  const child = await spawnFixture("test/failure/fixtures/scheduler.ts", {
    args: [JSON.stringify({ url: scene.url })],
  });
  fleet.add(child);
  return child;
}

/** One place in the fleet: a process is killed as it sends, or stopped for longer than it would be believed alive, and replaced. */
async function place(left: { kills: number }): Promise<void> {
  while (left.kills > 0) {
    left.kills -= 1;
    const child = await scheduler();
    // Some die while they declare.
    if (Math.random() < 0.85) await child.line("works", { withinMs: 60_000 });
    else await after(Math.random() * 500);
    await toTheSecond();
    if (Math.random() < 0.2) {
      child.kill("SIGSTOP");
      await after(1_500);
      child.kill("SIGCONT");
      await toTheSecond();
    }
    child.kill();
    await child.exited;
    fleet.delete(child);
    expect(child.lines.filter((line) => /^(unhandled|uncaught|error)/.test(line))).toEqual([]);
  }
}

const sent = () =>
  scene.rows<{ schedule: string; second: string }>(
    `select headers ->> 'posthorn-schedule' as schedule, extract(epoch from (headers ->> 'posthorn-scheduled-for')::timestamptz)::bigint as second
     from posthorn.message_1 order by id`,
  );

test(`a fleet whose processes are killed ${kills} times while they send has one command for each time of each schedule, and none is left out`, async () => {
  // Goal: exactly one command per time: not two from two processes, none lost by one that died, also over a time in which nobody was up.
  // Method: three places; each process is killed around a whole second, at which all send, some after they were stopped for a while; then
  // nobody is up for two seconds. Schedules of every second that make up for what was missed show each hole and each repetition.
  const left = { kills };
  await Promise.all(Array.from({ length: places }, () => place(left)));
  const between = Math.floor(Date.now() / 1_000);
  await toTheSecond();
  await toTheSecond();
  const survivor = await scheduler();
  await survivor.line("works", { withinMs: 60_000 });
  await eventually(async () => (await scene.count("select count(*) from rung where second > $1", [between + 4])) >= 3, {
    withinMs: 60_000,
  });
  survivor.kill();
  await survivor.exited;
  for (const schedule of ["plain", "computed", "spread"]) {
    const seconds = (await sent()).filter((one) => one.schedule === schedule).map((one) => Number(one.second));
    const first = seconds[0] ?? 0;
    expect(seconds, schedule).toEqual(seconds.map((_, i) => first + i));
    expect(seconds.length, schedule).toBeGreaterThan(5);
    expect(seconds).toContain(between + 1);
  }
  // Handled in transactions, so as often as sent; the last ones may still wait.
  expect(await scene.rows("select schedule, second from rung group by 1, 2 having count(*) > 1")).toEqual([]);
  const said = await scene.rows<{ ok: boolean }>(
    "select bool_and(extract(epoch from said::timestamptz)::int = second) as ok from rung where schedule = 'computed'",
  );
  expect(said).toEqual([{ ok: true }]);
}, 300_000);
