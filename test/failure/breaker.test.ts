/**
 * Goal: one message is tried while a circuit is half-open, and whoever holds it may be killed, stopped or told to leave: the trial goes on, no
 * attempt is burnt, and what comes back late changes nothing.
 * Method: worker processes whose circuit is opened by two failures; the time of the trial is planted, and its handler waits for a word.
 */
import { retry } from "posthorn";
import { beforeEach, expect, test } from "vitest";
import { eventually } from "../support/eventually.js";
import type { FixtureProcess } from "../support/processes.js";
import { effectsOf, holds, notEndedOnce } from "./account.js";
import { CallOutside, WriteRow } from "./fixtures/contracts.js";
import { openScene, type Scene, upTo } from "./scene.js";

const patience = { withinMs: 60_000 };
const hour = 3_600_000;
const say = { rows: WriteRow, outside: CallOutside } as const;
type Queue = keyof typeof say;

let scene: Scene;
beforeEach(async () => {
  scene = await openScene();
});

const circuit = async () =>
  (
    await scene.rows<{ state: string; probes: number }>(
      "select state, probes from posthorn.circuits where state <> 'closed'",
    )
  )[0];
const held = () => scene.count("select sum(running) from posthorn.backlog");

async function worker(queue: Queue, workerTimeoutMs = 15_000): Promise<FixtureProcess> {
  return scene.worker({
    readers: [queue],
    concurrency: 5,
    retry: retry.fixed({ attempts: 2, delayMs: hour }),
    circuitBreaker: { failures: 2, windowMs: hour, openMs: hour },
    workerTimeoutMs,
  });
}

/** Opens the circuit of a queue by two failures, and puts three messages behind it that wait for a word. */
async function opened(queue: Queue): Promise<void> {
  await scene.post.sendMany(
    say[queue],
    upTo(2).map((n) => ({ n, act: "fail once" })),
  );
  await eventually(async () => (await circuit())?.state === "open", patience);
  await eventually(async () => (await held()) === 0, patience);
  await scene.post.sendMany(
    say[queue],
    upTo(3, 11).map((n) => ({ n, act: "hold" })),
  );
}

const due = () => scene.rows("update posthorn.circuit set probe_at = clock_timestamp() where state = 'open'");

/** Which of them holds a message now, and which message. */
async function holder(queue: Queue, ...fleet: readonly FixtureProcess[]): Promise<{ one: FixtureProcess; n: number }> {
  const line = new RegExp(`^holds ${queue} (\\d+) attempt 1$`);
  return eventually(() => {
    const found = fleet.flatMap((one) => one.lines.map((printed) => ({ one, n: Number(printed.match(line)?.[1]) })));
    return found.find(({ n }) => n > 0);
  }, patience);
}

/** Lets everything end well that is left. */
async function finish(queue: Queue, ...fleet: readonly FixtureProcess[]): Promise<void> {
  for (const one of fleet) for (const n of upTo(3, 11)) one.say(`go ${n}`);
  await eventually(async () => (await circuit()) === undefined, patience);
  await scene.rows("update posthorn.deferred set due_at = clock_timestamp() where token is null");
  await scene.quiet();
  expect(await notEndedOnce(scene)).toEqual([]);
  expect([...(await effectsOf(scene, queue)).keys()].sort((a, b) => a - b)).toEqual([1, 2, 11, 12, 13]);
  // Only the two failures that opened it were counted.
  expect(await scene.rows("select n, max(attempt) as attempt from effect group by n order by n")).toEqual(
    [1, 2, 11, 12, 13].map((n) => ({ n, attempt: n < 10 ? 2 : 1 })),
  );
  expect(await holds(scene)).toMatchObject({ openClaims: 0, heldDeferred: 0, deferred: 0 });
}

for (const queue of ["outside", "rows"] as const) {
  test(`a worker that is killed with the message of the queue ${queue} that it tries leaves the trial to another one, and no attempt is burnt`, async () => {
    const fleet = [await worker(queue), await worker(queue)];
    await opened(queue);
    expect(await held()).toBe(0);
    await due();
    const { one } = await holder(queue, ...fleet);
    expect({ ...(await circuit()), held: await held() }).toEqual({ state: "half-open", probes: 0, held: 1 });
    one.kill();
    await one.exited;
    const left = fleet.filter((other) => other !== one);
    const second = await holder(queue, ...left);
    expect({ ...(await circuit()), held: await held() }).toEqual({ state: "half-open", probes: 0, held: 1 });
    second.one.say(`go ${second.n}`);
    await finish(queue, ...left);
  });
}

test("a worker that is told to stop while it tries a message passes the trial on at once", async () => {
  const first = await worker("outside");
  await opened("outside");
  await due();
  await holder("outside", first);
  const second = await worker("outside");
  first.say("stop 0");
  expect(await first.exited).toEqual({ code: 0, signal: null });
  const { n } = await holder("outside", second);
  expect(await held()).toBe(1);
  second.say(`go ${n}`);
  await finish("outside", second);
});

test("a worker that was stopped by SIGSTOP with the message that it tries cannot close the circuit when it comes back", async () => {
  const first = await worker("outside", 5_000);
  await opened("outside");
  await due();
  const { n } = await holder("outside", first);
  const second = await worker("outside");
  await scene.freeze(first);
  const later = await holder("outside", second);
  first.say(`go ${n}`);
  first.kill("SIGCONT");
  await first.line(/begins anew/, patience);
  expect(await circuit()).toEqual({ state: "half-open", probes: 0 });
  second.say(`fail ${later.n}`);
  await eventually(async () => (await circuit())?.probes === 1, patience);
  expect(await circuit()).toEqual({ state: "open", probes: 1 });
});

test("an older worker of a rolling deployment, whose policy knows no breaker, respects the circuit, and its trial closes it", async () => {
  const older = await scene.worker({ readers: ["outside"], retry: retry.fixed({ attempts: 2, delayMs: hour }) });
  const newer = await worker("outside");
  // The older one does not tell of its failures: those that open the circuit are planted.
  await scene.rows(
    "select posthorn.circuit_hear(id, '[{\"failed\":2}]') from posthorn.subscription where name = 'outside'",
  );
  expect((await circuit())?.state).toBe("open");
  const receipts = await scene.post.sendMany(
    CallOutside,
    upTo(3, 11).map((n) => ({ n, act: "hold" })),
  );
  newer.kill();
  await newer.exited;
  await eventually(async () => (await scene.count("select count(*) from posthorn.worker")) === 1, patience);
  expect(await held()).toBe(0);
  await due();
  const { n } = await holder("outside", older);
  expect(await held()).toBe(1);
  older.say(`go ${n}`);
  await eventually(async () => (await circuit()) === undefined, patience);
  for (const other of upTo(3, 11)) older.say(`go ${other}`);
  for (const receipt of receipts) expect(await receipt.settled(patience)).toMatchObject({ state: "succeeded" });
});
