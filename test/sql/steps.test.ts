import { afterAll, beforeAll, expect, test } from "vitest";
import { ClaimLostError } from "../../src/core/errors.js";
import { redrive } from "../../src/store/operate.js";
import { recordStep, stepsOf, sweepSteps } from "../../src/store/steps.js";
import { type Delivery, settle, takeDue as take } from "../../src/store/work.js";
import {
  claim,
  die,
  type Engine,
  end,
  failure,
  giveUp,
  makeQueue,
  makeRescuesPatient,
  makeWorker,
  openEngine,
  part,
  type Reader,
  rescueAll,
  retryNow,
  type Session,
  say,
  upTo,
  waitsForLock,
} from "./engine.js";

let engine: Engine;
let queues = 0;
beforeAll(async () => {
  engine = await openEngine();
  await makeRescuesPatient(engine);
});
afterAll(() => engine.close());

async function held(count = 1) {
  queues += 1;
  const reader = await makeQueue(engine, `steps${queues}`);
  const worker = await makeWorker(engine, [reader]);
  await say(engine.db, reader, upTo(count));
  const deliveries = await claim(engine.db, reader, worker, count);
  const [first] = deliveries;
  if (first === undefined) throw new Error("nothing was claimed");
  return { reader, worker, deliveries, first };
}

async function takeOne({ subscription, contract }: Reader, worker: string): Promise<Delivery> {
  const [taken] = (await take(engine.db, subscription, worker, [contract], 1)).deliveries;
  if (taken === undefined) throw new Error("nothing is due");
  return taken;
}

const record = (worker: string, delivery: Delivery, name: string, result: string | null = "1", on?: Session) =>
  recordStep(on ?? engine.db, worker, delivery, name, result);
const namesOf = async (delivery: Delivery) => [...(await stepsOf(engine.db, delivery)).keys()].sort();

test("the holder of a message of a claim records steps until the message has ended, whatever becomes of its neighbours", async () => {
  const { worker, deliveries, first } = await held(2);
  const [, second] = deliveries;
  if (second === undefined) throw new Error("two were said");
  expect(await record(worker, first, "a")).toBeUndefined();
  await settle(engine.db, [part([first], 1, "succeeded", false)], [], null);
  expect(await failure(record(worker, first, "b"))).toBeInstanceOf(ClaimLostError);
  expect(await record(worker, second, "a")).toBeUndefined();
  await settle(engine.db, [part([second], 2, "failed", true)], [end(second, "failed", retryNow)], null);
  expect(await failure(record(worker, second, "b"))).toBeInstanceOf(ClaimLostError);
  expect([await namesOf(first), await namesOf(second)]).toEqual([["a"], ["a"]]);
});

test("a holder whose claim was rescued, and then the holder of the row that came of it, cannot record", async () => {
  const { reader, worker, first } = await held();
  await record(worker, first, "a");
  await die(engine, worker);
  await rescueAll(engine.db);
  expect(await failure(record(worker, first, "stale"))).toBeInstanceOf(ClaimLostError);
  const heir = await makeWorker(engine, [reader]);
  // A worker that is alive with the hold of another one meets the token alone.
  expect(await failure(record(heir, first, "stale"))).toBeInstanceOf(ClaimLostError);
  const second = await takeOne(reader, heir);
  expect(await record(heir, second, "b")).toBeUndefined();
  await settle(engine.db, [], [end(second, "failed", retryNow)], null);
  expect(await failure(record(heir, second, "stale"))).toBeInstanceOf(ClaimLostError);
  const third = await takeOne(reader, heir);
  expect(await failure(record(heir, second, "stale"))).toBeInstanceOf(ClaimLostError);
  expect(await namesOf(third)).toEqual(["a", "b"]);
});

test("a record waits for no rescuer and a rescuer for a record: what is recorded was recorded before the rescue", async () => {
  // Method: a record is held open; the rescue of its worker waits for it.
  const { worker, first } = await held();
  const [recorder, rescuer] = [await engine.session(), await engine.session()];
  await recorder.rows("begin");
  await record(worker, first, "a", "1", recorder);
  await die(engine, worker);
  const rescue = rescuer.rows("select posthorn.rescue(10)");
  await waitsForLock(engine, rescuer);
  await recorder.rows("commit");
  await rescue;
  expect(await failure(record(worker, first, "b"))).toBeInstanceOf(ClaimLostError);
  expect(await namesOf(first)).toEqual(["a"]);
});

test("of two that record the same step at once the first stands, and the second gets its result", async () => {
  const { worker, first } = await held();
  const [one, two] = [await engine.session(), await engine.session()];
  await one.rows("begin");
  await record(worker, first, "charge", '{"by":"one"}', one);
  const late = record(worker, first, "charge", '{"by":"two"}', two);
  await waitsForLock(engine, two);
  await one.rows("commit");
  expect(await late).toEqual({ result: { by: "one" } });
  expect(await stepsOf(engine.db, first)).toEqual(new Map([["charge", { by: "one" }]]));
});

test("undefined and null are two results", async () => {
  const { worker, first } = await held();
  await record(worker, first, "undefined", null);
  await record(worker, first, "null", "null");
  expect(await stepsOf(engine.db, first)).toEqual(
    new Map([
      ["undefined", undefined],
      ["null", null],
    ]),
  );
  expect(await record(worker, first, "undefined", "5")).toEqual({});
  expect(await record(worker, first, "null", "5")).toEqual({ result: null });
});

test("the end of a run with steps removes them in the same transaction, from the log and from what waited", async () => {
  const { reader, worker, first } = await held(1);
  await record(worker, first, "a");
  first.stepped = true;
  await settle(engine.db, [part([first], 1, "succeeded", true)], [end(first, "succeeded", null)], null);
  expect(await namesOf(first)).toEqual([]);
  const [again] = await say(engine.db, reader, [1]).then(() => claim(engine.db, reader, worker, 1));
  if (again === undefined) throw new Error("nothing was claimed");
  await record(worker, again, "a");
  again.stepped = true;
  await settle(engine.db, [part([again], 1, "failed", true)], [end(again, "failed", retryNow)], null);
  const second = await takeOne(reader, worker);
  expect(await namesOf(second)).toEqual(["a"]);
  second.stepped = true;
  await settle(engine.db, [], [end(second, "succeeded", null)], null);
  expect(await namesOf(second)).toEqual([]);
});

test("the sweep removes steps of messages that have ended, a few rows a call, and none of what runs, waits, is dead or invalid", async () => {
  await engine.admin.rows("delete from posthorn.step");
  const { reader, worker, deliveries } = await held(6);
  const [runs, waits, dead, invalid, taken, over] = deliveries;
  if (over === undefined || !runs || !waits || !dead || !invalid || !taken) throw new Error("six were said");
  for (const delivery of deliveries) for (const name of ["a", "b"]) await record(worker, delivery, name);
  const misfit = end(invalid, "invalid", { invalid: [] });
  await settle(
    engine.db,
    [
      part([waits, dead, taken], 1, "failed", false),
      part([invalid], 2, "invalid", false),
      part([over], 3, "succeeded", false),
    ],
    [
      end(taken, "failed", retryNow),
      end(waits, "failed", { defer: { delayMs: 3_600_000, attempts: 1, crashes: 0 } }),
      end(dead, "failed", giveUp),
      misfit,
    ],
    null,
  );
  await takeOne(reader, worker);
  const sweep = async () => {
    let calls = 0;
    for (let more = true; more; calls += 1) ({ more } = await sweepSteps(engine.db, 3, 0));
    return calls;
  };
  expect(await sweep()).toBeGreaterThan(2);
  expect(await namesOf(over)).toEqual([]);
  for (const delivery of [runs, waits, dead, invalid, taken]) expect(await namesOf(delivery)).toEqual(["a", "b"]);
  // What was dead runs again, and keeps them.
  await redrive(engine.db, { list: "dead-letters" }, "the test", 10);
  await sweep();
  expect(await namesOf(dead)).toEqual(["a", "b"]);
  await engine.admin.rows("delete from posthorn.deferred where subscription = $1", [reader.subscription]);
  await engine.admin.rows("delete from posthorn.invalid where subscription = $1", [reader.subscription]);
  await sweep();
  // The claim is open: its holder may still be at work.
  expect(await engine.admin.rows("select distinct message::text from posthorn.step")).toEqual([{ message: runs.id }]);
  await settle(engine.db, [part([runs], 4, "succeeded", true)], [], null);
  await sweep();
  expect(await engine.admin.value("select count(*) from posthorn.step")).toBe("0");
});

test("the fleet sweeps steps once in the time that is given", async () => {
  await engine.admin.rows("delete from posthorn.step");
  const { worker, first } = await held();
  await record(worker, first, "a");
  await sweepSteps(engine.db, 10, 0);
  await settle(engine.db, [part([first], 1, "succeeded", true)], [], null);
  expect(await sweepSteps(engine.db, 10, 3_600_000)).toEqual({ removed: 0, more: false });
  expect(await sweepSteps(engine.db, 10, 0)).toEqual({ removed: 1, more: false });
});
