/**
 * Goal: an intake that is given another name recognises what it took in before, whatever stands between, and nobody goes on under the old one unnoticed.
 * Method: brokers in memory that give all they have once more, the embedded broker of MQTT, and starts that are held still at the step where a renaming comes in between.
 */
import { mqtt } from "posthorn/mqtt";
import { webhookIntake } from "posthorn/webhooks";
import { expect, onTestFinished, test } from "vitest";
import { holdIntakes } from "../../src/store/intake.js";
import { unfitEntries } from "../../src/store/intakes.js";
import { startAedes } from "../brokers/aedes.js";
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
async function rename(from: string, to: string) {
  const post = instance("operator");
  return post.operate.renameIntake(from, to, { by }).finally(() => post.stop());
}

let runs = 0;
/** Its intake is run here. */
async function running(name: string, broker: MemoryBroker, logger = listening().logger, service = "shipping") {
  // As another process would: one process has one instance of a service on a database.
  runs += 1;
  const post = instance(service, logger, `${url()}?application_name=renaming-${runs}`);
  post.intake(name, { from: broker, into: [OrderPlaced] });
  await post.start();
  return post;
}

const order = (id: string, cents: unknown = 1) =>
  cloudEvent("OrderPlaced", { orderId: id, cents }, { source: "urn:shop", id });
/** One that gives these to whoever opens it first. */
function brokerWith(...ids: readonly string[]): MemoryBroker {
  const broker = new MemoryBroker();
  broker.put(...ids.map((id) => order(id)));
  return broker;
}
async function takesIn(name: string, broker: MemoryBroker): Promise<void> {
  const post = await running(name, broker);
  await eventually(() => broker.left === 0);
  await post.stop();
}
const keys = async (start: string) =>
  (await stored("OrderPlaced")).map(({ key }) => key).filter((key) => key?.startsWith(start));
const code = (work: Promise<unknown>) => work.then(() => "none").catch((error) => error.code);

// Before there was no way: a new name began a new inbox.
test("an intake that was renamed absorbs what it took in before, under its new name alone", async () => {
  const [old, anew] = [fresh("old"), fresh("new")];
  await takesIn(old, brokerWith("r-1", "r-2"));
  await rows(
    "update posthorn.intake set away_since = now() - interval '1 hour', seen_at = now() - interval '1 hour' where name = $1",
    [old],
  );
  const observer = instance("observer");
  await rows(
    "insert into posthorn.alert (name, intake, value, threshold) select 'intakeAwayMs', id, 2, 1 from posthorn.intake where name = $1",
    [old],
  );
  const renamed = await cli("intakes", "rename", old, anew, "--reason", "of two shops");
  expect(renamed).toEqual({
    code: 0,
    err: "",
    out: `renamed: ${old} is ${anew} now, and what it took in is recognised there; 0 invalid messages in its list\n`,
  });
  expect((await observer.intakes()).map(({ name }) => name)).toContain(anew);
  expect((await observer.intakes()).map(({ name }) => name)).not.toContain(old);
  expect((await cli("intakes", "list")).out).not.toContain(old);
  expect(
    await rows("select name, resolved_at is not null as ended from posthorn.alert where intake = $1", [
      (await intakeRow(anew)).id,
    ]),
  ).toEqual([{ name: "intakeAwayMs", ended: true }]);
  expect(await rows("select verb, reason, state, arguments from posthorn.audit where target = $1", [old])).toEqual([
    { verb: "rename", reason: "of two shops", state: "done", arguments: { name: old, to: anew, joined: false } },
  ]);

  const { logger, told } = listening();
  const broker = brokerWith("r-2", "r-1", "r-3");
  const post = await running(anew, broker, logger);
  await eventually(() => broker.left === 0);
  await post.stop();
  expect(await keys("r-")).toEqual(["r-1", "r-2", "r-3"]);
  expect(await intakeRow(anew)).toMatchObject({ received: "5", written: "3" });
  expect(told.filter(({ level }) => level === "warn")).toEqual([]);
});

test("on the wire of MQTT an event that comes again to the new name is absorbed, and the command says what the broker keeps of the old one", async () => {
  const service = await startAedes();
  onTestFinished(() => service.kill());
  const [old, anew] = [fresh("wire-old"), fresh("wire-new")];
  const topic = mqtt({ url: service.url, topic: "orders", version: "3.1.1" });
  const sender = await topic.openSender({
    name: "sender",
    service: "shop",
    signal: new AbortController().signal,
    onTrouble: () => undefined,
  });
  onTestFinished(() => sender.close());
  const send = (...ids: readonly string[]) =>
    sender.send(
      ids.map((id) => ({ event: order(id), key: null })),
      AbortSignal.timeout(60_000),
    );
  const run = async (name: string, received: string, ...ids: readonly string[]) => {
    runs += 1;
    const post = instance("shipping", listening().logger, `${url()}?application_name=wire-${runs}`);
    post.intake(name, { from: topic, into: [OrderPlaced] });
    await post.start();
    expect(await send(...ids)).toMatchObject(ids.map(() => ({ kind: "acknowledged" })));
    await eventually(async () => (await intakeRow(name)).received === received);
    await post.stop();
  };
  await run(old, "2", "w-1", "w-2");
  const { out } = await cli("intakes", "rename", old, anew, "--json");
  expect(JSON.parse(out)).toEqual({
    renamed: old,
    to: anew,
    joined: false,
    invalid: 0,
    atBroker: expect.stringMatching(
      new RegExp(`^At mqtt .+orders the session posthorn-${old}@shipping stays, and goes on filling\\.`),
    ),
  });
  await run(anew, "5", "w-1", "w-2", "w-3");
  expect(await keys("w-")).toEqual(["w-1", "w-2", "w-3"]);
});

test("an intake that was started under its new name before it was renamed becomes one with the old one: what either took in is absorbed, and a message that fits is written once", async () => {
  const [old, anew] = [fresh("old"), fresh("new")];
  await takesIn(old, brokerWith("j-1", "j-2"));
  await takesIn(anew, brokerWith("j-3"));
  const renamed = await rename(old, anew);
  expect(renamed).toEqual({
    from: old,
    to: anew,
    joined: true,
    invalid: 0,
    service: "shipping",
    broker: "memory",
    place: "memory/orders",
  });
  await takesIn(anew, brokerWith("j-3", "j-1", "j-4", "j-2", "j-4"));
  await takesIn(anew, brokerWith("j-4", "j-1", "j-3"));
  expect(await keys("j-")).toEqual(["j-1", "j-2", "j-3", "j-4"]);
  expect(await intakeRow(anew)).toMatchObject({ received: "11", written: "4" });
  // The third name knows all of it as well.
  const third = fresh("third");
  await rename(anew, third);
  await takesIn(third, brokerWith("j-1", "j-3", "j-4"));
  expect(await keys("j-")).toHaveLength(4);
});

test("of two that become one the newer declaration stays, and the figures are those of both", async () => {
  const [old, anew] = [fresh("old"), fresh("new")];
  const declare = (name: string, broker: string, contract: string) =>
    rows("select posthorn.begin_intake($1, 'shipping', $2, 'there', 604800000, 60000, $3, null)", [
      name,
      broker,
      JSON.stringify([{ name: contract, owner: null }]),
    ]);
  await declare(old, "nats", "OrderPlaced");
  await declare(anew, "kafka", "OrderMoved");
  await rows("select posthorn.pause($1, 'anna')", [old]);
  await rows("update posthorn.intake set received = 3, written = 2 where name = any ($1)", [[old, anew]]);
  await rename(old, anew);
  const [line] = (await instance("eye").intakes()).filter(({ name }) => name === anew);
  expect(line).toMatchObject({
    broker: "kafka",
    contracts: ["OrderMoved"],
    received: 6,
    written: 4,
    paused: { by: "anna" },
  });
});

test("what fitted nothing goes with the intake, is listed once where both had it, and is absorbed when it comes again; what its sender mends is written once", async () => {
  const [old, anew] = [fresh("old"), fresh("new")];
  const unfitOrders = (...ids: readonly string[]) => {
    const broker = new MemoryBroker();
    broker.put(...ids.map((id) => order(id, "much")), {
      headers: {},
      contentType: undefined,
      body: Buffer.from("same"),
    });
    return broker;
  };
  await takesIn(old, unfitOrders("u-1", "u-2"));
  await takesIn(anew, unfitOrders("u-2", "u-3"));
  expect(await rename(old, anew)).toMatchObject({ joined: true, invalid: 4 });
  const listed = async () => (await unfit(anew)).map(({ event, times }) => [event, times]);
  expect((await listed()).toSorted()).toEqual(
    [
      [null, 2],
      ["u-1", 1],
      ["u-2", 2],
      ["u-3", 1],
    ].toSorted(),
  );
  await takesIn(anew, unfitOrders("u-1", "u-2", "u-3"));
  expect((await listed()).toSorted()).toEqual(
    [
      [null, 3],
      ["u-1", 1],
      ["u-2", 2],
      ["u-3", 1],
    ].toSorted(),
  );

  // Under the name that it had, and under the one it has.
  await takesIn(anew, brokerWith("u-1", "u-3"));
  await takesIn(anew, brokerWith("u-1", "u-3"));
  expect(await keys("u-")).toEqual(["u-1", "u-3"]);
  const takenIn = await unfitEntries(asExecutor(await session()), { intake: anew, takenIn: true }, 10);
  expect(takenIn.map(({ event }) => event).toSorted()).toEqual(["u-1", "u-3"]);
});

test("what is pushed to two processes at once after two intakes became one is written once, and not at all where the old one had it", async () => {
  const [old, anew] = [fresh("old"), fresh("new")];
  const place = async (name: string) => {
    const hooks = webhookIntake({ verify: "none" });
    runs += 1;
    const post = instance("shipping", listening().logger, `${url()}?application_name=place-${runs}`);
    post.intake(name, { from: hooks, into: [OrderPlaced] });
    await post.start();
    const push = async (id: string) => {
      const body = JSON.stringify({
        specversion: "1.0",
        source: "urn:partner",
        id,
        type: "OrderPlaced",
        data: { orderId: id, cents: 1 },
      });
      const headers = { "content-type": "application/cloudevents+json" };
      return (await hooks.fetch(new Request("http://shop/hooks", { method: "POST", headers, body }))).status;
    };
    return { post, push };
  };
  for (const [name, id] of [
    [old, "h-1"],
    [anew, "h-2"],
  ] as const) {
    const { post, push } = await place(name);
    expect(await push(id)).toBe(204);
    await post.stop();
  }
  await rename(old, anew);
  const places = [await place(anew), await place(anew)];
  const ids = ["h-1", "h-2", ...Array.from({ length: 20 }, (_, n) => `h-${n + 3}`)];
  const answers = await Promise.all(places.flatMap(({ push }, n) => (n === 0 ? ids : ids.toReversed()).map(push)));
  expect(new Set(answers)).toEqual(new Set([204]));
  expect((await keys("h-")).toSorted()).toEqual(ids.toSorted());
  await Promise.all(places.map(({ post }) => post.stop()));
});

test("an entry that is redriven under the new name ends as a duplicate where a message of its id was taken in under either, whether it fits or not", async () => {
  const [old, anew] = [fresh("old"), fresh("new")];
  const broker = new MemoryBroker();
  broker.put(order("d-1", "much"), order("d-2", "much"), order("d-3", "much"));
  await takesIn(old, broker);
  await takesIn(anew, brokerWith("d-1", "d-2"));
  await rename(old, anew);
  // As a contract of today would read it.
  await rows(
    "update posthorn.intake_invalid v set body = convert_to('{\"orderId\":\"' || event || '\",\"cents\":2}', 'UTF8') from posthorn.intake i where i.id = v.intake and i.name = $1 and event <> 'd-1'",
    [anew],
  );
  const post = await running(anew, new MemoryBroker());
  await cli("invalid", "redrive", "--intake", anew, "--all", "--yes");
  await eventually(async () => (await unfit(anew)).length === 0);
  await post.stop();
  expect(await keys("d-")).toEqual(["d-1", "d-2", "d-3"]);
});

test("an intake that gets the name of a renamed one has an inbox of its own, and renaming back joins the two", async () => {
  const [first, second] = [fresh("first"), fresh("second")];
  await takesIn(first, brokerWith("o-1"));
  await rename(first, second);
  // Another source of the same events: what comes by both is written twice.
  await takesIn(first, brokerWith("o-1", "o-2"));
  await takesIn(second, brokerWith("o-1", "o-2"));
  expect(await keys("o-")).toEqual(["o-1", "o-1", "o-2", "o-2"]);
  expect(await rename(second, first)).toMatchObject({ joined: true });
  await takesIn(first, brokerWith("o-1", "o-2", "o-3"));
  expect(await keys("o-")).toEqual(["o-1", "o-1", "o-2", "o-2", "o-3"]);
});

test("a renamed intake that is removed and declared again absorbs what it took in under either name", async () => {
  const [old, anew] = [fresh("old"), fresh("new")];
  await takesIn(old, brokerWith("v-1"));
  await rename(old, anew);
  await takesIn(anew, brokerWith("v-2"));
  await instance("remover").operate.removeIntake(anew, { by, confirm: anew });
  await takesIn(anew, brokerWith("v-1", "v-2", "v-3"));
  expect(await keys("v-")).toEqual(["v-1", "v-2", "v-3"]);
});

test("a renaming is refused while a process runs either intake, for a name that is unknown, not valid, of something else or the same", async () => {
  const [old, anew] = [fresh("runs"), fresh("waits")];
  const [one, other] = [
    await running(old, new MemoryBroker()),
    await running(anew, new MemoryBroker(), undefined, "parcels"),
  ];
  const refused = await cli("intakes", "rename", old, anew);
  expect(refused).toMatchObject({ code: 2, out: "" });
  expect(refused.err).toMatch(new RegExp(`"${old}" is run by worker .+pid ${process.pid} on .+PH_INTAKE_IN_USE`));
  await one.stop();
  await expect(rename(old, anew)).rejects.toMatchObject({
    code: "PH_INTAKE_IN_USE",
    retryable: true,
    message: expect.stringMatching(new RegExp(`"${anew}" is run by .+rename "${old}", and start them again`)),
  });
  await other.stop();
  await rows("select posthorn.register_channel('command', 'letters')");
  expect(await code(rename("unknown-one", "x"))).toBe("PH_NAME_UNKNOWN");
  expect(await code(rename("letters", "x"))).toBe("PH_NAME_UNKNOWN");
  expect(await code(rename(old, "Not Valid"))).toBe("PH_NAME_INVALID");
  expect(await code(rename(old, "letters"))).toBe("PH_CONTRACT_CONFLICT");
  expect(await code(rename(old, old))).toBe("PH_OPTION_INVALID");
  await expect(rows("select posthorn.rename_intake($1, 'Not Valid')", [old])).rejects.toMatchObject({ code: "PH015" });
  await expect(rows("select posthorn.rename_intake('unknown-one', 'x')")).rejects.toMatchObject({ code: "PH060" });
  expect(await cli("intakes", "rename", old)).toMatchObject({ code: 2, err: expect.stringContaining("needs <to>") });
  expect(await intakeRow(old)).toMatchObject({ received: "0" });
});

/** Settles once a session waits for this one. */
async function blocks(pid: unknown): Promise<void> {
  await eventually(async () => {
    const waiting = await rows("select from pg_stat_activity where $1::int = any (pg_blocking_pids(pid))", [pid]);
    return waiting.length > 0;
  });
}
const pidOf = async (client: Awaited<ReturnType<typeof session>>) =>
  (await client.query("select pg_backend_pid() as pid")).rows[0]?.pid;

test("a start that has declared the new name when the old one is renamed to it learns of it before it takes anything in", async () => {
  const [old, anew] = [fresh("old"), fresh("new")];
  await takesIn(old, brokerWith("s-1"));
  // It stands still between declaring the intake and registering as a worker.
  const holder = await session();
  await holder.query("begin");
  await holder.query("lock table posthorn.attendance in share mode");
  const { logger, told } = listening();
  const broker = brokerWith("s-1", "s-2");
  const started = running(anew, broker, logger);
  await blocks(await pidOf(holder));
  expect(await rename(old, anew)).toMatchObject({ joined: true });
  await holder.query("rollback");
  const post = await started;
  await eventually(() => broker.left === 0);
  await post.stop();
  expect(told.map(({ message }) => message)).toContainEqual(
    expect.stringContaining(`"${anew}" was removed or renamed, and is declared anew`),
  );
  expect(await keys("s-")).toEqual(["s-1", "s-2"]);
});

test("a start under the new name that meets a renaming which is not committed yet waits for it, and absorbs what was taken in", async () => {
  const [old, anew] = [fresh("old"), fresh("new")];
  await takesIn(old, brokerWith("t-1"));
  const client = await session();
  await client.query("begin");
  await client.query("select posthorn.rename_intake($1, $2)", [old, anew]);
  const broker = brokerWith("t-1", "t-2");
  const started = running(anew, broker);
  await blocks(await pidOf(client));
  await client.query("commit");
  const post = await started;
  await eventually(() => broker.left === 0);
  await post.stop();
  expect(await keys("t-")).toEqual(["t-1", "t-2"]);
});

test("a renaming that meets a start which declares the new name for the first time joins what that has made", async () => {
  const [old, anew] = [fresh("old"), fresh("new")];
  await takesIn(old, brokerWith("n-1"));
  const [client, second] = [await session(), await session()];
  await client.query("begin");
  await client.query(
    "select posthorn.begin_intake($1, 'shipping', 'memory', 'memory/orders', 604800000, 60000, '[]', null)",
    [anew],
  );
  const late = second.query("select posthorn.rename_intake($1, $2) as json", [old, anew]);
  await blocks(await pidOf(client));
  await client.query("commit");
  expect((await late).rows).toMatchObject([{ json: { joined: true } }]);
  await takesIn(anew, brokerWith("n-1"));
  expect(await keys("n-")).toEqual(["n-1"]);
});

test("a process that begins to run an intake has it and the renaming is refused, or it comes too late and is told that it is gone", async () => {
  const [old, anew] = [fresh("old"), fresh("new")];
  await takesIn(old, new MemoryBroker());
  const { id } = await intakeRow(old);
  const workers = await rows<{ id: string }>(
    "insert into posthorn.worker (service, host, pid, timeout_ms, oldest_open_claim) select 'x', 'x', n, 600000, 0 from generate_series(1, 2) n returning id::text",
  );
  onTestFinished(() => rows("delete from posthorn.worker where service = 'x'").then(() => undefined));
  const [one, other] = workers.map((worker) => worker.id);
  const report = { id, wants: true, connected: false, trouble: null };
  const [client, second] = [await session(), await session()];
  const pid = await pidOf(client);

  await client.query("begin");
  expect(await holdIntakes(asExecutor(client), one ?? "", [report])).toMatchObject([{ held: true }]);
  const late = second.query("select posthorn.rename_intake($1, $2)", [old, anew]).catch((error) => error);
  await blocks(pid);
  await client.query("commit");
  expect(await late).toMatchObject({ code: "PH068" });

  await rows("delete from posthorn.worker where id = $1", [one]);
  await client.query("begin");
  await client.query("select posthorn.rename_intake($1, $2)", [old, anew]);
  const pushed = holdIntakes(asExecutor(second), other ?? "", [{ ...report, pushed: true }]);
  await blocks(pid);
  await client.query("commit");
  expect(await pushed).toMatchObject([{ id, held: false, gone: true }]);
  expect(await holdIntakes(asExecutor(second), other ?? "", [report])).toMatchObject([{ held: false, gone: true }]);
});

test("a library from before, which would mark what comes in by the new name alone, is refused to declare a renamed intake", async () => {
  const [old, anew] = [fresh("old"), fresh("new")];
  const declare = (name: string) =>
    rows("select posthorn.declare_intake($1, 'shipping', 'memory', 'there', 604800000, 60000, '[]', null)", [name]);
  await declare(old);
  await declare(old);
  await rename(old, anew);
  await expect(declare(anew)).rejects.toMatchObject({ code: "PH020", message: expect.stringContaining("was renamed") });
});
