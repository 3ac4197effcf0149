import { afterAll, beforeAll, expect, test } from "vitest";
import { crossedAlerts } from "../../src/store/operate.js";
import { isDrained, operations, pause, resume, unsettled } from "../../src/store/operations.js";
import { publicId, writeMessages } from "../../src/store/publish.js";
import { registerSubscription } from "../../src/store/registry.js";
import { backlog } from "../../src/store/status.js";
import { why } from "../../src/store/why.js";
import { peek, settle, takeDue, work } from "../../src/store/work.js";
import { eventually } from "../support/eventually.js";
import {
  claim,
  type Engine,
  end,
  failure,
  makeQueue,
  makeWorker,
  numberOf,
  openEngine,
  outgoing,
  part,
  retryNow,
  say,
  upTo,
} from "./engine.js";

let engine: Engine;
beforeAll(async () => {
  engine = await openEngine();
});
afterAll(() => engine.close());
const ann = { by: "ann", reason: "the provider is down" };

test("while it is paused nobody takes anything, of the log or of what waits; what runs ends; after the end of the pause all goes on", async () => {
  const reader = await makeQueue(engine, "paused");
  const worker = await makeWorker(engine, [reader]);
  await say(engine.db, reader, upTo(4));
  const held = await claim(engine.db, reader, worker, 2);
  const [retried, running] = held;
  if (retried === undefined || running === undefined) throw new Error("two were said");
  await settle(engine.db, [part([retried], 1, "failed", false)], [end(retried, "failed", retryNow)], null);
  expect(await pause(engine.db, "paused", ann)).toMatchObject({ name: "paused", changed: true, by: "ann" });
  expect(await work(engine.db, reader.subscription, worker, 10, [])).toMatchObject({ openMs: 1_000, deliveries: [] });
  expect(await takeDue(engine.db, reader.subscription, worker, [reader.contract], 10)).toMatchObject({
    openMs: 1_000,
    deliveries: [],
  });
  // Parts that a claim carries are settled all the same.
  await work(engine.db, reader.subscription, worker, 10, [part([running], 2, "succeeded", true)]);
  expect(await unsettled(engine.db, "paused")).toMatchObject({
    running: 0,
    waiting: 2,
    retrying: 1,
    paused: { by: "ann" },
  });
  await say(engine.db, reader, [5]);
  expect(await unsettled(engine.db, "paused")).toMatchObject({ waiting: 3 });
  expect(await resume(engine.db, "paused", { by: "ben" })).toMatchObject({ changed: true, by: "ann" });
  // The rest of the window that was open, and the next one.
  const rest = [...(await claim(engine.db, reader, worker)), ...(await claim(engine.db, reader, worker))];
  expect(rest.map(numberOf)).toEqual([3, 4, 5]);
  expect(
    (await takeDue(engine.db, reader.subscription, worker, [reader.contract], 10)).deliveries.map(numberOf),
  ).toEqual([1]);
});

test("a pause stands in the backlog, in why and in the record; a second one changes nothing; unknown names are refused", async () => {
  const reader = await makeQueue(engine, "seen");
  await makeWorker(engine, [reader]);
  const [place] = await writeMessages(engine.db, [outgoing(reader)]);
  const first = await pause(engine.db, "seen", ann);
  expect(await pause(engine.db, "seen", { by: "ben" })).toEqual({ ...first, changed: false });
  const line = (await backlog(engine.db)).find(({ name }) => name === "seen");
  expect(line?.paused).toMatchObject({ by: "ann", reason: "the provider is down" });
  expect((await why(engine.db, publicId(place ?? { id: "0", nonce: "0" })))?.receivers[0]?.paused).toMatchObject({
    by: "ann",
  });
  await resume(engine.db, "seen", { by: "ben" });
  expect(await resume(engine.db, "seen", { by: "ben" })).toEqual({ name: "seen", changed: false });
  expect(
    (await operations(engine.db, 2, false)).map(({ verb, by, target, state }) => [verb, by, target, state]),
  ).toEqual([
    ["resume", "ben", "seen", "done"],
    ["pause", "ann", "seen", "done"],
  ]);
  expect(await failure(pause(engine.db, "sen", ann))).toMatchObject({ code: "PH_NAME_UNKNOWN" });
});

test("an open circuit is not tried while it is paused, and is afterwards", async () => {
  const reader = await makeQueue(engine, "circuit");
  const worker = await makeWorker(engine, [reader]);
  const policy = JSON.stringify({ circuitBreaker: { failures: 1, windowMs: 1_000, openMs: 1_000 } });
  await registerSubscription(
    engine.db,
    { name: "circuit", kind: "command", channel: "circuit", idempotency: "handler", policy },
    "test",
  );
  await say(engine.db, reader, upTo(2));
  await engine.admin.rows("select posthorn.circuit_hear($1::int, '[{\"failed\":1}]')", [reader.subscription]);
  await engine.admin.rows("update posthorn.circuit set probe_at = clock_timestamp() where subscription = $1", [
    reader.subscription,
  ]);
  await pause(engine.db, "circuit", ann);
  expect(await work(engine.db, reader.subscription, worker, 10, [])).toMatchObject({ openMs: 1_000 });
  expect(
    await engine.admin.value("select state from posthorn.circuit where subscription = $1", [reader.subscription]),
  ).toBe("open");
  await resume(engine.db, "circuit", ann);
  expect((await work(engine.db, reader.subscription, worker, 10, [])).deliveries).toHaveLength(1);
});

test("a bound on the oldest message is crossed while it is paused", async () => {
  const reader = await makeQueue(engine, "aging");
  const policy = JSON.stringify({ alerts: { oldestAgeMs: 1, backlog: 1_000, deadLetters: 1, noWorkerMs: 600_000 } });
  await registerSubscription(
    engine.db,
    { name: "aging", kind: "command", channel: "aging", idempotency: "handler", policy },
    "test",
  );
  await makeWorker(engine, [reader]);
  await pause(engine.db, "aging", ann);
  await say(engine.db, reader, [1]);
  expect(
    (await crossedAlerts(engine.db)).filter(({ subscription }) => subscription === "aging").map(({ alert }) => alert),
  ).toEqual(["oldestAgeMs"]);
});

test("it is drained when nothing waits, is scheduled, retried, parked or runs, and not before", async () => {
  const reader = await makeQueue(engine, "drained");
  const worker = await makeWorker(engine, [reader]);
  const drained = () => isDrained(engine.db, "drained");
  expect(await drained()).toBe(true);
  await say(engine.db, reader, [1]);
  expect(await drained()).toBe(false);
  const held = await claim(engine.db, reader, worker, 1);
  expect((await peek(engine.db, worker, [reader.subscription], null, false)).ready).toEqual([]);
  expect(await drained()).toBe(false);
  await settle(
    engine.db,
    [part(held, 1, "failed", true)],
    held.map((one) => end(one, "failed", retryNow)),
    null,
  );
  expect(await drained()).toBe(false);
  const { deliveries } = await takeDue(engine.db, reader.subscription, worker, [reader.contract], 1);
  expect(await drained()).toBe(false);
  await settle(
    engine.db,
    [],
    deliveries.map((one) => end(one, "succeeded", null)),
    null,
  );
  expect(await drained()).toBe(true);
  await engine.admin.rows("select posthorn.send('Dodrained', '{}'::json, options => '{\"delayMs\":3600000}'::json)");
  expect(await drained()).toBe(false);
  expect(await failure(isDrained(engine.db, "draned"))).toMatchObject({ code: "PH_NAME_UNKNOWN" });
});

test("beside workers that claim all the while, no claim that begins after the pause has returned takes anything, and after its end all is handled once", async () => {
  const reader = await makeQueue(engine, "busy");
  const worker = await makeWorker(engine, [reader]);
  await say(engine.db, reader, upTo(2_000));
  const ran: number[] = [];
  // The number of the pause that holds; zero between two.
  let paused = 0;
  let over = false;
  let takenLate = 0;
  let refused = 0;
  const working = async (): Promise<void> => {
    const session = await engine.session();
    while (!over) {
      const late = paused;
      const { deliveries, openMs } = await work(session, reader.subscription, worker, 5, []);
      // A statement that was on its way when the pause ended may take something.
      if (late !== 0 && late === paused && deliveries.length > 0) takenLate += 1;
      if (openMs !== undefined) refused += 1;
      ran.push(...deliveries.map(numberOf));
      if (deliveries.length > 0) await settle(session, [part(deliveries, 1, "succeeded", true)], [], null);
    }
  };
  const workers = [working(), working(), working()];
  for (let round = 1; round <= 10; round += 1) {
    await pause(engine.db, "busy", ann);
    paused = round;
    const before = refused;
    await eventually(() => refused > before + 10, { everyMs: 1 });
    paused = 0;
    const done = ran.length;
    await resume(engine.db, "busy", ann);
    await eventually(() => ran.length > done || ran.length === 2_000, { everyMs: 1 });
  }
  await eventually(() => ran.length === 2_000, { withinMs: 60_000 });
  over = true;
  await Promise.all(workers);
  expect(takenLate).toBe(0);
  expect([...ran].sort((a, b) => a - b)).toEqual(upTo(2_000));
}, 120_000);
