import { policies } from "posthorn";
import { expect, test } from "vitest";
import { posthornCommand } from "../cli/command.js";
import { eventually } from "../support/eventually.js";
import { carried, cloudEvent, MemoryBroker } from "./memory-broker.js";
import { fresh, instance, intakeRow, OrderPlaced, onServer, ShipOrder, stored, unfit, url } from "./stage.js";

onServer();

test("what a broker has is written in its order, acknowledged after the commit, and handled like anything that was said here", async () => {
  const broker = new MemoryBroker();
  const name = fresh("shop");
  const post = instance();
  const seen: string[] = [];
  post.intake(name, { from: broker, into: [OrderPlaced, ShipOrder] });
  post
    .subscription(fresh("billing"), { topic: "orders", ...policies.notify })
    .on(OrderPlaced, async ({ orderId }, { message }) => void seen.push(`${orderId} ${message.key}`));
  const orders = Array.from({ length: 2_500 }, (_, i) => ({ orderId: `o-${i}`, cents: i }));
  broker.put(...orders.map((order, i) => cloudEvent(i % 10 === 0 ? "ShipOrder" : "OrderPlaced", order)));
  await post.start();
  await eventually(() => broker.left === 0);
  const all = await stored("OrderPlaced", "ShipOrder");
  expect(all.map(({ payload }) => payload)).toEqual(orders);
  expect(all.slice(0, 2).map(({ name: of, key }) => [of, key])).toEqual([
    ["ShipOrder", null],
    ["OrderPlaced", "o-1"],
  ]);
  expect(broker.acknowledged).toEqual(orders.map((_, i) => i));
  await eventually(() => seen.length === 2_250);
  expect(await intakeRow(name)).toMatchObject({ received: "2500", written: "2500", invalid: "0", away_since: null });
});

test("what comes twice is written once: on the wire, after a lost connection, and under another position", async () => {
  const broker = new MemoryBroker();
  const name = fresh("shop");
  const post = instance();
  post.intake(name, { from: broker, into: [ShipOrder], batchSize: 10 });
  const events = Array.from({ length: 25 }, (_, i) => cloudEvent("ShipOrder", { orderId: `twice-${i}`, cents: i }));
  broker.put(...events.flatMap((one) => [one, one]), ...events);
  let failures = 0;
  broker.before = (step) => {
    if (step !== "acknowledge" || failures > 0) return;
    failures += 1;
    throw new Error("the connection was reset");
  };
  await post.start();
  await eventually(() => broker.left === 0);
  const written = (await stored("ShipOrder")).filter(({ text }) => text.includes("twice-"));
  expect(written.map(({ payload }) => payload)).toEqual(events.map(({ data }) => JSON.parse(data)));
  expect(failures).toBe(1);
  expect(broker.opened.map(({ name: shown }) => shown)).toEqual([name, name]);
  expect(await intakeRow(name)).toMatchObject({ received: "85", written: "25" });
});

test("what fits nothing is kept once with its reason and its bytes, acknowledged, and holds up nobody", async () => {
  const broker = new MemoryBroker();
  const name = fresh("shop");
  const post = instance();
  post.intake(name, { from: broker, into: [OrderPlaced] });
  const wrong = cloudEvent("OrderPlaced", { orderId: "o-wrong" });
  broker.put(
    wrong,
    wrong,
    cloudEvent("OrderBurnt", {}),
    { headers: {}, contentType: "text/plain", body: Buffer.from([0xff, 0x00]) },
    carried(cloudEvent("OrderPlaced", { orderId: "o-last", cents: 1 }), "structured"),
  );
  await post.start();
  await eventually(() => broker.left === 0);
  expect((await stored("OrderPlaced")).map(({ payload }) => payload)).toContainEqual({ orderId: "o-last", cents: 1 });
  expect((await unfit(name)).map(({ reason, type, whole }) => [reason, type, whole])).toEqual([
    ["it does not fit OrderPlaced: cents: expected a number", "OrderPlaced", true],
    ['no contract of this intake has its type "OrderBurnt"; it takes "OrderPlaced"', "OrderBurnt", true],
    ["it is no CloudEvent, and the intake has no function `read` for others", null, true],
  ]);
  expect((await unfit(name))[2]?.body).toEqual(Buffer.from([0xff, 0x00]));
  expect(await intakeRow(name)).toMatchObject({ received: "5", written: "1", invalid: "3" });
});

// Nothing led from what a sender had sent to what had become of it here.
test("what a sender calls a message finds whether it was taken in, by which intake and when, or that it fitted nothing", async () => {
  const broker = new MemoryBroker();
  const name = fresh("finding");
  const post = instance();
  post.intake(name, { from: broker, into: [OrderPlaced] });
  const fits = cloudEvent("OrderPlaced", { orderId: "found", cents: 1 });
  const not = cloudEvent("OrderPlaced", { orderId: 7 });
  broker.put(fits, not, { id: "of-the-sender", contentType: "text/plain", body: Buffer.from("no event"), headers: {} });
  await post.start();
  await eventually(() => broker.left === 0);
  const find = (...args: readonly string[]) => posthornCommand(["intakes", "find", ...args, "--database", url()]);
  expect(await find(fits.id, "--source", fits.source)).toMatchObject({
    code: 0,
    out: expect.stringMatching(
      new RegExp(`^The intake ${name} has taken it in, about .* Until .* it is a duplicate when it comes again\\.\n$`),
    ),
  });
  const { takenIn } = JSON.parse((await find(fits.id, "--source", fits.source, "--json")).out);
  const late = Math.abs(Date.parse(takenIn[0].at) - Date.now());
  expect(late).toBeLessThan(60_000);
  for (const args of [[not.id, "--source", not.source], ["of-the-sender"]])
    expect((await find(...args)).out).toMatch(
      new RegExp(`^The intake ${name} has listed it as invalid, at .* posthorn invalid show in-\\d+\n$`),
    );
  const other = await find(fits.id, "--source", "urn:another");
  expect(other).toMatchObject({ code: 1, out: expect.stringMatching(/^No intake here knows it.*forgotten it\.\n$/) });
  expect((await find(fits.id)).out).toContain("add --source");
});
