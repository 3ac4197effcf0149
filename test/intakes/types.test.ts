/** Events of others, whose types are no names of contracts. */
import { event, type IntakeOptions, posthorn, query, type } from "posthorn";
import { expect, test } from "vitest";
import type { CloudEvent } from "../../src/brokers/envelope.js";
import { WrongKindError } from "../../src/core/errors.js";
import { eventually } from "../support/eventually.js";
import { cloudEvent, MemoryBroker } from "./memory-broker.js";
import { fresh, instance, intakeRow, type Order, OrderPlaced, onServer, ShipOrder, stored, unfit } from "./stage.js";

onServer();

async function takenIn(options: Omit<IntakeOptions, "from">, ...messages: readonly CloudEvent[]) {
  const broker = new MemoryBroker();
  const name = fresh("types");
  const post = instance(fresh("service"));
  post.intake(name, { from: broker, ...options });
  broker.put(...messages);
  await post.start();
  await eventually(() => broker.left === 0);
  return name;
}

const order = (orderId: string): Order => ({ orderId, cents: 1 });
const keysOf = async (contract: string, prefix: string) =>
  (await stored(contract)).map(({ key }) => key).filter((key) => key?.startsWith(prefix));

test("a type that `types` names means its contract, exactly and before the prefix, and all others are read as without it", async () => {
  const OrderLost = event("OrderLost", { topic: "orders", schema: type<Order>(), key: ({ orderId }) => orderId });
  const name = await takenIn(
    {
      into: [OrderPlaced, OrderLost, ShipOrder],
      typePrefix: "com.acme.",
      types: {
        "com.acme.order.placed": OrderPlaced,
        "com.acme.order.created": OrderPlaced,
        "com.acme.OrderPlaced": OrderLost,
        ["__proto__"]: OrderLost,
        "ship-it": ShipOrder,
      },
    },
    cloudEvent("com.acme.order.placed", order("named-1")),
    cloudEvent("com.acme.order.created", order("named-2")),
    cloudEvent("com.acme.OrderPlaced", order("named-3")),
    cloudEvent("com.acme.OrderLost", order("named-4")),
    cloudEvent("__proto__", order("named-5")),
    cloudEvent("ship-it", order("named-6")),
    cloudEvent("COM.ACME.ORDER.PLACED", order("named-7")),
    cloudEvent("constructor", order("named-8")),
    cloudEvent("OrderPlaced", order("named-9")),
  );
  expect((await unfit(name)).map(({ type: of }) => of)).toEqual([
    "COM.ACME.ORDER.PLACED",
    "constructor",
    "OrderPlaced",
  ]);
  expect(await keysOf("OrderPlaced", "named-")).toEqual(["named-1", "named-2"]);
  expect(await keysOf("OrderLost", "named-")).toEqual(["named-3", "named-4", "named-5"]);
  expect((await stored("ShipOrder")).map(({ payload }) => payload)).toContainEqual(order("named-6"));
  expect(await intakeRow(name)).toMatchObject({ written: "6", invalid: "3", skipped: "0" });
});

test("a type means the version of its contract, unless the message says another that is read", async () => {
  const first = event("StockChanged", { topic: "stock", schema: type<{ sku: string }>(), key: ({ sku }) => sku });
  const third = event("StockChanged", {
    topic: "stock",
    version: 3,
    schema: type<{ sku: string; left: number }>(),
    key: ({ sku }) => sku,
    upcast: { 2: (old: { sku: string }) => ({ ...old, left: 0 }) },
  });
  const said = (contractversion: string) => ({ extensions: { contractversion } });
  const name = await takenIn(
    { into: [first, third], types: { "stock.changed.v1": first, "stock.changed": third } },
    cloudEvent("stock.changed.v1", { sku: "A" }),
    cloudEvent("stock.changed", { sku: "B", left: 2 }),
    cloudEvent("stock.changed", { sku: "C" }, said("2")),
    cloudEvent("stock.changed", { sku: "D" }, said("4")),
    cloudEvent("StockChanged", { sku: "E", left: 5 }),
  );
  expect((await stored("StockChanged")).map(({ version, key }) => [version, key])).toEqual([
    [1, "A"],
    [3, "B"],
    [2, "C"],
    [3, "E"],
  ]);
  expect((await unfit(name)).map(({ reason }) => reason)).toEqual([
    'its version "4" of StockChanged is not read here; known are 1, 2, 3',
  ]);
});

const misfit = async (options: Omit<IntakeOptions, "from">, of: string) => {
  const [entry] = await unfit(await takenIn(options, cloudEvent(of, order(`unknown-${of}`))));
  return entry?.reason;
};

test("an entry whose type no contract has says which the intake takes, a few of them, and the nearest first", async () => {
  expect(await misfit({ into: [OrderPlaced], typePrefix: "com.example.shop." }, "OrderPlaced")).toBe(
    'no contract of this intake has its type "OrderPlaced"; it takes "com.example.shop.OrderPlaced"',
  );
  const into = ["A", "B", "C", "D", "E", "F"].map((letter) =>
    event(`Order${letter}Placed`, { topic: "orders", schema: type<Order>() }),
  );
  const [first] = into;
  const types = { "com.acme.order.placed": first as (typeof into)[number] };
  expect(await misfit({ into, types }, "com.acme.order.placd")).toBe(
    'no contract of this intake has its type "com.acme.order.placd"; it takes "com.acme.order.placed", "OrderAPlaced", "OrderBPlaced", "OrderCPlaced", "OrderDPlaced" and 2 more',
  );
  expect(await misfit({ into, types }, "OrderEplaced")).toBe(
    'no contract of this intake has its type "OrderEplaced"; it takes "OrderEPlaced", "com.acme.order.placed", "OrderAPlaced", "OrderBPlaced", "OrderCPlaced" and 2 more',
  );
  expect(await misfit({ into, typePrefix: "com.acme." }, "com.other.OrderFPlaced")).toMatch(
    /; it takes "com\.acme\.OrderFPlaced", "com\.acme\.OrderAPlaced", .* and 1 more$/,
  );
  const long = `com.${"x".repeat(2_000)}`;
  expect(await misfit({ into: [OrderPlaced] }, long)).toMatch(
    /^no contract .* \(2004 letters\); it takes "OrderPlaced"$/,
  );
});

test("a name that `read` says and no contract has leads to the names of the contracts, and not to types", async () => {
  const broker = new MemoryBroker();
  const [name, post] = [fresh("types"), instance(fresh("service"))];
  const read = () => ({ name: "order.placed", payload: order("said-1"), id: "said-1" });
  const types = { "order.placed": OrderPlaced };
  post.intake(name, { from: broker, into: [OrderPlaced, ShipOrder], typePrefix: "com.acme.", types, read });
  broker.put({ headers: {}, contentType: "text/plain", body: Buffer.from("x") });
  await post.start();
  await eventually(() => broker.left === 0);
  expect((await unfit(name)).map(({ reason }) => reason)).toEqual([
    'no contract of this intake has its type "order.placed"; it takes "OrderPlaced", "ShipOrder"',
  ]);
});

test("`read` is not asked about a CloudEvent, whatever its type", async () => {
  const asked: unknown[] = [];
  const read = () => {
    asked.push("asked");
    return null;
  };
  const name = await takenIn({ into: [OrderPlaced], read }, cloudEvent("com.acme.order.placed", order("unread-1")));
  expect(asked).toEqual([]);
  expect(await intakeRow(name)).toMatchObject({ written: "0", invalid: "1", skipped: "0" });
});

const PriceOf = query("PriceOf", { request: type<{ sku: string }>(), response: type<number>(), deadlineMs: 100 });
const OtherPlaced = event("OrderPlaced", { topic: "orders", version: 7, schema: type<Order>() });

const refused: readonly (readonly [what: string, types: unknown, error: RegExp, kind?: typeof WrongKindError])[] = [
  [
    "a contract that is not in `into`",
    { "ship-it": ShipOrder },
    /^\S*Error: intake\("types"\)\.types\["ship-it"\] is version 1 of ShipOrder, and that is not in intake\("types"\)\.into\. Add it to `into`, or leave the type out\.$/,
  ],
  [
    "another version of one that is",
    { placed: OtherPlaced },
    /version 7 of OrderPlaced, .*which names another OrderPlaced/,
  ],
  ["a query", { "price.of": PriceOf }, /\["price\.of"\] is version 1 of PriceOf, and that is not in/],
  [
    "a name in place of a contract",
    { placed: "OrderPlaced" },
    /types\["placed"\] is no contract: the string/,
    WrongKindError,
  ],
  [
    "a contract that is undefined, as in a ring of imports",
    { placed: undefined },
    /is no contract: undefined/,
    WrongKindError,
  ],
  [
    "a contract under `__proto__` of a literal, which is no key",
    { __proto__: OrderPlaced },
    /types must be an object of contracts/,
  ],
  ["a contract in place of the object", OrderPlaced, /types must be an object of contracts/],
  ["a list", [OrderPlaced], /types must be an object of contracts of into/],
  ["a type without a letter", { "": OrderPlaced }, /has "" as a type/],
  ["a type that cannot be stored", { "a\0": OrderPlaced }, /as a type; one has 1 to 500 letters/],
];

test.each(refused)("refuses %s in `types`", async (_what, types, message, kind) => {
  const post = posthorn({ service: "refusing", database: "postgres://nobody@127.0.0.1:1/none" });
  let error: unknown;
  try {
    post.intake("types", { from: new MemoryBroker(), into: [OrderPlaced], types } as IntakeOptions);
  } catch (thrown) {
    error = thrown;
  }
  await post.stop();
  expect(String(error)).toMatch(message as RegExp);
  if (kind !== undefined) expect(error).toBeInstanceOf(kind);
});
