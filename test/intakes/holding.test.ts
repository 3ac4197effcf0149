/** Who runs an intake, and what keeps two from writing at once. */
import { event, policies, type } from "posthorn";
import { expect, test } from "vitest";
import { ConfigurationError, ContractConflictError } from "../../src/core/errors.js";
import { holdIntakes, pack, takeIn } from "../../src/store/intake.js";
import { eventually } from "../support/eventually.js";
import { carried, cloudEvent, MemoryBroker } from "./memory-broker.js";
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

/** A worker that lives by its heartbeat, which holds an intake of its own. */
async function held(name: string): Promise<{ intake: number; worker: string; contract: number; channel: number }> {
  const post = instance();
  post.intake(name, { from: new MemoryBroker(), into: [OrderPlaced] });
  await post.start();
  await post.stop();
  const [worker] = await rows<{ id: string }>(
    "insert into posthorn.worker (service, host, pid, timeout_ms, oldest_open_claim) values ('x', 'x', 1, 600000, 0) returning id::text",
  );
  const { id } = await intakeRow(name);
  await rows("update posthorn.intake set worker = $2 where id = $1", [id, worker?.id]);
  const [contract] = await rows<{ id: number; channel: number }>(
    "select id, channel from posthorn.contract where name = 'OrderPlaced'",
  );
  return { intake: id, worker: worker?.id ?? "", contract: contract?.id ?? 0, channel: contract?.channel ?? 0 };
}

const marked = (n: number, { contract, channel }: { contract: number; channel: number }, text = `race-${n}`) => ({
  mark: n.toString(16).padStart(32, "0"),
  contract,
  channel,
  key: text,
  json: JSON.stringify({ orderId: text, cents: n }),
  headers: null,
});

test("of two sessions that write the same message for one intake at the same time one writes it, and the other waits for it and finds it there", async () => {
  const one = await held(fresh("race"));
  const [first, second] = [await session(), await session()];
  await first.query("begin");
  const batch = [1, 2, 3].map((n) => marked(n, one));
  expect(await takeIn(asExecutor(first), one, pack(batch, [], 0))).toMatchObject({ written: 3, invalid: 0 });
  const late = takeIn(asExecutor(second), one, pack([...batch].reverse().concat(marked(4, one)), [], 0));
  // The other session really waits for the first one.
  const [{ pid } = { pid: 0 }] = (await first.query("select pg_backend_pid() as pid")).rows as { pid: number }[];
  await eventually(async () => {
    const waiting = await rows("select 1 from pg_stat_activity where $1::int = any (pg_blocking_pids(pid))", [pid]);
    return waiting.length === 1;
  });
  await first.query("commit");
  expect(await late).toMatchObject({ written: 1, invalid: 0 });
  const texts = (await stored("OrderPlaced")).map(({ key }) => key).filter((key) => key?.startsWith("race-"));
  expect(texts).toEqual(["race-1", "race-2", "race-3", "race-4"]);
});

test("what a transaction took in that was rolled back is taken in by the next one", async () => {
  const one = await held(fresh("rolled-back"));
  const client = await session();
  await client.query("begin");
  await takeIn(asExecutor(client), one, pack([marked(11, one, "back-1")], [], 0));
  await client.query("rollback");
  expect(await takeIn(asExecutor(client), one, pack([marked(11, one, "back-1")], [], 0))).toMatchObject({
    written: 1,
    invalid: 0,
  });
  expect((await stored("OrderPlaced")).filter(({ key }) => key === "back-1")).toHaveLength(1);
});

test("a holder that has lost the intake writes nothing, whatever it has received", async () => {
  const one = await held(fresh("lost"));
  const client = asExecutor(await session());
  await rows("update posthorn.worker set heartbeat_at = '-infinity' where id = $1", [one.worker]);
  const [next] = await rows<{ id: string }>(
    "insert into posthorn.worker (service, host, pid, timeout_ms, oldest_open_claim) values ('y', 'y', 1, 600000, 0) returning id::text",
  );
  const report = [{ id: one.intake, wants: true, connected: false, trouble: null }];
  expect(await holdIntakes(client, next?.id ?? "", report)).toMatchObject([{ held: true, paused: false }]);
  await expect(takeIn(client, one, pack([marked(21, one, "stale-1")], [], 0))).rejects.toMatchObject({
    code: "PH_CLAIM_LOST",
  });
  expect(await holdIntakes(client, one.worker, report)).toMatchObject([{ held: false }]);
  expect((await stored("OrderPlaced")).filter(({ key }) => key === "stale-1")).toEqual([]);
  await rows("delete from posthorn.worker where id = $1", [next?.id]);
});

test("a paused intake takes nothing in and keeps its place, and goes on when it is resumed", async () => {
  const broker = new MemoryBroker();
  const name = fresh("paused");
  const post = instance();
  post.intake(name, { from: broker, into: [OrderPlaced] });
  await post.start();
  await eventually(async () => (await intakeRow(name)).away_since === null);
  await post.operate.pause(name, { by: "anna", reason: "too much" });
  await eventually(async () => (await intakeRow(name)).away_since !== null);
  broker.put(cloudEvent("OrderPlaced", { orderId: "paused-1", cents: 1 }));
  expect(await post.intakes()).toContainEqual(
    expect.objectContaining({
      name,
      connected: false,
      paused: expect.objectContaining({ by: "anna", reason: "too much" }),
    }),
  );
  expect(broker.left).toBe(1);
  expect(await post.operate.resume(name, { by: "anna" })).toMatchObject({ changed: true, by: "anna" });
  await eventually(() => broker.left === 0);
});

// Naming the owner, as the error advised, was refused as well: there was no way back.
test("who owns an event by having published it gives it away by naming its source as the owner, and can bring it in then", async () => {
  const happened = (owner?: string) =>
    event("StrayHappened", { topic: "stray", schema: type<{ n: number }>(), ...(owner !== undefined && { owner }) });
  const post = instance("stray");
  await post.publish(happened(), { n: 1 });
  await expect(instance("thief").publish(happened("thief"), { n: 2 })).rejects.toThrow(/owned by service "stray"/);
  await post.stop();
  const refused = instance("stray");
  refused.intake(fresh("stray"), { from: new MemoryBroker(), into: [happened()] });
  await expect(refused.start()).rejects.toThrow(/name that one as `owner` in the contract/);
  await refused.stop();

  const given = instance("stray");
  const broker = new MemoryBroker();
  given.intake(fresh("stray"), { from: broker, into: [happened("elsewhere")] });
  await given.start();
  broker.put(cloudEvent("StrayHappened", { n: 3 }));
  await eventually(() => broker.left === 0);
  expect(await stored("StrayHappened")).toHaveLength(2);
  await given.stop();
  await expect(instance("stray").publish(happened(), { n: 4 })).rejects.toThrow(/owned by service "elsewhere"/);
});

test("an event has one source: it is published here or it comes in, and whoever comes second is told who was first", async () => {
  const Local = event("LocalHappened", { topic: "local", schema: type<{ n: number }>() });
  const Foreign = event("ForeignHappened", { topic: "foreign", schema: type<{ n: number }>() });
  const Named = event("NamedHappened", { topic: "named", schema: type<{ n: number }>(), owner: "elsewhere" });
  const name = fresh("owned");
  const post = instance("billing");
  await post.publish(Local, { n: 1 });
  post.intake(name, { from: new MemoryBroker(), into: [Local] });
  await expect(post.start()).rejects.toThrow(ContractConflictError);
  await expect(post.start()).rejects.toThrow(/published here by service "billing"/);

  const other = instance("shipping");
  const broker = new MemoryBroker();
  other.intake(fresh("owned"), { from: broker, into: [Foreign, Named] });
  await other.start();
  broker.put(cloudEvent("ForeignHappened", { n: 1 }), cloudEvent("NamedHappened", { n: 2 }));
  await eventually(() => broker.left === 0);
  expect(await stored("ForeignHappened", "NamedHappened")).toHaveLength(2);
  await expect(post.publish(Foreign, { n: 2 })).rejects.toThrow(/comes in from outside by the intake/);
  expect(
    await rows(
      "select name, owner from posthorn.contract where name in ('ForeignHappened', 'NamedHappened') order by name",
    ),
  ).toEqual([
    { name: "ForeignHappened", owner: null },
    { name: "NamedHappened", owner: "elsewhere" },
  ]);
});

test("a name is that of one queue, subscription or intake; and an intake is one of one service", async () => {
  const name = fresh("named");
  const post = instance("first");
  post.intake(name, { from: new MemoryBroker(), into: [OrderPlaced] });
  await post.start();
  const second = instance("second");
  second.intake(name, { from: new MemoryBroker(), into: [OrderPlaced] });
  await expect(second.start()).rejects.toThrow(/is one of service "first"/);
  const third = instance("third");
  third.subscription(name, { topic: "orders", ...policies.notify });
  await expect(third.start()).rejects.toThrow(/an intake is called/i);
});

test("an intake that is not connected for a while raises an alert, which ends when it is connected again", async () => {
  const broker = new MemoryBroker();
  const name = fresh("away");
  // The pass of the fleet that comes each few seconds.
  const alerts = async (resolved: string) => {
    await rows("select posthorn.watch(0)");
    const found = await rows(`select from posthorn.alerts where subscription = $1 and resolved_at ${resolved}`, [name]);
    return found.length === 1;
  };
  broker.refuses = new Error("connect ECONNREFUSED amqp://shop:hunter2@127.0.0.1:5672");
  const { logger, told } = listening();
  const post = instance("away", logger);
  post.intake(name, { from: broker, into: [OrderPlaced], alerts: { awayMs: 1_000 } });
  await post.start();
  await eventually(() => alerts("is null"));
  expect(await rows("select alert, detail from posthorn.alerts where subscription = $1", [name])).toEqual([
    { alert: "intakeAwayMs", detail: "connect ECONNREFUSED amqp://127.0.0.1:5672" },
  ]);
  broker.refuses = undefined;
  broker.put(carried(cloudEvent("OrderPlaced", { orderId: "back", cents: 1 })));
  await eventually(() => alerts("is not null"));
  await eventually(() => broker.left === 0);
  const warnings = told.filter(({ level, message }) => level === "warn" && message.includes(name));
  expect(warnings.map(({ message }) => message)).toEqual([
    expect.stringContaining("is not connected to memory/orders"),
  ]);
  expect(JSON.stringify(told)).not.toContain("hunter2");
  expect(JSON.stringify(await rows("select * from posthorn.intake"))).not.toContain("hunter2");
});

test("what a receiver goes on after is told each time, at most once a minute, and is no trouble; it stood for ever beside a connection, and hid the next loss of that", async () => {
  const broker = new MemoryBroker();
  const name = fresh("noticed");
  const { logger, told } = listening();
  const post = instance(name, logger);
  post.intake(name, { from: broker, into: [OrderPlaced] });
  await post.start();
  await eventually(async () => (await intakeRow(name)).away_since === null);
  const warnings = () => told.filter(({ level, facts }) => level === "warn" && facts.intake === name);
  for (const n of [1, 2, 3]) broker.opened[0]?.onNotice?.(new Error(`the stream was lost ${n}`));
  expect(warnings().map(({ message }) => message)).toEqual([
    `the intake "${name}" goes on with memory/orders: the stream was lost 1`,
  ]);
  broker.lose();
  await eventually(() => broker.opened.length === 2);
  await eventually(async () => (await post.intakes()).some((one) => one.name === name && one.connected));
  expect(broker.opened.map(({ again }) => again)).toEqual([false, true]);
  expect(await intakeRow(name)).toMatchObject({ trouble: null });
  await post.stop();
  expect(warnings().map(({ message }) => message)).toEqual([
    expect.any(String),
    expect.stringContaining("is not connected to memory/orders: the connection was reset"),
    expect.stringMatching(/goes on with memory\/orders: the stream was lost 3 \(the last of 2 in /),
  ]);
});

test("a start that an intake refuses leaves no worker; it was a dead one to everybody, whose messages the next start gave to others", async () => {
  const broker = new MemoryBroker();
  const name = fresh("refusing");
  broker.refuses = new ConfigurationError("PH_BROKER_DENIED", "The password is wrong.");
  const workers = () => rows("select 1 from posthorn.worker where service = $1", [name]);
  const post = instance(name);
  post.intake(name, { from: broker, into: [OrderPlaced] });
  await expect(post.start()).rejects.toThrow("The password is wrong.");
  // At once: a program that is refused ends.
  expect(await workers()).toEqual([]);
  broker.refuses = undefined;
  await post.start();
  expect(await workers()).toHaveLength(1);
});

// `posthorn intakes list` showed it for ever, and the next start was warned of it as of one that came before.
test("a start that is refused registers no intake, and leaves what was there before or what another process has registered meanwhile", async () => {
  const [refused, other] = [new MemoryBroker(), new MemoryBroker()];
  const [name, beside] = [fresh("refusing"), fresh("beside")];
  refused.refuses = new ConfigurationError("PH_BROKER_DENIED", "The password is wrong.");
  const known = async () =>
    (await rows<{ name: string }>("select name from posthorn.intake where name in ($1, $2)", [name, beside])).map(
      (row) => row.name,
    );
  const post = instance(name);
  post.intake(beside, { from: other, into: [OrderPlaced] });
  post.intake(name, { from: refused, into: [OrderPlaced] });
  await expect(post.start()).rejects.toThrow("The password is wrong.");
  expect(await known()).toEqual([]);
  // Another process, while this one is refused.
  refused.onOpen = async () =>
    void (await rows("select posthorn.declare_intake($1, $1, 'memory', 'memory/orders', 1000, 1000, '[]')", [name]));
  await expect(post.start()).rejects.toThrow("The password is wrong.");
  expect(await known()).toEqual([name]);
  refused.onOpen = undefined;
  await expect(post.start()).rejects.toThrow("The password is wrong.");
  expect(await known()).toEqual([name]);
});
