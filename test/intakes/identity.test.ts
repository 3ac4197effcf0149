/**
 * Goal: what fits nothing takes the place of no message that fits: whatever a sender mends and sends again under the same id is taken in, once.
 * Method: brokers in memory, webhooks to two instances, and sessions that hold a lock in between.
 */
import { webhookIntake } from "posthorn/webhooks";
import { expect, test } from "vitest";
import { pack, readAgain, takeIn } from "../../src/store/intake.js";
import { eventually } from "../support/eventually.js";
import { carried, cloudEvent, MemoryBroker } from "./memory-broker.js";
import {
  asExecutor,
  cli,
  fresh,
  instance,
  intakeRow,
  json,
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

const centsOf = async (orderId: string) =>
  (await stored("OrderPlaced"))
    .filter(({ key }) => key === orderId)
    .map(({ payload }) => (payload as { cents: number }).cents);

/** An intake that runs, and what puts an order under an id and waits until it is acknowledged. */
async function running(name = fresh("mended")) {
  const broker = new MemoryBroker();
  const { logger, told } = listening();
  const post = instance("shop", logger);
  post.intake(name, { from: broker, into: [OrderPlaced] });
  await post.start();
  const order = async (id: string, cents: unknown, more: object = {}) => {
    broker.put(cloudEvent("OrderPlaced", { orderId: id, cents }, { id, ...more }));
    await eventually(() => broker.left === 0);
  };
  return { name, broker, post, told, order };
}

const redrive = async (id: string) => {
  await cli("invalid", "redrive", `in-${id}`);
  await eventually(
    async () => (await rows("select 1 from posthorn.intake_invalid where redrive_at is not null")).length === 0,
  );
};

test("a message that is mended and sent again under its id is taken in, also when the invalid one was discarded; it was absorbed as a duplicate of that, and was nowhere", async () => {
  const { name, order } = await running();
  await order("m-1", "much");
  await order("m-1", 1);
  await order("m-1", 1);
  expect(await centsOf("m-1")).toEqual([1]);
  await order("m-2", "much");
  await json("invalid", "discard", "--intake", name, "--all", "--yes", "--reason", "mended");
  await order("m-2", 2);
  expect(await centsOf("m-2")).toEqual([2]);
  expect(await intakeRow(name)).toMatchObject({ received: "5", written: "2", invalid: "2" });
});

test("the same bytes come into the list once, also after they were discarded, and another content under the same id is an entry of its own", async () => {
  const { name, order } = await running();
  await order("b-1", "much");
  await order("b-1", "much");
  await order("b-1", "more");
  // The attributes are content as well: they lie in headers here.
  await order("b-1", "more", { subject: "other" });
  expect((await unfit(name)).map(({ event, times }) => [event, times])).toEqual([
    ["b-1", 1],
    ["b-1", 1],
    ["b-1", 1],
  ]);
  await json("invalid", "discard", "--intake", name, "--all", "--yes", "--reason", "no");
  await order("b-1", "much");
  await order("b-1", "more");
  expect(await unfit(name)).toEqual([]);
  expect(await intakeRow(name)).toMatchObject({ received: "6", invalid: "3" });
});

test("what was taken in and comes again when it fits no longer is absorbed, and is no entry", async () => {
  const { name, broker, order } = await running();
  await order("t-1", 1);
  await order("t-1", "much");
  // Also within one batch, whichever comes first.
  broker.put(
    cloudEvent("OrderPlaced", { orderId: "t-2", cents: "much" }, { id: "t-2" }),
    cloudEvent("OrderPlaced", { orderId: "t-2", cents: 2 }, { id: "t-2" }),
  );
  await eventually(() => broker.left === 0);
  expect(await centsOf("t-2")).toEqual([2]);
  expect((await unfit(name)).filter(({ event }) => event === "t-1")).toEqual([]);
});

test("a redriven entry whose id was taken in meanwhile ends as a duplicate, and the operator is told before, by the order, and by the log", async () => {
  const { name, order, told } = await running();
  await order("d-1", "much");
  await order("d-2", "much");
  await order("d-1", 1);
  const [first, second] = await unfit(name);
  const listedNow = (await json("invalid", "list", "--intake", name)).intakes.items;
  expect(listedNow.map(({ event, takenIn }: { event: string; takenIn: boolean }) => [event, takenIn])).toEqual([
    ["d-2", false],
    ["d-1", true],
  ]);
  expect((await cli("invalid", "list", "--intake", name)).out).toMatch(
    /\(taken in since\) it does not fit OrderPlaced/,
  );
  expect((await cli("invalid", "show", `in-${first?.id}`)).out).toMatch(
    /Taken in +a message of this id has been taken in since: discard this one/,
  );
  expect((await cli("invalid", "show", `in-${second?.id}`)).out).not.toContain("Taken in");
  // As contracts of today would read them.
  await rows(
    "update posthorn.intake_invalid set body = convert_to(replace(convert_from(body, 'UTF8'), '\"much\"', '7'), 'UTF8')",
  );
  expect((await cli("invalid", "redrive", "--intake", name, "--all", "--yes")).out).toBe(
    "redriven: 2 invalid messages; whoever runs the intake reads them again within a second\n" +
      "Of 1 of them a message of the same id has been taken in since: it ends as a duplicate and is not written again.\n",
  );
  await eventually(async () => (await unfit(name)).length === 0);
  expect([await centsOf("d-1"), await centsOf("d-2")]).toEqual([[1], [7]]);
  expect(await intakeRow(name)).toMatchObject({ written: "2" });
  expect(told.filter(({ message }) => message.includes("redriven"))).toEqual([
    expect.objectContaining({
      level: "warn",
      message: `the intake "${name}" has not written in-${first?.id}, which an operator has redriven: a message of its id was taken in already, so it ends as a duplicate`,
    }),
  ]);
  // What was redriven is known by its identity from then on.
  await order("d-2", 7);
  await order("d-2", "much");
  expect(await centsOf("d-2")).toEqual([7]);
  expect(await unfit(name)).toEqual([]);
});

test("a redriven entry that fits nothing still ends where its id was taken in, as the order says; it stayed for ever. One that was not taken in stays, and the log says so", async () => {
  const { name, order, told, post } = await running();
  await order("n-1", "much");
  await order("n-2", "much");
  await order("n-1", 1);
  const [first, second] = await unfit(name);
  expect((await cli("invalid", "redrive", "--intake", name, "--all", "--yes")).out).toBe(
    "redriven: 2 invalid messages; whoever runs the intake reads them again within a second\n" +
      "Of 1 of them a message of the same id has been taken in since: it ends as a duplicate and is not written again.\n",
  );
  await eventually(async () => (await unfit(name)).length === 1);
  expect(await unfit(name)).toMatchObject([{ id: second?.id, redrive_at: null }]);
  expect(await centsOf("n-1")).toEqual([1]);
  await eventually(() => told.some(({ message }) => message.includes("still")));
  expect(told.filter(({ message }) => message.includes(" in-")).map(({ message }) => message)).toEqual([
    `the intake "${name}" has read in-${second?.id} again, and it still does not fit: not fitting OrderPlaced. Why: posthorn invalid list --intake ${name}`,
    `the intake "${name}" has not written in-${first?.id}, which an operator has redriven: a message of its id was taken in already, so it ends as a duplicate`,
  ]);
  // Whoever is told that somebody reads it within a second looks for it then.
  await post.stop();
  expect((await cli("invalid", "redrive", `in-${second?.id}`)).out).toBe(
    "redriven: 1 invalid message; no process runs the intake: they are read again once one does\n",
  );
  await cli("invalid", "discard", `in-${second?.id}`, "--yes", "--reason", "tests");
  expect(await unfit(name)).toEqual([]);
});

// Both were read as one id: the second was absorbed as a duplicate of the first, acknowledged, and was nowhere.
test("ids and sources that differ in bytes that are no text are in the list, each of them, and none takes the other for itself", async () => {
  const broker = new MemoryBroker();
  const name = fresh("bytes");
  const post = instance("shop");
  post.intake(name, {
    from: broker,
    into: [OrderPlaced],
    read: (message) => {
      const order = message.json() as { orderId: string };
      return { name: "OrderPlaced", payload: order, ...(order.orderId === "y-7" && { id: "\udc00" }) };
    },
  });
  const structured = (orderId: string, more: object) => ({
    headers: {},
    contentType: "application/cloudevents+json",
    body: Buffer.from(
      JSON.stringify({ specversion: "1.0", type: "OrderPlaced", data: { orderId, cents: 1 }, source: "/b", ...more }),
    ),
  });
  const foreign = (orderId: string, id: string) => ({
    headers: {},
    contentType: "application/json",
    body: Buffer.from(JSON.stringify({ orderId, cents: 1 })),
    id,
  });
  broker.put(
    // What a receiver makes of the bytes e8 and e9.
    cloudEvent("OrderPlaced", { orderId: "y-1", cents: 1 }, { id: "caf\ufffd" }),
    cloudEvent("OrderPlaced", { orderId: "y-2", cents: 1 }, { id: "caf\ufffd" }),
    structured("y-3", { id: "\ud800" }),
    structured("y-4", { id: "\ud801" }),
    structured("y-5", { id: "x", source: "\ud800" }),
    foreign("y-6", "caf\ufffd"),
    foreign("y-7", "caf\ufffd"),
    foreign("y-8", "caf\ufffd"),
  );
  await post.start();
  await eventually(() => broker.left === 0);
  const entries = await unfit(name);
  const orders = entries.map(({ body }) => /y-\d/.exec(body.toString())?.[0]);
  expect(orders).toEqual(["y-1", "y-2", "y-3", "y-4", "y-5", "y-6", "y-7", "y-8"]);
  expect([0, 4, 5, 6].map((i) => entries[i]?.reason)).toEqual([
    "it is no CloudEvent: its id is not text in UTF-8",
    "it is no CloudEvent: its source is not text in UTF-8",
    "it has no id, and nothing stable can be derived: it would be written again whenever it comes again",
    expect.stringMatching(/as the id, which is not text in UTF-8$/),
  ]);
});

/** An entry of an order, its intake's holder, and a message of the same identity as whoever holds it would write it. */
async function entryOf(orderId: string) {
  const { name, order, post } = await running();
  await order(orderId, "much");
  const { id: intake, worker } = await intakeRow(name);
  const [entry] = await rows<{ id: string; identity: string }>(
    "select id::text, identity::text from posthorn.intake_invalid where intake = $1",
    [intake],
  );
  const [contract] = await rows<{ id: number; channel: number }>(
    "select id, channel from posthorn.contract where name = 'OrderPlaced'",
  );
  const message = (cents: number) => ({
    mark: (entry?.identity ?? "").replaceAll("-", ""),
    contract: contract?.id ?? 0,
    channel: contract?.channel ?? 0,
    key: orderId,
    json: JSON.stringify({ orderId, cents }),
    headers: null,
  });
  return { name, post, intake, worker: worker ?? "", id: entry?.id ?? "", message };
}

/** Holds an intake beside another worker, as what is pushed to is held. */
async function beside(intake: number): Promise<string> {
  const [worker] = await rows<{ id: string }>(
    "insert into posthorn.worker (service, host, pid, timeout_ms, oldest_open_claim) values ('x', 'x', 1, 600000, 0) returning id::text",
  );
  await rows("insert into posthorn.intake_holder (intake, worker, connected) values ($1, $2, true)", [
    intake,
    worker?.id,
  ]);
  return worker?.id ?? "";
}

const waitsFor = async (pid: number) =>
  (await rows("select 1 from pg_stat_activity where $1::int = any (pg_blocking_pids(pid))", [pid])).length > 0;

test.each(["the mended one", "the redriven one"])(
  "of a mended message and its entry that is redriven in the same moment one is written: %s where it is first",
  async (which) => {
    const { intake, worker, id, message } = await entryOf(which === "the mended one" ? "r-1" : "r-2");
    const other = await beside(intake);
    const [first, second] = [await session(), await session()];
    const mended = (client: typeof first) =>
      takeIn(asExecutor(client), { intake, worker: other }, pack([message(1)], [], 0)).then(({ written }) => written);
    const redriven = (client: typeof first) =>
      readAgain(asExecutor(client), { intake, worker }, [{ id, message: message(2) }], []).then(
        ({ written, absorbed }) => (absorbed.includes(id) ? 0 : written),
      );
    const [one, late] = which === "the mended one" ? [mended, redriven] : [redriven, mended];
    await first.query("begin");
    expect(await one(first)).toBe(1);
    const [{ pid } = { pid: 0 }] = (await first.query("select pg_backend_pid() as pid")).rows as { pid: number }[];
    const waiting = late(second);
    await eventually(() => waitsFor(pid));
    await first.query("commit");
    expect(await waiting).toBe(0);
    expect(await centsOf(message(1).key)).toEqual([which === "the mended one" ? 1 : 2]);
    expect(await rows("select 1 from posthorn.intake_invalid where id = $1", [id])).toEqual([]);
  },
);

test("a redrive that is undone with its transaction leaves the entry and its identity to the next one", async () => {
  const { intake, worker, id, message } = await entryOf("u-1");
  const client = await session();
  await client.query("begin");
  expect(await readAgain(asExecutor(client), { intake, worker }, [{ id, message: message(1) }], [])).toEqual({
    written: 1,
    absorbed: [],
  });
  await client.query("rollback");
  expect(await readAgain(asExecutor(client), { intake, worker }, [{ id, message: message(2) }], [])).toEqual({
    written: 1,
    absorbed: [],
  });
  expect(await centsOf("u-1")).toEqual([2]);
  await expect(
    readAgain(asExecutor(client), { intake, worker: "999999" }, [{ id, message: message(3) }], []),
  ).rejects.toThrow(/run by another worker/);
});

test("an invalid webhook that two processes are given at once is one entry, and mended it is taken in by either, once", async () => {
  const name = fresh("hooked");
  const places = [];
  for (const n of [1, 2]) {
    const hooks = webhookIntake({ verify: "none" });
    const post = instance("shop", undefined, `${url()}?application_name=hooked-${n}`);
    post.intake(name, { from: hooks, into: [OrderPlaced] });
    await post.start();
    places.push(async (cents: unknown) => {
      const { headers, contentType, body } = carried(
        cloudEvent("OrderPlaced", { orderId: "w-1", cents }, { id: "w-1" }),
        "structured",
      );
      const request = { method: "POST", headers: { ...headers, "content-type": contentType ?? "" }, body: `${body}` };
      return (await hooks.fetch(new Request("http://shop/hooks", request))).status;
    });
  }
  expect(await Promise.all(places.map((place) => place("much")))).toEqual([204, 204]);
  expect(await unfit(name)).toHaveLength(1);
  expect(await Promise.all(places.map((place) => place(1)))).toEqual([204, 204]);
  expect(await centsOf("w-1")).toEqual([1]);
});

test("an entry that a version of before has made, whose own mark is its identity, is redriven and written", async () => {
  const { name, order } = await running();
  await order("o-1", "much");
  // As the older function left it.
  await rows(
    "with entry as (update posthorn.intake_invalid v set mark = identity, identity = null from posthorn.intake i where i.id = v.intake and i.name = $1 returning v.mark, v.intake) insert into posthorn.inbox (mark, intake, keep_until) select mark, intake, now() + interval '1 d' from entry",
    [name],
  );
  const [entry] = await unfit(name);
  await rows(
    "update posthorn.intake_invalid set body = convert_to(replace(convert_from(body, 'UTF8'), '\"much\"', '7'), 'UTF8') where id = $1",
    [entry?.id],
  );
  await redrive(entry?.id ?? "");
  expect(await unfit(name)).toEqual([]);
  expect(await centsOf("o-1")).toEqual([7]);
  await order("o-1", 7);
  expect(await centsOf("o-1")).toEqual([7]);
});

test("a worker of the version before redrives by the function that it knows, and what was taken in meanwhile is not written again", async () => {
  const { intake, worker, id, message } = await entryOf("p-1");
  const older = async (entry: string, cents: number) => {
    const [row] = await rows<{ written: number }>(
      "select posthorn.take_again($1, $2, $3::bigint[], $4::uuid[], '{1}', $5::int[], $6::int[], $7::json, $8::json, '[null]', '[]') as written",
      [
        intake,
        worker,
        [entry],
        [message(cents).mark],
        [message(cents).channel],
        [message(cents).contract],
        '["p-1"]',
        `[${message(cents).json}]`,
      ],
    );
    return row?.written;
  };
  expect(await older(id, 1)).toBe(1);
  // Invalid with another content before that, and listed still.
  const [again] = await rows<{ id: string }>(
    "insert into posthorn.intake_invalid (intake, mark, identity, found_at, last_at, reason, headers, body, bytes, whole) values ($1, gen_random_uuid(), $2, now(), now(), 'x', '{}', '', 0, true) returning id::text",
    [intake, message(1).mark],
  );
  expect(await older(again?.id ?? "", 2)).toBe(0);
  expect(await centsOf("p-1")).toEqual([1]);
  expect(await rows("select 1 from posthorn.intake_invalid where intake = $1", [intake])).toEqual([]);
});
