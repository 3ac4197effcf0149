/**
 * Goal: an intake that is gone from the code can be removed, is not removed under whoever runs it, and takes nothing in twice when it is declared again.
 * Method: one of a memory broker, removed by the command line and by programs; and starts that are held still at the step where a removal comes in between.
 */
import { event, type } from "posthorn";
import { webhookIntake } from "posthorn/webhooks";
import { expect, test } from "vitest";
import { holdIntakes } from "../../src/store/intake.js";
import { eventually } from "../support/eventually.js";
import { cloudEvent, MemoryBroker } from "./memory-broker.js";
import {
  asExecutor,
  cli,
  fresh,
  instance,
  intakeRow,
  listening,
  OrderPlaced,
  onServer,
  rows,
  session,
  stored,
  unfit,
  url,
} from "./stage.js";

onServer();

const by = "anna";

let runs = 0;
/** Its intake is run here; it takes in what is put. */
async function running(name: string, into = OrderPlaced, logger = listening().logger) {
  const broker = new MemoryBroker();
  // As another process would: one process has one instance of a service on a database.
  runs += 1;
  const post = instance("shipping", logger, `${url()}?application_name=run-${runs}`);
  post.intake(name, { from: broker, into: [into] });
  await post.start();
  return { post, broker };
}

const order = (id: string) => cloudEvent("OrderPlaced", { orderId: id, cents: 1 }, { source: "urn:shop", id });
const keys = async (start: string) =>
  (await stored("OrderPlaced")).map(({ key }) => key).filter((key) => key?.startsWith(start));
const there = (name: string) => rows("select from posthorn.intake where name = $1", [name]);

test("an intake is not removed while a process runs it, which is named; once that has stopped it goes with what fitted nothing, and the record says who did it", async () => {
  const name = fresh("goes");
  const { post, broker } = await running(name);
  broker.put(order("goes-1"), cloudEvent("OrderPlaced", {}, { source: "urn:shop", id: "unfit" }));
  await eventually(() => broker.left === 0);
  const refused = await cli("intakes", "remove", name, "--yes");
  expect(refused).toMatchObject({ code: 2, out: "" });
  expect(refused.err).toMatch(new RegExp(`"${name}" is run by worker .+pid ${process.pid} on .+PH_INTAKE_IN_USE`));
  expect(await there(name)).toHaveLength(1);
  await post.stop();

  const unsure = await cli("intakes", "remove", name);
  expect(unsure).toMatchObject({ code: 2, out: "" });
  expect(unsure.err).toContain(
    `This would remove the intake '${name}' with 1 invalid message, and nobody can be asked`,
  );
  expect(await unfit(name)).toHaveLength(1);
  expect((await cli("intakes", "list")).out).toMatch(new RegExp(`^${name} .+ nobody since `, "m"));

  const removed = await cli("intakes", "remove", name, "--yes", "--reason", "moved to the warehouse", "--json");
  expect(removed).toMatchObject({ code: 0, err: "" });
  expect(JSON.parse(removed.out)).toEqual({ removed: name, messages: 1, operation: expect.any(String) });
  expect(await there(name)).toEqual([]);
  expect(await rows("select from posthorn.intake_invalid")).toEqual([]);
  expect(await rows("select verb, reason, state, found, done from posthorn.audit where target = $1", [name])).toEqual([
    { verb: "remove", reason: "moved to the warehouse", state: "done", found: "1", done: "1" },
  ]);
  expect(await keys("goes")).toEqual(["goes-1"]);
});

test("an intake that was removed and is declared again takes in what is new, and nothing that it had taken in", async () => {
  const name = fresh("again");
  const { post, broker } = await running(name);
  broker.put(order("again-1"));
  await eventually(() => broker.left === 0);
  await post.stop();
  const other = instance();
  expect(await other.operate.removeIntake(name, { by, confirm: name })).toMatchObject({
    verb: "remove",
    state: "done",
  });
  const next = await running(name);
  next.broker.put(order("again-1"), order("again-2"));
  await eventually(() => next.broker.left === 0);
  expect(await keys("again")).toEqual(["again-1", "again-2"]);
});

// Nothing was said of it, and the queue went on filling.
test("what stays at the broker of a removed intake is said, with what to do about it, where the broker keeps something", async () => {
  const remove = async (broker: string, ...more: readonly string[]) => {
    const name = fresh(`at-${broker}`);
    await rows("select posthorn.declare_intake($1, 'takes', $2, 'there/orders', 604800000, 60000, '[]')", [
      name,
      broker,
    ]);
    return (await cli("intakes", "remove", name, "--yes", ...more)).out;
  };
  expect(await remove("rabbitmq")).toMatch(
    /; what it took in stays\nAt rabbitmq there\/orders the queue stays and goes on filling: remove it, or its bindings\.\n$/,
  );
  expect(JSON.parse(await remove("kafka", "--json"))).toMatchObject({
    atBroker: "At kafka there/orders the consumer group stays until its offsets expire: remove it.",
  });
  expect(await remove("webhook")).toMatch(/; what it took in stays\n$/);
});

test("an event that an intake brought in may be published here once that is removed, and until then the refusal says how", async () => {
  const Moved = event("GoodsMoved", { topic: "goods", schema: type<{ n: number }>() });
  const name = fresh("source");
  const post = instance();
  post.intake(name, { from: new MemoryBroker(), into: [Moved] });
  await post.start();
  await post.stop();
  const other = instance("warehouse");
  await expect(other.publish(Moved, { n: 1 })).rejects.toThrow(`posthorn intakes remove ${name}`);
  await other.operate.removeIntake(name, { by, confirm: name });
  await other.publish(Moved, { n: 1 });
  expect(await stored("GoodsMoved")).toHaveLength(1);
});

test("a name that is unknown, of something else, or not repeated is refused, and an intake is called one by whatever is not for intakes", async () => {
  const name = fresh("called");
  const { post } = await running(name);
  await post.stop();
  await rows("select posthorn.register_channel('command', 'mails')");
  const other = instance();
  const code = (work: Promise<unknown>) => work.catch((error) => error.code);
  expect(await code(other.operate.removeIntake(name, { by, confirm: "other" }))).toBe("PH_CONFIRMATION_MISSING");
  await expect(other.operate.removeIntake("mails", { by, confirm: "mails" })).rejects.toThrow(/removeSubscription\(\)/);
  await expect(other.operate.removeSubscription(name, { by, confirm: name })).rejects.toThrow(/removeIntake\(\)/);
  await expect(rows("select posthorn.remove_intake('mails')")).rejects.toMatchObject({ code: "PH060" });
  await expect(rows("select posthorn.remove_subscription($1)", [name])).rejects.toThrow(/is an intake/);
  const lines: readonly (readonly [readonly string[], string])[] = [
    [["intakes", "remove", "caled-4"], "No intake is called"],
    [["intakes", "remove", "mails"], "Remove it: posthorn subscriptions remove mails."],
    [["subscriptions", "remove", name], `Remove it: posthorn intakes remove ${name}.`],
    [["invalid", "list", "--intake", "mails"], "--queue or --subscription"],
    [["invalid", "list", "--subscription", name], `posthorn invalid list --intake ${name}`],
    [["drain", name], "Drain the queues and subscriptions"],
    [["purge", name, "--yes"], `posthorn invalid discard --intake ${name}`],
    [["replay", name, "--from", "2026-01-01T00:00:00Z"], `posthorn invalid redrive --intake ${name}`],
    [["waiting", name], `posthorn invalid list --intake ${name}`],
    [["errors", "--queue", name], `posthorn invalid list --intake ${name}`],
    [["policy", name], "It has options and no policy"],
    [["policy", name, "--history"], "It has options and no policy"],
  ];
  const said = await Promise.all(lines.map(async ([args]) => ({ args, ...(await cli(...args)) })));
  expect(said).toEqual(lines.map(([args, words]) => ({ args, code: 2, out: "", err: expect.stringContaining(words) })));
  expect(await there(name)).toHaveLength(1);
});

// Before, such a process ran on and never took anything in.
test("a start between whose two steps the intake is removed makes it anew, and takes in", async () => {
  const name = fresh("between");
  await (await running(name)).post.stop();
  const was = (await intakeRow(name)).id;
  // It stands still between declaring the intake and registering as a worker.
  const holder = await session();
  await holder.query("begin");
  await holder.query("lock table posthorn.attendance in share mode");
  const { logger, told } = listening();
  const started = running(name, OrderPlaced, logger);
  await eventually(async () => {
    const waiting = await rows(
      "select from pg_locks l join pg_database d on d.oid = l.database where d.datname = current_database() and not l.granted and l.relation = 'posthorn.attendance'::regclass",
    );
    return waiting.length > 0;
  });
  await instance("other").operate.removeIntake(name, { by, confirm: name });
  await holder.query("rollback");
  const { broker } = await started;
  broker.put(order("between-1"));
  await eventually(() => broker.left === 0);
  expect((await intakeRow(name)).id).not.toBe(was);
  expect(told.map(({ message }) => message)).toContainEqual(
    expect.stringContaining("was removed or renamed, and is declared anew"),
  );
});

// Before, declaring it found no row, and the start failed on the missing number of the intake.
test("a start that meets a removal which is not committed yet waits for it, and makes the intake anew", async () => {
  const name = fresh("meets");
  await (await running(name)).post.stop();
  const client = await session();
  await client.query("begin");
  await client.query("select posthorn.remove_intake($1, confirm => $1)", [name]);
  // As the removal locks it before it goes.
  await client.query("select from posthorn.intake where name = $1 for update", [name]);
  const [{ pid } = { pid: 0 }] = (await client.query("select pg_backend_pid() as pid")).rows as { pid: number }[];
  const started = running(name);
  await eventually(async () => {
    const waiting = await rows("select from pg_stat_activity where $1::int = any (pg_blocking_pids(pid))", [pid]);
    return waiting.length > 0;
  });
  await client.query("select posthorn.proceed((select max(id) from posthorn.operation), 100)");
  await client.query("commit");
  const { broker } = await started;
  broker.put(order("meets-1"));
  await eventually(() => broker.left === 0);
  expect(await keys("meets")).toEqual(["meets-1"]);
});

test("a process that begins to run an intake has it and the removal is refused, or it comes too late and is told that it is gone", async () => {
  const name = fresh("begins");
  await (await running(name)).post.stop();
  const { id } = await intakeRow(name);
  const workers = await rows<{ id: string }>(
    "insert into posthorn.worker (service, host, pid, timeout_ms, oldest_open_claim) select 'x', 'x', n, 600000, 0 from generate_series(1, 2) n returning id::text",
  );
  const [one, other] = workers.map((worker) => worker.id);
  const report = { id, wants: true, connected: false, trouble: null };
  const [client, second] = [await session(), await session()];
  const pidOf = async () => (await client.query("select pg_backend_pid() as pid")).rows[0]?.pid;
  const blocked = () =>
    eventually(async () => {
      const waiting = await rows("select from pg_stat_activity where $1::int = any (pg_blocking_pids(pid))", [pid]);
      return waiting.length > 0;
    });
  const pid = await pidOf();
  const begun = await rows<{ json: { operation: string } }>(
    "select posthorn.remove_intake($1, confirm => $1) as json",
    [name],
  );
  const operation = begun[0]?.json.operation ?? "";

  await client.query("begin");
  expect(await holdIntakes(asExecutor(client), one ?? "", [report])).toMatchObject([{ held: true }]);
  const late = second.query("select posthorn.proceed($1, 100)", [operation]).catch((error) => error);
  await blocked();
  await client.query("commit");
  expect(await late).toMatchObject({ code: "PH068" });

  await rows("delete from posthorn.worker where id = $1", [one]);
  await client.query("begin");
  await client.query("select posthorn.proceed($1, 100)", [operation]);
  const pushed = holdIntakes(asExecutor(second), other ?? "", [{ ...report, pushed: true }]);
  await blocked();
  await client.query("commit");
  expect(await pushed).toMatchObject([{ id, held: false, gone: true }]);
  expect(await holdIntakes(asExecutor(second), other ?? "", [report])).toMatchObject([{ held: false, gone: true }]);
  await rows("delete from posthorn.worker where id = $1", [other]);
});

test("an intake that is pushed to is not removed while any process runs it", async () => {
  const name = fresh("pushed");
  const post = instance();
  post.intake(name, { from: webhookIntake({ verify: "none" }), into: [OrderPlaced] });
  await post.start();
  const other = instance("other");
  await expect(other.operate.removeIntake(name, { by, confirm: name })).rejects.toMatchObject({
    code: "PH_INTAKE_IN_USE",
    retryable: true,
  });
  await post.stop();
  expect(await other.operate.removeIntake(name, { by, confirm: name })).toMatchObject({ state: "done" });
});
