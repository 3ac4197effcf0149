/** The schema is migrated while workers run: they go on where it still works with their code, and say so and stop where it does not. */
import { beforeEach, expect, test } from "vitest";
import { openDatabase } from "../../src/databases/open.js";
import { ensureSchema, schemaVersion } from "../../src/store/migrate.js";
import { effectsOf, notEndedOnce } from "../failure/account.js";
import { CallOutside, WriteRow } from "../failure/fixtures/contracts.js";
import { openScene, type Scene, upTo } from "../failure/scene.js";
import { eventually } from "../support/eventually.js";

const patience = { withinMs: 120_000 };
let scene: Scene;
beforeEach(async () => {
  scene = await openScene();
});

/** As newer code would leave it. `oldest`: the oldest library that works with it. */
async function migratedByTheFuture(oldest: string): Promise<void> {
  await scene.rows("insert into posthorn.migration (n, name) values ($1, 'of the future') on conflict do nothing", [
    schemaVersion + 1,
  ]);
  await scene.rows(
    "update posthorn.installation set functions_digest = 'of the future', library = '99.0.0', oldest_library = $1",
    [oldest],
  );
}

test("a worker on a schema that does not work with its code any more finishes what it runs, takes nothing more, and says why", async () => {
  const worker = await scene.worker({ readers: ["outside"] });
  const running = await scene.post.send(CallOutside, { n: 1, act: "hold" });
  await eventually(async () => (await running.status()).state === "running", patience);
  await migratedByTheFuture("99.0.0");
  await worker.line(/takes no more messages: the schema was migrated by newer code/, patience);
  const next = await scene.post.send(CallOutside, { n: 2 });
  worker.say("go 1");
  expect(await running.settled(patience)).toMatchObject({ state: "succeeded" });
  // It has left, and tries to come back.
  await worker.line(/cannot begin.*works with library 99\.0\.0 and newer/, patience);
  expect(await next.status()).toMatchObject({ state: "queued" });
  expect(await scene.count("select count(*) from posthorn.worker")).toBe(0);
  // Should the schema turn out to work after all, it goes on by itself.
  await scene.rows("update posthorn.installation set oldest_library = '0.0.1'");
  expect(await next.settled(patience)).toMatchObject({ state: "succeeded" });
});

test("a worker that runs and one that starts use a newer schema that works with their code", async () => {
  const worker = await scene.worker({ readers: ["outside"] });
  await migratedByTheFuture("0.0.1");
  const another = await scene.worker({ readers: ["rows"] });
  const receipts = [await scene.post.send(CallOutside, { n: 1 }), await scene.post.send(WriteRow, { n: 2 })];
  for (const receipt of receipts) expect(await receipt.settled(patience)).toMatchObject({ state: "succeeded" });
  for (const { lines } of [worker, another]) expect(lines.filter((line) => line.startsWith("error"))).toEqual([]);
});

test("a living worker whose library is too old for the schema raises an alert", async () => {
  await scene.worker({ readers: ["outside"] });
  await scene.rows("update posthorn.worker set library = '0.0.1'");
  await scene.rows("update posthorn.installation set oldest_library = '0.0.2'");
  await eventually(
    async () =>
      (await scene.count(
        "select count(*) from posthorn.alerts where alert = 'outdatedWorkers' and resolved_at is null",
      )) === 1,
    patience,
  );
});

test("functions are replaced again and again while workers run and producers send; nothing is lost and nothing is done twice", async () => {
  // Goal: a migration under load. Method: what a migration does is done ten times, with the digest of other code planted before each.
  await scene.worker({ readers: ["rows", "outside"] });
  await scene.worker({ readers: ["rows", "outside"] });
  const database = await openDatabase(scene.url);
  const sent = new Set<number>();
  let going = true;
  const producing = (async () => {
    for (let n = 1; going; n += 1) {
      // A statement that meets the change may fail; its transaction is then not there.
      await scene.post
        .send(WriteRow, { n })
        .then(() => sent.add(n))
        .catch(() => undefined);
    }
  })();
  for (const _ of upTo(10)) {
    await scene.rows("update posthorn.installation set functions_digest = 'of other code'");
    await ensureSchema(database, "auto");
    const so = await scene.count("select count(*) from effect");
    await eventually(async () => (await scene.count("select count(*) from effect")) >= so + 20, patience);
  }
  going = false;
  await producing;
  await database.close();
  await scene.quiet();
  const effects = await effectsOf(scene, "rows");
  expect([...effects.keys()].sort((a, b) => a - b)).toEqual([...sent].sort((a, b) => a - b));
  expect(new Set(effects.values())).toEqual(new Set([1]));
  expect(await notEndedOnce(scene)).toEqual([]);
}, 240_000);
