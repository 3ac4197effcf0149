/** The list of what fits nothing, from the command line: what an operator sees, and what redriving and discarding do. */
import { event, posthorn, type } from "posthorn";
import { expect, onTestFinished, test } from "vitest";
import { eventually } from "../support/eventually.js";
import { cloudEvent, MemoryBroker } from "./memory-broker.js";
import {
  cli,
  fresh,
  instance,
  intakeRow,
  json,
  listening,
  type Order,
  OrderPlaced,
  onServer,
  rows,
  stored,
  unfit,
  url,
} from "./stage.js";

onServer();

/** What the commands that change nothing show of the five entries; returns the ids of some. */
async function looked(name: string): Promise<{ readonly first: string; readonly second: string }> {
  const listed = await json("invalid", "list", "--intake", name);
  expect(listed.intakes).toMatchObject({ total: 5 });
  const entries: readonly { id: string; type: string | null; reason: string }[] = listed.intakes.items;
  expect(entries.map(({ type: of }) => of)).toEqual([null, null, "OrderPlaced", "RefundGranted", "RefundGranted"]);
  const [red = "", binary = "", wrong = "", second = "", first = ""] = entries.map(({ id }) => id);
  const text = (await cli("invalid", "list")).out;
  expect(text).toContain('no contract of this intake has its type "RefundGranted"');
  expect((await json("invalid", "show", binary)).items).toMatchObject([
    { id: binary, brokerId: "m-1", bodyBase64: "//4=" },
  ]);
  expect((await cli("invalid", "show", red)).out).not.toContain("\u001b");
  expect((await cli("invalid", "show", wrong)).out).toContain('{"orderId":"o","cents":"much"}');
  return { first, second };
}

test("an operator sees what fits nothing and why, and redriven it is read with the contracts of today and written once", async () => {
  const broker = new MemoryBroker();
  const name = fresh("listed");
  const old = instance("reader");
  old.intake(name, { from: broker, into: [OrderPlaced] });
  const refund = (n: number) => cloudEvent("RefundGranted", { n });
  broker.put(
    refund(1),
    refund(2),
    cloudEvent("OrderPlaced", { orderId: "o", cents: "much" }),
    { headers: {}, contentType: "text/plain", body: Buffer.from([0xff, 0xfe]), id: "m-1" },
    { headers: {}, contentType: "text/plain", body: Buffer.from("\u001b[31mred") },
  );
  await old.start();
  await eventually(() => broker.left === 0);
  const { second, first } = await looked(name);

  // Nobody knows the contract yet: it stays, with the reason of the new reading.
  expect((await cli("invalid", "redrive", first)).out).toBe(
    "redriven: 1 invalid message; whoever runs the intake reads them again within a second\n",
  );
  await eventually(
    async () => (await rows("select 1 from posthorn.intake_invalid where redrive_at is not null")).length === 0,
  );
  expect(await unfit(name)).toHaveLength(5);
  await old.stop();

  const RefundGranted = event("RefundGranted", {
    topic: "refunds",
    schema: type<{ n: number }>(),
    key: ({ n }) => `r${n}`,
  });
  const post = posthorn({ service: "reader", database: url(), logger: listening().logger });
  onTestFinished(() => post.stop({ graceMs: 0 }));
  // The broker is away: reading again does not need it.
  broker.refuses = new Error("away");
  post.intake(name, { from: broker, into: [OrderPlaced, RefundGranted] });
  await post.start();
  expect(await json("invalid", "redrive", "--intake", name, "--all", "--yes")).toEqual({ redriven: 5, takenIn: 0 });
  await eventually(async () => (await unfit(name)).length === 3);
  expect((await stored("RefundGranted")).map(({ key, payload }) => [key, payload])).toEqual([
    ["r1", { n: 1 }],
    ["r2", { n: 2 }],
  ]);
  expect(await intakeRow(name)).toMatchObject({ written: "2" });
  // It is known still: what comes again is absorbed.
  expect((await cli("invalid", "redrive", second)).code).toBe(1);
  // A narrower line than there is must not become one for all.
  for (const [verb, ...rest] of [
    ["list"],
    ["redrive", "--all"],
    ["discard", "--all", "--yes", "--reason", "tests"],
  ] as const) {
    const refused = await cli("invalid", verb, "--intake", name, "--contract", "OrderPlaced", ...rest);
    expect([refused.code, refused.err]).toEqual([2, expect.stringContaining("--contract does not go with --intake")]);
  }
  const discarded = await json("invalid", "discard", "--intake", name, "--all", "--yes", "--reason", "tests");
  expect(discarded).toEqual({ discarded: 3 });
  expect(await unfit(name)).toEqual([]);
  const audit = await rows(
    "select verb, target, arguments ->> 'list' as list, done from posthorn.audit order by operation",
  );
  expect(audit).toContainEqual(expect.objectContaining({ verb: "discard", list: "intake", done: "3" }));
  const status = await cli("status");
  expect(status.out).toMatch(new RegExp(`${name} +memory memory/orders +no, for`));
  expect((await json("status")).intakes).toContainEqual(
    expect.objectContaining({ name, connected: false, trouble: "away" }),
  );
});

test("an entry that another reading recognises as something that is there already is dropped and not written twice", async () => {
  const broker = new MemoryBroker();
  const name = fresh("recognised");
  const plain = {
    headers: {},
    contentType: "text/plain",
    body: Buffer.from(JSON.stringify({ orderId: "known", cents: 1 })),
  };
  const first = instance("recogniser");
  first.intake(name, { from: broker, into: [OrderPlaced] });
  broker.put({ ...plain, id: "m-1" }, { ...plain, id: "m-2" });
  await first.start();
  await eventually(() => broker.left === 0);
  await first.stop();
  const second = instance("recogniser");
  second.intake(name, {
    from: broker,
    into: [OrderPlaced],
    read: (message) => ({ name: "OrderPlaced", payload: message.json(), id: (message.json() as Order).orderId }),
  });
  await second.start();
  await rows("update posthorn.intake_invalid set redrive_at = now()");
  await eventually(async () => (await unfit(name)).length === 0);
  expect((await stored("OrderPlaced")).filter(({ key }) => key === "known")).toHaveLength(1);
});

test("the command line refuses an intake that is unknown, an id that is in no list, and what would narrow or slow down what an intake does not know", async () => {
  expect(await cli("invalid", "list", "--intake", "nowhere")).toMatchObject({
    code: 2,
    err: expect.stringContaining("No intake is called"),
  });
  expect(await cli("invalid", "show", "in-999999")).toMatchObject({
    code: 1,
    // It said that nothing was changed, of what only shows.
    err: "posthorn: in-999999 is not among the invalid messages of an intake. (PH_NOT_LISTED)\n",
  });
  for (const [option, value] of [
    ["--group", "0123456789ab"],
    ["--rate", "5"],
  ] as const) {
    const refused = await cli("invalid", "redrive", "--intake", "any", option, value, "--all", "--yes");
    expect([refused.code, refused.err]).toEqual([2, expect.stringContaining(`${option} does not go with --intake`)]);
  }
  expect((await cli("invalid", "redrive", "in-999999")).err).toContain("of an intake. Nothing was changed.");
  expect(await cli("pause", "nowhere")).toMatchObject({
    err: expect.stringContaining("No queue, subscription or intake is called"),
  });
});
