import { retry } from "posthorn";
import { expect, test } from "vitest";
import { posthornCommand } from "../cli/command.js";
import { eventually } from "../support/eventually.js";
import { type FixtureProcess, spawnFixture } from "../support/processes.js";
import { WriteRow } from "./fixtures/contracts.js";
import { openScene, type Scene, upTo } from "./scene.js";

// Goal: whoever operates may be killed at any time; what was ordered is visible as unfinished, and anybody goes on with it to the same end.
// Method: the command runs in a process of its own and is killed by SIGKILL once it has done a part; then `audit continue` does the rest.

const patience = { withinMs: 60_000 };

const operating = (scene: Scene, ...args: readonly string[]): Promise<FixtureProcess> =>
  spawnFixture("src/cli/main.ts", { args: [...args, "--yes", "--json", "--database", scene.url] });

interface Row {
  readonly id: string;
  readonly state: string;
  readonly found: number;
  readonly done: number;
}

async function newest(scene: Scene): Promise<Row> {
  const [row] = await scene.rows<Row>(
    "select id::text, state, found::int, done::int from posthorn.operation order by id desc limit 1",
  );
  if (row === undefined) throw new Error("nothing was ordered");
  return row;
}

/** Kills the command once it has done a part of what it was to do; its next part waits for that, however late we come. */
async function killHalfway(scene: Scene, args: readonly string[]): Promise<Row> {
  await scene.rows(`create function wait_in_part() returns trigger language plpgsql as $$
    begin perform set_config('lock_timeout', '0', true); perform pg_advisory_xact_lock_shared(4713); return new; end $$`);
  await scene.rows(`create trigger wait_in_part before update on posthorn.operation for each row
    when (old.done > 0 and new.done > old.done) execute function wait_in_part()`);
  await scene.rows("select pg_advisory_lock(4713)");
  const command = await operating(scene, ...args);
  await eventually(async () => (await newest(scene)).done > 0, patience);
  command.kill();
  expect(await command.exited).toEqual({ code: null, signal: "SIGKILL" });
  await scene.rows("select pg_advisory_unlock(4713)");
  // A killed client is no killed backend: its last piece may still commit.
  await eventually(
    async () =>
      (await scene.count(
        "select count(*) from pg_stat_activity where datname = current_database() and application_name = 'posthorn cli'",
      )) === 0,
    patience,
  );
  const row = await newest(scene);
  expect(row.state).toBe("running");
  return row;
}

async function goesOn(scene: Scene, id: string): Promise<{ readonly state: string; readonly done: number }> {
  const { code, out } = await posthornCommand(["audit", "continue", id, "--json", "--database", scene.url]);
  expect(code).toBe(0);
  return JSON.parse(out);
}

test("a purge that was killed halfway is shown as interrupted, and goes on to the same end", async () => {
  const scene = await openScene();
  await scene.subscribe();
  for (let from = 1; from <= 10_000; from += 1_000) {
    await scene.post.sendMany(
      WriteRow,
      upTo(1_000, from).map((n) => ({ n })),
    );
  }
  const { id, done } = await killHalfway(scene, ["purge", "rows", "--reason", "a flood"]);
  expect(done).toBeLessThan(10_000);
  await scene.rows("update posthorn.operation set touched_at = touched_at - interval '1 minute'");
  const shown = await posthornCommand(["audit", "--unfinished", "--database", scene.url]);
  expect(shown.code).toBe(1);
  expect(shown.out).toMatch(new RegExp(`^ *${id} +purge +rows .+ interrupted `, "m"));
  expect(await goesOn(scene, id)).toMatchObject({ state: "done", done: 10_000 });
  expect(await scene.count("select count(*) from posthorn.discarded where reason = 'a flood'")).toBe(10_000);
  expect(await scene.count("select posthorn.is_drained('rows')::int")).toBe(1);
  // To go on with what has ended changes nothing.
  expect(await goesOn(scene, id)).toMatchObject({ state: "done", done: 10_000 });
}, 180_000);

test("a paced redrive that was killed halfway redrives every dead letter once, in the order in which they died", async () => {
  const scene = await openScene();
  const worker = await scene.worker({ readers: ["rows"], retry: retry.fixed({ attempts: 1, delayMs: 1 }) });
  await scene.post.sendMany(
    WriteRow,
    Array.from({ length: 60 }, (_, n) => ({ n, act: "fail" })),
  );
  await eventually(async () => (await scene.count("select count(*) from posthorn.dead_letter")) === 60, patience);
  worker.kill();
  await worker.exited;
  const order = await scene.rows("select message::text from posthorn.dead_letter order by id");
  const command = ["dead-letters", "redrive", "--all", "--queue", "rows", "--rate", "20"];
  const { id, done } = await killHalfway(scene, command);
  expect(done).toBeLessThan(60);
  expect(await goesOn(scene, id)).toMatchObject({ state: "done", done: 60 });
  expect(await scene.rows("select message::text from posthorn.deferred order by due_at")).toEqual(order);
  expect(
    await scene.count(
      `select count(*) from posthorn.deferred d
       where (select count(*) from json_array_elements(d.history) e(one) where e.one ->> 'outcome' = 'redriven') = 1`,
    ),
  ).toBe(60);
}, 180_000);

test("in transaction mode each message of a replay takes effect exactly once more, though workers and the operating process are killed all the while", async () => {
  const scene = await openScene();
  const count = 300;
  let worker = await scene.worker({ readers: ["rows"] });
  await scene.post.sendMany(
    WriteRow,
    Array.from({ length: count }, (_, n) => ({ n })),
  );
  await scene.quiet();
  expect(await scene.count("select count(*) from effect")).toBe(count);
  const [oldest] = await scene.rows<{ at: string }>(
    "select to_char(posthorn.oldest_kept(c.id) at time zone 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"') as at from posthorn.channel c where c.name = 'rows'",
  );
  const command = ["replay", "rows", "--from", oldest?.at ?? "", "--rate", "60"];
  const { id, done } = await killHalfway(scene, command);
  expect(done).toBeLessThan(count);
  const rest = goesOn(scene, id);
  for (let kill = 0; kill < 5; kill += 1) {
    const before = await scene.count("select count(*) from effect");
    // It has something in its hands by then.
    await eventually(
      async () => (await scene.count("select count(*) from effect")) > before || (await newest(scene)).state === "done",
      { ...patience, everyMs: 5 },
    );
    worker.kill();
    await worker.exited;
    worker = await scene.worker({ readers: ["rows"] });
  }
  expect(await rest).toMatchObject({ state: "done", done: count });
  await scene.quiet();
  expect(await scene.rows("select n from effect group by n having count(*) <> 2")).toEqual([]);
  expect(await scene.count("select count(distinct n) from effect")).toBe(count);
}, 240_000);

test("erasing that was killed halfway goes on, and nothing of the key can be read at its end; other keys stay", async () => {
  const scene = await openScene();
  await scene.subscribe();
  const secret = "Xanthippe of Alopece";
  await scene.rows(
    `select posthorn.send('WriteRow', json_build_object('n', g, 'name', $1::text), key => case when g % 10 = 0 then 'other' else 'customer' end)
     from generate_series(1, 6000) g`,
    [secret],
  );
  const { id, done } = await killHalfway(scene, ["erase", "--key", "customer"]);
  expect(done).toBeLessThan(5_400);
  expect(await goesOn(scene, id)).toMatchObject({ state: "done", done: 5_400 });
  expect(await scene.count("select count(*) from posthorn.message_1 where payload::text like '%Xanthippe%'")).toBe(600);
  expect(
    await scene.count(
      "select count(*) from posthorn.message_1 where payload::text like '%Xanthippe%' and key = 'customer'",
    ),
  ).toBe(0);
  const worker = await scene.worker({ readers: ["rows"] });
  await scene.quiet();
  expect(await scene.count("select count(*) from effect")).toBe(600);
  worker.kill();
}, 240_000);
