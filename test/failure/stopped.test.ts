import { beforeEach, expect, test } from "vitest";
import { eventually } from "../support/eventually.js";
import type { FixtureProcess } from "../support/processes.js";
import { effectsOf, holds } from "./account.js";
import { CallOutside, WriteRow } from "./fixtures/contracts.js";
import { openScene, type Scene } from "./scene.js";

// A stopped process keeps its connections open, and is dead by its heartbeats alone. Nobody is dead because the machine is slow.
const workerTimeoutMs = 5_000;
const patience = { withinMs: 60_000 };

let scene: Scene;
beforeEach(async () => {
  scene = await openScene();
});

interface Cast {
  /** The one that is stopped. */
  readonly sleeper: FixtureProcess;
  readonly replacement: FixtureProcess;
}

/** A message is under way in the sleeper when a replacement is called; then the sleeper is stopped, and the message comes to the replacement. */
async function stopInHandler(reader: "rows" | "outside", { spared = false } = {}): Promise<Cast> {
  const settings = { readers: [reader], workerTimeoutMs, visibilityTimeoutMs: 120_000, retry: later };
  const sleeper = await scene.worker(settings);
  await scene.post.send(reader === "rows" ? WriteRow : CallOutside, { n: 1, act: "hold" });
  await sleeper.line(`holds ${reader} 1 attempt 1`, patience);
  // A rescuer ends the sessions that it finds here; without them the sleeper's own go on, as behind a pooler.
  if (spared) await scene.rows("update posthorn.worker set backends = '[]' where pid = $1", [sleeper.pid]);
  const replacement = await scene.worker({ ...settings, workerTimeoutMs: 15_000 });
  await scene.freeze(sleeper);
  await replacement.line(`holds ${reader} 1 attempt 1`, patience);
  return { sleeper, replacement };
}

/** The second attempt waits for an hour, and is looked at meanwhile. */
const later = { kind: "fixed", attempts: 5, delayMs: 3_600_000 } as const;

const status = async () =>
  (await scene.rows("select delivery, attempts, crashes, reason, token, due_at from posthorn.deferred"))[0];

/** After it has come back the sleeper is a new worker, or still is the old one, and handles what is said from now on. */
async function worksAgain({ sleeper, replacement }: Cast, reader: "rows" | "outside"): Promise<void> {
  replacement.say("stop");
  await replacement.line("stopped", patience);
  await scene.post.send(reader === "rows" ? WriteRow : CallOutside, { n: 2 });
  await eventually(async () => (await effectsOf(scene, reader)).get(2) === 1, patience);
  expect(await scene.rows("select pid from effect where n = 2")).toEqual([{ pid: sleeper.pid }]);
  sleeper.say("stop");
  expect(await sleeper.exited).toEqual({ code: 0, signal: null });
  expect(sleeper.lines.filter((line) => /^(unhandled|uncaught)/.test(line))).toEqual([]);
  expect(await holds(scene)).toMatchObject({ openClaims: 0, heldDeferred: 0, workers: 0 });
}

/** Lets the sleeper run its handler to the end, and waits until it has said goodbye to what it held. */
async function wake({ sleeper }: Cast, word: "go" | "fail"): Promise<void> {
  sleeper.say(`${word} 1`);
  sleeper.kill("SIGCONT");
  await sleeper.line(/^warn the worker drops what it holds and begins anew/, patience);
  await eventually(async () => (await scene.count("select count(*) from posthorn.worker")) === 2, patience);
}

for (const word of ["go", "fail"] as const) {
  const ending = word === "go" ? "success" : "failure";

  test(`a worker that was stopped while its handler ran, and comes back when its replacement has failed, cannot settle: its ${ending} changes nothing`, async () => {
    // Goal: the second delivery waits for its retry; the late end of the first must not settle it, move it or count.
    // Method: the sleeper is stopped by SIGSTOP in its handler until the replacement has the message and has failed; then it goes on.
    const cast = await stopInHandler("outside");
    cast.replacement.say("fail 1");
    const waiting = await eventually(async () => {
      const row = await status();
      return row?.reason === "failed" && row;
    }, patience);
    expect(waiting).toMatchObject({ delivery: 3, attempts: 1, crashes: 1, token: null });
    await wake(cast, word);
    expect(await status()).toEqual(waiting);
    await worksAgain(cast, "outside");
    expect(await status()).toEqual(waiting);
  });

  test(`a worker that was stopped while its handler ran, and comes back while its replacement runs, cannot settle: its ${ending} changes nothing`, async () => {
    // Goal: as above, with the second delivery in the replacement's hands.
    // Method: as above, but the replacement ends its run only after the sleeper has come back.
    const cast = await stopInHandler("outside");
    const held = await status();
    expect(held).toMatchObject({ delivery: 2, attempts: 0, crashes: 1, reason: "crashed" });
    await wake(cast, word);
    expect(await status()).toEqual(held);
    cast.replacement.say("go 1");
    await eventually(async () => (await status()) === undefined, patience);
    await worksAgain(cast, "outside");
    expect(await effectsOf(scene, "outside")).toEqual(
      new Map([
        [1, 2],
        [2, 1],
      ]),
    );
  });

  test(`a worker that was stopped, and whose sessions nobody could end, meets the fence in the database: its ${ending} changes nothing`, async () => {
    // Goal: the last line: the token and the number of the part, not the loss of a connection, keep a stale holder out.
    // Method: as above, with the sessions of the sleeper spared, so that its settlement arrives.
    const cast = await stopInHandler("outside", { spared: true });
    cast.replacement.say("fail 1");
    const waiting = await eventually(async () => {
      const row = await status();
      return row?.reason === "failed" && row;
    }, patience);
    await wake(cast, word);
    expect(await status()).toEqual(waiting);
    expect(await scene.rows("select outcome, closes from posthorn.settlement_1")).toEqual([
      { outcome: "crashed", closes: true },
    ]);
    await worksAgain(cast, "outside");
  });

  test(`a worker that was stopped inside its handler's transaction does not commit when it comes back: its ${ending} leaves the replacement's effect alone`, async () => {
    // Goal: of two workers with the effect written, only the one that holds the delivery commits.
    // Method: the sleeper is stopped with its effect written and uncommitted; the replacement runs and commits; the sleeper goes on.
    const cast = await stopInHandler("rows");
    cast.replacement.say("go 1");
    await eventually(async () => (await effectsOf(scene, "rows")).get(1) === 1, patience);
    await wake(cast, word);
    await worksAgain(cast, "rows");
    expect(await scene.rows("select n, pid from effect order by n")).toEqual([
      { n: 1, pid: cast.replacement.pid },
      { n: 2, pid: cast.sleeper.pid },
    ]);
  });
}

/** Makes the end of a first delivery wait for a lock that the test holds: before it is written, or after it and before COMMIT. */
async function holdEnds(
  moment: "before" | "after",
): Promise<{ waits: () => Promise<void>; release: () => Promise<unknown> }> {
  await scene.rows(`create function wait_in_end() returns trigger language plpgsql as $$
    begin perform pg_advisory_xact_lock_shared(4712); return new; end $$`);
  await scene.rows(`create trigger wait_in_end ${moment} insert on posthorn.ending_1 for each row
    when (new.outcome = 'succeeded' and new.delivery = 1 and new.message = 1) execute function wait_in_end()`);
  await scene.rows("select pg_advisory_lock(4712)");
  const waiting = `select count(*) from pg_locks where locktype = 'advisory' and objid = 4712 and not granted`;
  return {
    waits: async () => void (await eventually(async () => (await scene.count(waiting)) === 1, patience)),
    release: () => scene.rows("select pg_advisory_unlock(4712)"),
  };
}

for (const moment of ["before", "after"] as const) {
  test(`a worker that is stopped right ${moment} its end is written, and before COMMIT, leaves one effect: its own or its replacement's`, async () => {
    // Goal: the end of a delivery is written once. Whoever comes second waits for the first, and learns what became of it.
    // Method: a trigger holds the sleeper's end in the server until the sleeper is stopped. Before: the rescuer's end comes first, and the
    // sleeper's meets it. After: the end is there and COMMIT, which was sent with it, follows without the sleeper.
    const settings = { readers: ["rows"], workerTimeoutMs, visibilityTimeoutMs: 1_000, retry: later };
    const ends = await holdEnds(moment);
    const sleeper = await scene.worker(settings);
    await scene.post.send(WriteRow, { n: 1 });
    await ends.waits();
    const replacement = await scene.worker({ ...settings, workerTimeoutMs: 15_000 });
    await scene.freeze(sleeper);
    if (moment === "after") await ends.release();
    await eventually(async () => (await effectsOf(scene, "rows")).get(1) === 1, patience);
    if (moment === "before") await ends.release();
    sleeper.kill("SIGCONT");
    await eventually(async () => (await scene.count("select count(*) from posthorn.worker")) === 2, patience);
    await worksAgain({ sleeper, replacement }, "rows");
    expect(await scene.rows("select n, pid from effect order by n")).toEqual([
      { n: 1, pid: moment === "before" ? replacement.pid : sleeper.pid },
      { n: 2, pid: sleeper.pid },
    ]);
    const endings = await scene.rows("select delivery, outcome from posthorn.ending_1 where message = 1 order by 1");
    const crashed = { delivery: 1, outcome: "crashed" };
    const before = [crashed, { delivery: 2, outcome: "succeeded" }];
    expect(endings).toEqual(moment === "before" ? before : [{ delivery: 1, outcome: "succeeded" }]);
  });
}
