import { posthorn } from "posthorn";
import { afterAll, beforeAll, expect, test } from "vitest";
import { silentLogger } from "../../src/core/logger.js";
import { eventually } from "../support/eventually.js";
import { adminUrl } from "../support/server.js";
import { openTcpProxy, type TcpProxy, type Weather } from "../support/tcp-proxy.js";
import { holds } from "./account.js";
import { CallOutside, WriteRow } from "./fixtures/contracts.js";
import { judge } from "./judge.js";
import { Load } from "./load.js";
import { openScene, type Scene } from "./scene.js";

/** Short, so that what hangs is given up soon. */
const statementTimeoutMs = 1_000;
const workerTimeoutMs = 3_000;
const patience = { withinMs: 60_000 };

let proxy: TcpProxy;
let scene: Scene;
beforeAll(async () => {
  proxy = await openTcpProxy(await adminUrl());
  // The statements of callbacks and handlers are their own; this is how pg bounds them.
  const through = (url: string) => `${proxy.through(url)}?query_timeout=2000`;
  scene = await openScene(undefined, { through, statementTimeoutMs });
  await scene.rows("create table orders (n int primary key)");
  await scene.subscribe();
});
afterAll(() => proxy.close());

/** Waits until so many more messages were confirmed and took effect: all are at work. */
async function progress(load: Load): Promise<void> {
  const confirmed = load.count("confirmed");
  const effects = await scene.count("select count(*) from effect");
  const both = async () =>
    load.count("confirmed") > confirmed + 30 && (await scene.count("select count(*) from effect")) > effects + 30;
  await eventually(both, { ...patience, everyMs: 50 });
}

const weathers: readonly (Weather | "cut")[] = [
  "cut",
  "black hole",
  "cut",
  "black hole up",
  "black hole down",
  { delayMs: 30 },
  "black hole",
];

test("a network that cuts connections, swallows what is sent in one direction or both, and is slow, loses nothing and repeats nothing", async () => {
  // Goal: every wait for the database ends, on both sides; what was confirmed is delivered; workers and producers come back by themselves.
  // Method: producers and two workers behind a proxy; each kind of trouble lasts until producers have met it, then the weather is fair again and
  // all must be at work. Then the tables are read as a whole.
  // A server that hears nothing of a handler's transaction ends it when its handler's time is over.
  const settings = { workerTimeoutMs, visibilityTimeoutMs: 5_000 };
  const workers = [await scene.worker(settings), await scene.worker(settings)];
  const load = new Load(scene, 20);
  load.start();
  for (const weather of weathers) {
    await progress(load);
    const unknown = load.count("unknown");
    if (weather === "cut") proxy.cut();
    else proxy.weather(weather);
    if (typeof weather === "object") await progress(load);
    // A cut between two statements hurts no producer; each black hole does.
    else if (weather !== "cut") await eventually(async () => load.count("unknown") > unknown, patience);
    proxy.weather("fair");
  }
  await progress(load);
  await load.stop();
  await scene.quiet(120_000);
  await judge(scene, load);
  for (const worker of workers) {
    worker.say("stop");
    expect(await worker.exited).toEqual({ code: 0, signal: null });
    expect(worker.lines.filter((line) => /^(unhandled|uncaught)/.test(line))).toEqual([]);
  }
  expect(await holds(scene)).toMatchObject({ openClaims: 0, heldDeferred: 0, deferred: 0 });
}, 300_000);

for (const weather of ["black hole", "black hole up", "black hole down"] as const) {
  test(`a worker in a ${weather} takes itself for dead when others do, and its message runs elsewhere`, async () => {
    // Goal: the dead man's switch: handlers are told by the heartbeats' time, not by that of statements.
    // Method: statements may take two minutes; the worker holds a message when its network is gone.
    const sleeper = await scene.worker({
      readers: ["outside"],
      workerTimeoutMs,
      url: proxy.through(await direction()),
      statementTimeoutMs: 120_000,
      visibilityTimeoutMs: 600_000,
    });
    const n = 800_000 + ["black hole", "black hole up", "black hole down"].indexOf(weather);
    await scene.post.send(CallOutside, { n, act: "hold" });
    await sleeper.line(`holds outside ${n} attempt 1`, patience);
    const other = await scene.worker({ readers: ["outside"], url: await direction() });
    proxy.weather(weather);
    await other.line(`holds outside ${n} attempt 1`, patience);
    await sleeper.line(
      /^warn the worker drops what it holds and begins anew.*(counts as dead|counted as dead)/,
      patience,
    );
    other.say(`go ${n}`);
    await eventually(
      async () => (await scene.count("select count(*) from effect where n = $1 and pid = $2", [n, other.pid])) === 1,
      patience,
    );
    proxy.weather("fair");
    proxy.cut();
    other.say("stop");
    await other.exited;
    await scene.quiet();
    // It is back, and works.
    await eventually(() => scene.post.send(CallOutside, { n: n + 10 }).then(() => true), patience);
    await eventually(
      async () => (await scene.count("select count(*) from effect where n = $1", [n + 10])) === 1,
      patience,
    );
    sleeper.say("stop");
    await sleeper.exited;
  }, 180_000);
}

/** The database of the scene, past the proxy. */
async function direction(): Promise<string> {
  const url = new URL(await adminUrl());
  url.pathname = new URL(scene.url).pathname;
  return url.href;
}

test("every call of a process whose network is gone ends by its deadline, with a typed error that says whether to repeat it", async () => {
  // Goal: no call waits for ever. Method: an instance that has worked, and one that has not connected yet, in a black hole.
  proxy.weather("fair");
  const url = await direction();
  const make = (service: string) =>
    posthorn({ service, database: proxy.through(url), statementTimeoutMs, logger: silentLogger, migrate: "check" });
  const used = make("used");
  const receipt = await used.send(WriteRow, { n: 810_000 });
  await receipt.status();
  const fresh = make("fresh");
  proxy.weather("black hole");
  const calls: Readonly<Record<string, () => Promise<unknown>>> = {
    send: () => used.send(WriteRow, { n: 810_001 }),
    status: () => receipt.status(),
    cancel: () => receipt.cancel(),
    backlog: () => used.backlog(),
    transaction: () => used.transaction(async ({ send }) => void send(WriteRow, { n: 810_002 })),
    start: () => used.start(),
    fresh: () => fresh.send(WriteRow, { n: 810_003 }),
    migrate: () => make("migrating").migrate(),
  };
  const ended = await Promise.all(
    Object.entries(calls).map(
      async ([name, call]) =>
        [
          name,
          await call().then(
            () => "done",
            (error) => error,
          ),
        ] as const,
    ),
  );
  for (const [name, error] of ended) {
    expect(error, name).toMatchObject({ retryable: true });
    expect(error.code, name).toMatch(/^PH_DATABASE_(TIMEOUT|AWAY|LOST|BUSY)$/);
  }
  proxy.weather("fair");
  proxy.cut();
  await eventually(() => used.send(WriteRow, { n: 810_004 }).then(() => true), patience);
  await used.stop();
  await fresh.stop();
}, 180_000);
