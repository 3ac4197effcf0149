import { beforeEach, expect, test } from "vitest";
import { eventually } from "../support/eventually.js";
import type { FixtureProcess } from "../support/processes.js";
import { CallOutside, FireOnce } from "./fixtures/contracts.js";
import { openScene, type Scene, upTo } from "./scene.js";

const patience = { withinMs: 60_000, everyMs: 100 };
const loud = { oldestAgeMs: 3_600_000, backlog: 1_000_000, deadLetters: 2, noWorkerMs: 3_600_000 };

let scene: Scene;
beforeEach(async () => {
  scene = await openScene();
});

interface Alert {
  readonly alert: string;
  readonly subscription: string;
  readonly open: boolean;
  readonly value: number;
  readonly threshold: number;
}

const alerts = () =>
  scene.rows<Alert>(
    "select alert, subscription, resolved_at is null as open, value::int, threshold::int from posthorn.alerts order by raised_at",
  );

const told = (fleet: readonly FixtureProcess[], line: RegExp) =>
  fleet.flatMap(({ lines }) => lines.filter((one) => line.test(one)));

test("an alert is raised once by a fleet of three workers, kept in a table, logged by the one that noticed, and resolved when its reason is gone", async () => {
  // Goal: one alert for one reason, however many look; it stays on record, and a second reason raises a second one.
  // Method: two dead letters in a queue that allows one; they are removed by hand; then two more.
  const fleet: FixtureProcess[] = [];
  for (let i = 0; i < 3; i += 1) fleet.push(await scene.worker({ alerts: loud }));
  for (const round of [1, 2]) {
    await scene.post.sendMany(
      FireOnce,
      upTo(2, round * 10).map((n) => ({ n, act: "fail" })),
    );
    await eventually(async () => (await alerts()).filter(({ open }) => open).length === 1, patience);
    expect((await alerts()).at(-1)).toEqual({
      alert: "deadLetters",
      subscription: "once",
      open: true,
      value: 2,
      threshold: 2,
    });
    const raised = () => told(fleet, /^error alert: deadLetters of "once" is 2, limit 2/).length;
    // The line comes after the row.
    await eventually(() => raised() >= round, patience);
    // Each of the three has looked again since.
    const looked = await scene.count(
      "select extract(epoch from ran_at) from posthorn.maintenance where name = 'watch'",
    );
    await eventually(
      async () =>
        (await scene.count("select extract(epoch from ran_at) from posthorn.maintenance where name = 'watch'")) >
        looked,
      patience,
    );
    expect(await alerts()).toHaveLength(round);
    expect(raised()).toBe(round);
    await scene.rows("delete from posthorn.dead_letter");
    await eventually(async () => (await alerts()).every(({ open }) => !open), patience);
    await eventually(() => told(fleet, /^info resolved: deadLetters of "once"/).length === round, patience);
  }
  expect(await alerts()).toHaveLength(2);
});

test("a queue whose worker is gone raises an alert through the workers of other queues", async () => {
  const impatient = { ...loud, noWorkerMs: 1 };
  const gone = await scene.worker({ readers: ["outside"], alerts: impatient });
  gone.kill();
  await gone.exited;
  const other = await scene.worker({ readers: ["rows"], alerts: loud });
  await scene.post.send(CallOutside, { n: 1 });
  await eventually(async () => (await alerts()).length === 1, patience);
  expect(await alerts()).toMatchObject([{ alert: "noWorkerMs", subscription: "outside", open: true }]);
  await eventually(() => told([other], /^error alert: noWorkerMs of "outside"/).length === 1, patience);
  await scene.worker({ readers: ["outside"], alerts: impatient });
  await eventually(async () => (await alerts()).every(({ open }) => !open), patience);
});
