/**
 * Goal: while a batch is written the one before it is acknowledged and the next is received, and whatever fails in between, batches are written in the
 * order of the broker and acknowledged only when they are on disk.
 * Method: a session of ours locks the row of the intake, so that the second batch is at the server and cannot be written; then something breaks.
 */
import { Client } from "pg";
import { expect, onTestFinished, test } from "vitest";
import { eventually } from "../support/eventually.js";
import { cloudEvent, MemoryBroker } from "./memory-broker.js";
import { fresh, instance, intakeRow, OrderPlaced, onServer, rows, stored, url } from "./stage.js";

onServer();

const size = 10;

/** Three batches, of which the first is written and the second waits at the server for our lock. */
async function stalled(what: string) {
  const broker = new MemoryBroker();
  const name = fresh(what);
  const keys = Array.from({ length: 3 * size }, (_, i) => `${name}-${i}`);
  const written = async () =>
    (await stored("OrderPlaced")).flatMap(({ key }) => (key?.startsWith(`${name}-`) ? [key] : []));
  const locker = new Client({ connectionString: url() });
  await locker.connect();
  onTestFinished(() => locker.end());
  let received = 0;
  broker.before = async (step) => {
    if (step === "receive") received += 1;
    // The first is acknowledged when the second is at the server already.
    if (step === "acknowledge") await eventually(async () => (await writers()).length > 0);
    // The first batch is being written, and the second is asked for.
    if (step !== "receive" || received !== 2) return;
    await eventually(async () => (await written()).length === size);
    await locker.query("begin");
    await locker.query("select 1 from posthorn.intake where name = $1 for update", [name]);
  };
  broker.put(...keys.map((orderId, cents) => cloudEvent("OrderPlaced", { orderId, cents })));
  const post = instance(what);
  post.intake(name, { from: broker, into: [OrderPlaced], batchSize: size });
  await post.start();
  // The third is asked for behind the acknowledgement.
  await eventually(() => received >= 3);
  broker.before = () => undefined;
  return { broker, name, keys, written, locker };
}

/** Backends that write for an intake and wait for a lock. */
const writers = () =>
  rows<{ pid: number }>(
    "select pid from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock' and query like '%take_in(%'",
  );

test("a batch is acknowledged while the next one is written, and the next one is not before it is on disk", async () => {
  const { broker, keys, written, locker } = await stalled("beside");
  expect(broker.acknowledged).toEqual(Array.from({ length: size }, (_, i) => i));
  expect(await written()).toEqual(keys.slice(0, size));
  await locker.query("rollback");
  await eventually(() => broker.left === 0);
  expect(await written()).toEqual(keys);
});

test("a batch whose writer is killed at the server is written before the one that was received meanwhile", async () => {
  const { broker, keys, written, locker } = await stalled("cut");
  const [writer] = await writers();
  await rows("select pg_terminate_backend($1)", [writer?.pid]);
  await eventually(async () => (await writers()).some(({ pid }) => pid !== writer?.pid));
  expect(broker.acknowledged).toHaveLength(size);
  await locker.query("rollback");
  await eventually(() => broker.left === 0);
  expect(await written()).toEqual(keys);
});

test("a holder that has lost the intake writes neither the batch that it had sent nor the one behind it, and acknowledges neither", async () => {
  const { broker, name, keys, written, locker } = await stalled("lost");
  const before = await intakeRow(name);
  // Somebody who counts as alive has taken it: the session that holds the lock.
  await locker.query("update posthorn.intake set worker = -1 where name = $1", [name]);
  let opened = broker.opened.length;
  await locker.query("commit");
  // Nobody lives by that number, so whoever looks next takes it again, and opens the broker anew.
  await eventually(() => broker.opened.length > opened);
  opened = broker.opened.length;
  await eventually(() => broker.left === 0);
  expect(await written()).toEqual(keys);
  expect(await intakeRow(name)).toMatchObject({ worker: before.worker, written: String(3 * size), received: "30" });
});

test("an acknowledgement that fails beside a write that succeeds costs a repetition and nothing else", async () => {
  const { broker, name, keys, written, locker } = await stalled("unheard");
  // The first batch is acknowledged; the acknowledgement of the second fails while the third is written.
  broker.before = (step) => {
    if (step !== "acknowledge") return;
    broker.before = () => undefined;
    broker.lose();
    throw new Error("the connection was reset");
  };
  await locker.query("rollback");
  await eventually(() => broker.left === 0);
  expect(broker.opened).toHaveLength(2);
  expect(await written()).toEqual(keys);
  expect(await intakeRow(name)).toMatchObject({ received: "50", written: "30" });
});

test("what comes bit by bit while a batch is written is received meanwhile, written in one statement, and not acknowledged before it is on disk", async () => {
  const broker = new MemoryBroker();
  const name = fresh("meanwhile");
  const locker = new Client({ connectionString: url() });
  await locker.connect();
  onTestFinished(() => locker.end());
  const post = instance("meanwhile");
  post.intake(name, { from: broker, into: [OrderPlaced], batchSize: size });
  await post.start();
  await locker.query("begin");
  await locker.query("select 1 from posthorn.intake where name = $1 for update", [name]);
  broker.put(cloudEvent("OrderPlaced", { orderId: `${name}-0`, cents: 0 }));
  await eventually(async () => (await writers()).length > 0);
  expect(broker.given).toBe(1);
  for (const n of [1, 2, 3]) {
    broker.put(cloudEvent("OrderPlaced", { orderId: `${name}-${n}`, cents: n }));
    await eventually(() => broker.given === n + 1);
  }
  expect(broker.acknowledged).toEqual([]);
  await locker.query("rollback");
  await eventually(() => broker.left === 0);
  expect(broker.acknowledged).toEqual([0, 1, 2, 3]);
  const written = await rows<{ key: string; xid: string }>(
    "select key, xid::text from posthorn.message_1 where key like $1 order by id",
    [`${name}-%`],
  );
  expect(written.map(({ key }) => key)).toEqual([0, 1, 2, 3].map((n) => `${name}-${n}`));
  expect(new Set(written.slice(1).map(({ xid }) => xid)).size).toBe(1);
});
