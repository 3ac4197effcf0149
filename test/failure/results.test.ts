import { expect, test } from "vitest";
import { eventually } from "../support/eventually.js";
import { type FixtureProcess, spawnFixture } from "../support/processes.js";
import { CallOutside, Reckon } from "./fixtures/contracts.js";
import { openScene } from "./scene.js";

const patience = { withinMs: 60_000 };
const modes = ["handler", "transaction", "at-most-once"] as const;

test.each(modes)(
  "a worker in mode %s that is killed by SIGKILL between its handler's end and the settlement leaves no result; one killed right after it leaves both",
  async (idempotency) => {
    // Goal: a result and the end of its message are one: never a result without success, never success without its result.
    // Method: a worker kills itself in the statement before, or after, the one that ends the delivery; another one goes on.
    const scene = await openScene();
    const start = async (dies?: string): Promise<FixtureProcess> =>
      spawnFixture("test/failure/fixtures/reckoner.ts", {
        args: [JSON.stringify({ url: scene.url, idempotency, dies })],
      });
    const results = () =>
      scene.rows<{ pid: number }>("select (result ->> 'pid')::int as pid from posthorn.result order by message");

    const lost = await scene.post.send(Reckon, { n: 1 });
    const first = await start("before the end");
    expect(await first.exited).toEqual({ code: null, signal: "SIGKILL" });
    expect(first.lines).toContain("ran 1");
    expect([await results(), (await lost.status()).state]).toEqual([[], "running"]);

    const kept = await scene.post.send(Reckon, { n: 2 });
    const second = await start("after the end");
    expect(await second.exited).toEqual({ code: null, signal: "SIGKILL" });
    // A killed client is no killed backend: the server may still be committing what the worker sent before.
    await eventually(
      async () =>
        (await scene.count(
          "select count(*) from pg_stat_activity where datname = current_database() and application_name = 'posthorn reckoners'",
        )) === 0,
      patience,
    );
    // It took whatever it came to first; what it ended has its result, and nothing else has.
    const done = await results();
    expect(done.length).toBeGreaterThan(0);
    expect(done.every(({ pid }) => pid === second.pid)).toBe(true);
    const states = await Promise.all([lost, kept].map(async (receipt) => (await receipt.status()).state));
    expect(states.filter((state) => state === "succeeded")).toHaveLength(done.length);

    const third = await start();
    await third.line("works", patience);
    expect(await kept.result(patience)).toMatchObject({ n: 2 });
    const end = await lost.settled(patience);
    if (idempotency === "at-most-once") {
      expect([end.state, end.reason]).toEqual(["dead", "outcome unknown"]);
    } else {
      const answer = await lost.result(patience);
      expect(answer.pid).not.toBe(first.pid);
    }
    await eventually(
      async () => (await scene.count("select sum(backlog + running) from posthorn.backlog")) === 0,
      patience,
    );
    const pids = (await results()).map(({ pid }) => pid);
    expect(pids).toHaveLength(idempotency === "at-most-once" ? 1 : 2);
    expect(pids.slice(0, 2).every((pid) => pid === second.pid || pid === third.pid)).toBe(true);
    third.kill();
    await third.exited;
  },
  180_000,
);

test("a running message that was asked to stop and whose worker is killed is cancelled, and no other worker runs it", async () => {
  const scene = await openScene();
  const worker = await scene.worker({ readers: ["outside"] });
  const receipt = await scene.post.send(CallOutside, { n: 1, act: "hang" });
  await eventually(async () => (await receipt.status()).state === "running", patience);
  expect(await receipt.cancel()).toBe("signalled");
  await worker.line("signal 1 PH_CANCELLED", patience);
  worker.kill();
  await worker.exited;
  const other = await scene.worker({ readers: ["outside"] });
  expect(await receipt.settled(patience)).toMatchObject({ state: "cancelled", reason: "while it ran, by till" });
  await scene.quiet();
  expect(other.lines.filter((line) => line.startsWith("signal"))).toEqual([]);
}, 180_000);
