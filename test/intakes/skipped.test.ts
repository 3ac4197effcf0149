/** What `otherTypes: "skip"` passes over is gone: that it does is seen, and a prefix that is mistyped as well. */
import { type Post, policies, type Sql } from "posthorn";
import { webhookIntake } from "posthorn/webhooks";
import { expect, test } from "vitest";
import { takeIn } from "../../src/store/intake.js";
import { posthornCommand, project } from "../cli/command.js";
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
  type Told,
  url,
} from "./stage.js";

onServer();

const line = async (post: Post<Sql>, name: string) => (await post.intakes()).find((one) => one.name === name);
const warnings = (told: readonly Told[]) => told.filter(({ level }) => level === "warn");
const order = (of: string, orderId: string) => cloudEvent(of, { orderId, cents: 1 });

test("an intake that has never written says once in the log of a process what it passes over, and everywhere how much, of which type and when", async () => {
  const { logger, told } = listening();
  const [broker, name] = [new MemoryBroker(), fresh("skips")];
  const post = instance(fresh("service"), logger);
  post.intake(name, { from: broker, into: [OrderPlaced], typePrefix: "com.acmee.", otherTypes: "skip" });
  broker.put(order("com.acme.OrderPlaced", "s-1"));
  await post.start();
  await eventually(() => broker.left === 0);
  broker.put(order("com.acme.OrderPlaced", "s-2"), order("order\u001b\u2028.lost\0", "s-3"));
  await eventually(() => broker.left === 0);
  expect(warnings(told)).toEqual([
    {
      level: "warn",
      message: `the intake "${name}" passes over messages from memory/orders, and has never written one: no contract has the type "com.acme.OrderPlaced", and otherTypes is "skip"; it takes "com.acmee.OrderPlaced". If that type was meant, mend typePrefix or name it in types. Passed over is not kept: what is gone has to be sent again`,
      facts: { intake: name, where: "memory/orders", type: "com.acme.OrderPlaced" },
    },
  ]);
  const skipped = await line(post, name);
  expect(skipped).toMatchObject({ written: 0, invalid: 0, skipped: 3, skippedType: "order\u001b\u2028.lost\ufffd" });
  expect(Date.now() - Date.parse(skipped?.skippedAt ?? "")).toBeLessThan(60_000);
  expect((await cli("intakes", "list")).out).toMatch(
    new RegExp(
      `Skipped[^]*${name} has written nothing, and passed over 3 messages, the last at \\d\\d:\\d\\d:\\d\\d: no contract has the type "order.*lost`,
    ),
  );
  expect((await cli("status")).out).toContain(`${name} has written nothing, and passed over 3 messages`);
  expect((await cli("status")).out).not.toContain("\u001b");
  expect(JSON.parse((await cli("intakes", "list", "--json")).out).intakes).toContainEqual(
    expect.objectContaining({ name, skipped: 3, skippedAt: skipped?.skippedAt }),
  );
});

test("check warns of an intake that has only passed over what came, until its types take that", async () => {
  const [broker, name, service] = [new MemoryBroker(), fresh("skips"), fresh("service")];
  const post = instance(service);
  post.intake(name, { from: broker, into: [OrderPlaced], typePrefix: "com.acmee.", otherTypes: "skip" });
  broker.put(order("com.acme.OrderPlaced", "c-1"));
  await post.start();
  await eventually(() => broker.left === 0);
  await post.stop();
  const found = async (options: string) => {
    const folder = await project({
      "posthorn.config.js": `import { event, posthorn, type } from "posthorn";
const OrderPlaced = event("OrderPlaced", { topic: "orders", schema: type(), key: ({ orderId }) => orderId });
const from = { kind: "memory", where: "memory/orders", style: { prefix: "", percent: false }, features: ${JSON.stringify(broker.features)}, openSender() {}, openReceiver() {} };
const post = posthorn({ service: ${JSON.stringify(service)}, database: ${JSON.stringify(url())} });
post.intake(${JSON.stringify(name)}, { from, into: [OrderPlaced], otherTypes: "skip", ${options} });
export default post;
`,
    });
    const { out, err } = await posthornCommand(["check", "--json"], { cwd: folder });
    expect(err).toBe("");
    return JSON.parse(out).findings.filter(
      ({ about, rule }: { about: string; rule: string }) => about === name && rule === "intakes",
    );
  };
  expect(await found('typePrefix: "com.acmee."')).toEqual([
    {
      level: "warning",
      rule: "intakes",
      about: name,
      message:
        'has written nothing, and passed over what came (1): no contract has the type "com.acme.OrderPlaced" of the last; it takes "com.acmee.OrderPlaced". If that type is meant, mend typePrefix or name it in types',
    },
  ]);
  expect(await found('typePrefix: "com.acme."')).toEqual([]);
});

test("an intake that writes passes over in silence, and `read` too, and both are counted", async () => {
  const { logger, told } = listening();
  const [broker, name] = [new MemoryBroker(), fresh("skips")];
  const post = instance(fresh("service"), logger);
  post.intake(name, { from: broker, into: [OrderPlaced], otherTypes: "skip", read: () => null });
  broker.put({ headers: {}, contentType: "text/plain", body: Buffer.from("x") });
  await post.start();
  await eventually(() => broker.left === 0);
  expect(await line(post, name)).toMatchObject({ skipped: 1, skippedType: null, skippedAt: null });
  broker.put(order("OrderPlaced", "w-1"), order("OrderLost", "w-2"));
  await eventually(() => broker.left === 0);
  broker.put(order("OrderBurnt", "w-3"));
  await eventually(() => broker.left === 0);
  expect(warnings(told)).toEqual([]);
  expect(await line(post, name)).toMatchObject({ written: 1, skipped: 3, skippedType: "OrderBurnt" });
  expect((await cli("intakes", "list")).out).not.toContain(`${name} has written nothing`);
});

test("what several processes pass over that one intake is pushed to is counted together, also when they are gone", async () => {
  const name = fresh("skips");
  const { logger, told } = listening();
  const hooks = webhookIntake({ verify: "none" });
  const post = instance("shipping", logger);
  post.intake(name, { from: hooks, into: [OrderPlaced], otherTypes: "skip" });
  post.queue(fresh("idle"), policies.notify);
  await post.start();
  const push = async (type: string, id: string) => {
    const body = JSON.stringify({
      specversion: "1.0",
      source: "urn:partner",
      id,
      type,
      data: { orderId: id, cents: 1 },
    });
    const headers = { "content-type": "application/cloudevents+json" };
    return (await hooks.fetch(new Request("http://shop/hooks", { method: "POST", headers, body }))).status;
  };
  expect([await push("OrderLost", "h-1"), await push("OrderBurnt", "h-2")]).toEqual([204, 204]);
  expect(await line(post, name)).toMatchObject({ skipped: 2, skippedType: "OrderBurnt", written: 0 });
  expect(warnings(told).map(({ facts }) => facts.type)).toEqual(["OrderLost"]);
  await post.stop();
  expect(await intakeRow(name)).toMatchObject({
    skipped: "2",
    skipped_type: "OrderBurnt",
    skipped_at: expect.any(Date),
  });
});

test("a worker of the library before writes on, and says no type", async () => {
  const name = fresh("skips");
  const post = instance(fresh("service"));
  const broker = new MemoryBroker();
  post.intake(name, { from: broker, into: [OrderPlaced], otherTypes: "skip" });
  broker.put(order("OrderLost", "o-1"));
  await post.start();
  await eventually(() => broker.left === 0);
  const { id, worker } = await intakeRow(name);
  const client = await session();
  // As src/store/intake.ts called it before it knew types.
  const { rows: answers } = await client.query(
    "select posthorn.take_in($1::int, $2::bigint, '{}'::text::uuid[], '{}'::text::bigint[], '{}'::text::int[], '{}'::text::int[], '[]'::json, '[]'::json, '[]'::json, null::json, 4::int)::text as json",
    [id, worker],
  );
  expect(JSON.parse(answers[0].json)).toEqual({ written: 0, invalid: 0, noted: null, everWritten: null });
  expect(await intakeRow(name)).toMatchObject({ skipped: "5", skipped_type: "OrderLost" });
  expect(await rows("select from pg_proc where proname = 'take_in'")).toHaveLength(1);
  const params = ["{}", "{}", "{}", "{}", "[]", "[]", "[]", null, 1, null, "OrderBurnt"];
  const taken = await takeIn(asExecutor(client), { intake: id, worker: worker ?? "" }, { params });
  expect(taken.everWritten).toBe(false);
});
