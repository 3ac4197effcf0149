/**
 * Goal: a receiver is called again and again while a batch is written, and however it answers that, nothing is lost, nothing hangs, and what is written is
 * acknowledged.
 * Method: receivers of a broker that somebody brought along, which do as the rules of a receiver leave it to them, or break them.
 */
import { once } from "node:events";
import { setTimeout as wait } from "node:timers/promises";
import { expect, test } from "vitest";
import type { Broker, Incoming, Receiver } from "../../src/brokers/broker.js";
import { Noted } from "../../src/intakes/noted.js";
import { checkIntake } from "../../src/intakes/options.js";
import { Reader } from "../../src/intakes/reading.js";
import { Run } from "../../src/intakes/run.js";
import { eventually } from "../support/eventually.js";
import { cloudEvent, MemoryBroker } from "./memory-broker.js";
import {
  asExecutor,
  fresh,
  instance,
  intakeRow,
  listening,
  OrderPlaced,
  onServer,
  rows,
  session,
  stored,
} from "./stage.js";

onServer();

type Asked = Parameters<Receiver["receive"]>[0];
type Receive = (asked: Asked) => Promise<readonly Incoming[]>;

/** The broker, with receivers that are asked by way of `ask`; `now` gives what is there, and waits for nothing. */
function asking(broker: MemoryBroker, ask: (now: Receive, asked: Asked) => Promise<readonly Incoming[]>): Broker {
  const { kind, where, features, style } = broker;
  return {
    kind,
    where,
    features,
    style,
    openSender: () => broker.openSender(),
    openReceiver: async (options) => {
      const receiver = await broker.openReceiver(options);
      const now: Receive = (asked) => receiver.receive({ ...asked, waitMs: 0 });
      return {
        receive: (asked) => ask(now, asked),
        acknowledge: (messages) => receiver.acknowledge(messages),
        close: () => receiver.close(),
      };
    },
  };
}

const order = (name: string, n: number) => cloudEvent("OrderPlaced", { orderId: `${name}-${n}`, cents: n });
const ordersOf = async (name: string) =>
  (await stored("OrderPlaced")).flatMap(({ key }) => (key?.startsWith(`${name}-`) ? [key] : []));

/** Whoever writes for the intake waits until this is rolled back. */
async function locked(name: string) {
  const locker = await session();
  await locker.query("begin");
  await locker.query("select 1 from posthorn.intake where name = $1 for update", [name]);
  return { locker, waits: () => eventually(async () => (await writers()).length > 0) };
}

const writers = () =>
  rows(
    "select pid from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock' and query like '%take_in(%'",
  );

test("one that does not wait at all leaves the process its time, while a batch is written and while there is nothing", async () => {
  const broker = new MemoryBroker();
  const name = fresh("restless");
  let asked = 0;
  const from = asking(broker, async (now, given) => {
    asked += 1;
    if (asked === 1) setImmediate(() => (asked = 0));
    // Some in one turn of the loop are none too many. Without an end nobody would ever hear of it: this process would do nothing else.
    if (asked > 10) throw new Error("it is asked without end");
    return now(given);
  });
  const post = instance("restless");
  post.intake(name, { from, into: [OrderPlaced] });
  await post.start();
  const { locker, waits } = await locked(name);
  broker.put(order(name, 0));
  await waits();
  broker.put(order(name, 1));
  await eventually(() => broker.given === 2);
  await locker.query("rollback");
  await eventually(() => broker.left === 0);
  expect(await ordersOf(name)).toEqual([`${name}-0`, `${name}-1`]);
  expect(broker.opened).toHaveLength(1);
});

test("one that ends its wait with the error of the signal keeps its connection", async () => {
  const broker = new MemoryBroker();
  const name = fresh("aborted");
  let aborted = 0;
  const from = asking(broker, async (now, given) => {
    const found = await now(given);
    if (found.length > 0) return found;
    try {
      await wait(Math.min(given.waitMs, 50), undefined, { signal: given.signal });
    } catch (error) {
      aborted += 1;
      throw error;
    }
    return [];
  });
  const post = instance("aborted");
  post.intake(name, { from, into: [OrderPlaced] });
  await post.start();
  for (const n of [0, 1, 2]) {
    broker.put(order(name, n));
    await eventually(() => broker.left === 0);
  }
  expect(await ordersOf(name)).toHaveLength(3);
  expect(aborted).toBeGreaterThan(0);
  expect(broker.opened).toHaveLength(1);
});

test("one whose connection is lost in the moment in which the signal fires, and that says so once, is opened again", async () => {
  const broker = new MemoryBroker();
  const name = fresh("cut");
  let [asked, lost] = [0, false];
  const from = asking(broker, async (now, given) => {
    asked += 1;
    if (broker.opened.length > 1 || asked === 1) return now(given);
    if (!lost) await once(given.signal, "abort");
    else await wait(given.waitMs, undefined, { signal: given.signal }).catch(() => undefined);
    if (lost) return [];
    lost = true;
    throw new Error("the connection was reset");
  });
  broker.put(order(name, 0));
  const post = instance("cut");
  post.intake(name, { from, into: [OrderPlaced] });
  await post.start();
  await eventually(() => lost);
  broker.put(order(name, 1));
  await eventually(() => broker.left === 0);
  expect(broker.opened).toHaveLength(2);
  expect(await ordersOf(name)).toEqual([`${name}-0`, `${name}-1`]);
});

test("one is asked for nothing more when the stop comes between the statement and the wait beside it", async () => {
  const broker = new MemoryBroker();
  const name = fresh("stopped");
  const post = instance("stopped");
  post.intake(name, { from: broker, into: [OrderPlaced] });
  await post.start();
  await post.stop();
  const [worker] = await rows<{ id: string }>(
    "insert into posthorn.worker (service, host, pid, timeout_ms, oldest_open_claim) values ('x', 'x', 1, 600000, 0) returning id::text",
  );
  const { id } = await intakeRow(name);
  await rows("update posthorn.intake set worker = $2 where id = $1", [id, worker?.id]);
  let stopping: Promise<void> | undefined;
  let late = 0;
  const from = asking(broker, async (now, given) => {
    if (stopping === undefined || given.signal.aborted) return now(given);
    late += 1;
    throw new Error("it is asked after the stop");
  });
  const declaration = checkIntake(name, { from, into: [OrderPlaced], otherTypes: "skip" }, "stopped");
  const { query } = asExecutor(await session());
  const run = new Run({
    declaration,
    reader: new Reader(declaration, new Map()),
    holding: { intake: id, worker: worker?.id ?? "" },
    executor: {
      query: (text, params) => {
        stopping = run.stop();
        return query(text, params);
      },
    },
    logger: listening().logger,
    noted: new Noted({ name, where: broker.where, logger: listening().logger }),
    onWritten: () => undefined,
    onLost: () => undefined,
  });
  broker.put(order(name, 0));
  run.start();
  await eventually(() => stopping !== undefined);
  await stopping;
  expect([late, broker.left]).toEqual([0, 0]);
  expect(await intakeRow(name)).toMatchObject({ skipped: "1" });
});
