import { beforeAll, expect, onTestFinished, test } from "vitest";
import { eventually } from "../support/eventually.js";
import { type OwnServer, startServer } from "../support/server.js";
import { judge } from "./judge.js";
import { Load } from "./load.js";
import { openScene, type Scene } from "./scene.js";

const deaths = process.env.POSTHORN_LONG === "1" ? 12 : 4;

let server: OwnServer;
let scene: Scene;
beforeAll(async () => {
  server = await startServer();
  scene = await openScene(server);
  await scene.rows("create table orders (n int primary key)");
  await scene.subscribe();
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
  onTestFinished(() => server.remove());
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
