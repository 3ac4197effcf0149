/** `posthorn policy <queue> --history`, and what `check` and `alerts` tell of a fleet. */
import { expect, test } from "vitest";
import { database, decisions, fresh, instance, rows, work } from "./asking.js";
import { posthornCommand } from "./command.js";

const history = async (name: string, ...more: readonly string[]) =>
  posthornCommand(["policy", name, "--history", "--database", database.url, ...more]);

test("the history of a policy says when which worker changed it, from what to what; the newest first", async () => {
  const queue = fresh("told");
  const Work = work(queue);
  const declare = async (change: object) => {
    const post = instance();
    post.queue(queue, { ...decisions, ...change }).handle(Work, () => undefined);
    await post.start();
    await post.stop();
    return post;
  };
  await declare({});
  await declare({ visibilityTimeoutMs: 5_000, concurrency: 3 });
  const { code, out, err } = await history(queue);
  expect({ code, err }).toEqual({ code: 0, err: "" });
  const lines = out.trimEnd().split("\n");
  expect(lines).toHaveLength(3);
  expect(lines[0]).toMatch(/^When +Service +Worker +Library +What$/);
  expect(lines[1]).toMatch(/service-\d+ +pid \d+ on .*visibilityTimeoutMs 600000 → 5000, concurrency \d+ → 3$/);
  expect(lines[2]).toMatch(/declared for the first time$/);
  const json = JSON.parse((await history(queue, "--json", "--limit", "1")).out);
  expect(json).toMatchObject({
    name: queue,
    history: [
      {
        pid: process.pid,
        changes: [
          { path: "visibilityTimeoutMs", was: 600_000, became: 5_000 },
          { path: "concurrency", became: 3 },
        ],
      },
    ],
  });
  expect(json.history).toHaveLength(1);
});

test("a queue that no worker declared has no history, and an unknown name is told", async () => {
  const queue = fresh("sent");
  const post = instance();
  await post.send(work(queue), { n: 1 });
  expect((await history(queue)).out).toBe(`No worker has declared a policy of '${queue}' yet.\n`);
  const unknown = await history("nothing");
  expect(unknown.code).toBe(2);
  expect(unknown.err).toContain('no queue or subscription called "nothing"');
});

test("an alert about a message without a handler says its contract, its version and who has which", async () => {
  const queue = fresh("lacks");
  const [v1, v2] = [work(queue), work(queue, 2)];
  const post = instance();
  post.queue(queue, { ...decisions, alerts: { ...decisions.alerts, noWorkerMs: 1 } }).handle(v1, () => undefined);
  await post.start();
  await post.send(v2, { n: 1 });
  await expect
    .poll(async () => (await posthornCommand(["alerts", "--database", database.url])).out)
    .toContain(`${v2.name} version 2: 1 waiting, 1 worker has version 1`);
  const waiting =
    "select attempts from posthorn.deferred d join posthorn.subscription s on s.id = d.subscription where s.name = $1";
  await expect.poll(() => rows(waiting, [queue])).toEqual([{ attempts: 0 }]);
});
