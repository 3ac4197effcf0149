import { beforeAll, expect, test } from "vitest";
import { eventually } from "../support/eventually.js";
import { type OwnServer, startServer } from "../support/server.js";
import { effectsOf, storedNumbers } from "./account.js";
import { OrderPlaced, WriteRow } from "./fixtures/contracts.js";
import { judge } from "./judge.js";
import { Load } from "./load.js";
import { openScene, type Scene } from "./scene.js";

const deaths = process.env.POSTHORN_LONG === "1" ? 8 : 4;

let server: OwnServer;
let scene: Scene;
beforeAll(async () => {
  server = await startServer();
  scene = await openScene(server);
  await scene.rows("create table orders (n int primary key)");
  await scene.subscribe();
  return () => server.remove();
});

/** Waits until so many more messages were confirmed, and so many more effects written: all are at work. */
async function progress(load: Load): Promise<void> {
  const before = { confirmed: load.count("confirmed"), effects: await scene.count("select count(*) from effect") };
  await eventually(
    async () =>
      load.count("confirmed") > before.confirmed + 50 &&
      (await scene.count("select count(*) from effect")) > before.effects + 50,
    { withinMs: 60_000, everyMs: 50 },
  );
}

test(`a server that is killed ${deaths} times under load has lost nothing that was confirmed, and its workers come back by themselves`, async () => {
  // Goal: what COMMIT confirmed is delivered; what was refused is not; of what is in doubt the business row and the event are both there or
  // both not; effects in transaction mode are there exactly once although claims are not waited for on disk.
  // Method: SIGKILL to every process of the server at once while producers and two workers run; the next kill comes when all are
  // back at work. Nothing but the server is restarted. Then the tables are read as a whole.
  const workers = [await scene.worker(), await scene.worker()];
  const load = new Load(scene, 20);
  load.start();
  for (let death = 0; death < deaths; death += 1) {
    await progress(load);
    await server.kill();
    await server.start();
  }
  await progress(load);
  await load.stop();
  await scene.quiet(120_000);
  await judge(scene, load);
  expect(await halves(scene)).toEqual([]);
  for (const worker of workers) {
    worker.say("stop");
    expect(await worker.exited).toEqual({ code: 0, signal: null });
    expect(worker.lines.filter((line) => /^(unhandled|uncaught)/.test(line))).toEqual([]);
  }
}, 300_000);

/** Business rows without their event, and events without their row. */
function halves({ rows }: Scene): Promise<unknown[]> {
  return rows(`select o.n as "row", e.n as event from orders o full join (
    select (m.payload ->> 'n')::int as n from posthorn.message_1 m join posthorn.contract c on c.id = m.contract where c.name = 'OrderPlaced'
  ) e on e.n = o.n where o.n is null or e.n is null`);
}

test("what was confirmed right before the death of the server is there when it is back, however it was said", async () => {
  // Goal: a message is never confirmed before it is on disk, in a statement of its own, in `post.transaction`, and from a handler.
  // Method: nothing else writes, so nothing else waits for the disk; SIGKILL to the server follows the confirmation at once.
  const { post } = scene;
  const confirm = {
    "900100": () => post.send(WriteRow, { n: 900_100 }),
    "900101": () => post.publish(OrderPlaced, { n: 900_101 }),
    "900102": () => post.transaction(async ({ send }) => void send(WriteRow, { n: 900_102 })),
  };
  for (const [n, say] of Object.entries(confirm)) {
    await eventually(async () => (await scene.count("select 1")) === 1, { withinMs: 60_000 });
    await eventually(() => say().then(() => true), { withinMs: 60_000, everyMs: 100 });
    await server.kill();
    await server.start();
    const stored = "select count(*) from posthorn.message_1 where payload ->> 'n' = $1";
    expect(await eventually(() => scene.count(stored, [n]), { withinMs: 60_000 }), n).toBeGreaterThanOrEqual(1);
  }
  const worker = await scene.worker({ readers: ["rows", "outside"] });
  const receipt = await post.send(WriteRow, { n: 900_105, act: "storm" });
  expect(await receipt.settled({ withinMs: 60_000 })).toMatchObject({ state: "succeeded" });
  await server.kill();
  await server.start();
  await eventually(async () => (await receipt.settled({ withinMs: 60_000 })).state === "succeeded", {
    withinMs: 60_000,
  });
  expect((await effectsOf(scene, "rows")).get(900_105)).toBe(1);
  expect((await storedNumbers(scene, "CallOutside")).filter((n) => n > 1_900_000)).toEqual([1_900_105]);
  worker.say("stop");
  await worker.exited;
}, 180_000);
