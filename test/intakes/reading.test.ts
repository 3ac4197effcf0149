/** From what comes to what is stored: contracts, versions, keys, headers, identities. */
import { command, event, policies, type } from "posthorn";
import { expect, test } from "vitest";
import type { CloudEvent } from "../../src/brokers/envelope.js";
import { causeOf } from "../../src/producer/cause.js";
import { eventually } from "../support/eventually.js";
import { type Carried, carried, cloudEvent, MemoryBroker } from "./memory-broker.js";
import {
  fresh,
  instance,
  intakeRow,
  type Order,
  OrderPlaced,
  onServer,
  orderSchema,
  rows,
  ShipOrder,
  stored,
  unfit,
} from "./stage.js";

onServer();

async function takenIn(options: object, ...messages: (Carried | CloudEvent)[]) {
  const broker = new MemoryBroker();
  const name = fresh("read");
  const post = instance(fresh("service"));
  post.intake(name, { from: broker, into: [OrderPlaced], ...options });
  broker.put(...messages);
  await post.start();
  await eventually(() => broker.left === 0);
  return { name, post, broker };
}

test("a message is stored under the version that it says, raised for its check and its key, and handled as any older message", async () => {
  const PriceChanged = event("PriceChanged", {
    topic: "prices",
    version: 3,
    schema: type<{ sku: string; cents: number }>(),
    key: ({ sku }) => sku,
    upcast: {
      2: (old: { sku: string; euros: number }) => ({ sku: old.sku, cents: old.euros * 100 }),
    },
  });
  const broker = new MemoryBroker();
  const name = fresh("versions");
  const post = instance();
  const seen: unknown[] = [];
  post.intake(name, { from: broker, into: [PriceChanged] });
  post
    .subscription(fresh("prices"), { topic: "prices", ...policies.notify })
    .on(PriceChanged, (price) => void seen.push(price));
  const versioned = (payload: unknown, contractversion?: string) =>
    cloudEvent("PriceChanged", payload, { extensions: contractversion === undefined ? {} : { contractversion } });
  broker.put(
    versioned({ sku: "A", euros: 2 }, "2"),
    versioned({ sku: "B", cents: 7 }, "3"),
    versioned({ sku: "C", cents: 9 }),
    versioned({ sku: "D" }, "1"),
    versioned({ sku: "E" }, "4"),
  );
  await post.start();
  await eventually(() => seen.length === 3);
  expect(seen).toEqual([
    { sku: "A", cents: 200 },
    { sku: "B", cents: 7 },
    { sku: "C", cents: 9 },
  ]);
  expect((await stored("PriceChanged")).map(({ version, key, payload }) => [version, key, payload])).toEqual([
    [2, "A", { sku: "A", euros: 2 }],
    [3, "B", { sku: "B", cents: 7 }],
    [3, "C", { sku: "C", cents: 9 }],
  ]);
  expect((await unfit(name)).map(({ reason }) => reason)).toEqual([
    'its version "1" of PriceChanged is not read here; known are 2, 3',
    'its version "4" of PriceChanged is not read here; known are 2, 3',
  ]);
});

test("the trace and the cause of a message go on across services, and a ring through several of them ends at the limit", async () => {
  const broker = new MemoryBroker();
  const post = instance();
  const causes: unknown[] = [];
  const queue = post.queue("shipping", policies.notify);
  post.intake(fresh("caused"), { from: broker, into: [OrderPlaced] });
  post
    .subscription(fresh("caused"), { topic: "orders", ...policies.notify })
    .on(OrderPlaced, (order, { send, message }) => {
      causes.push([message.correlationId, message.causationId, message.headers]);
      send(ShipOrder, order);
    });
  queue.handle(
    ShipOrder,
    (_order, { message }) => void causes.push([message.correlationId, message.causationId === null]),
  );
  const extensions = {
    traceparent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    tracestate: "vendor=1",
    correlationid: "checkout/2024-1",
    causationid: "req:17",
    causationdepth: "99",
    causationpath: "CartFilled>OrderWanted",
  };
  broker.put(cloudEvent("OrderPlaced", { orderId: "caused", cents: 1 }, { extensions, headers: { tenant: "blue" } }));
  await post.start();
  await eventually(() => causes.length === 2);
  const { traceparent, tracestate } = extensions;
  expect(causes).toEqual([
    ["checkout/2024-1", "req:17", { traceparent, tracestate, tenant: "blue" }],
    ["checkout/2024-1", false],
  ]);
  const [sent] = (await stored("ShipOrder")).slice(-1);
  expect(causeOf({ headers: sent?.headers ?? null })).toMatchObject({
    depth: 100,
    path: ["CartFilled", "OrderWanted", "OrderPlaced"],
  });
  // One more service, and the next handler may say nothing.
  broker.put(
    cloudEvent(
      "OrderPlaced",
      { orderId: "too-deep", cents: 1 },
      { extensions: { ...extensions, causationdepth: "100" } },
    ),
  );
  await eventually(() => causes.length >= 3);
  await eventually(
    async () =>
      (
        await rows(
          "select 1 from posthorn.deferred where history::text like '%CAUSATION_DEPTH%' union all select 1 from posthorn.dead_letter where history::text like '%CAUSATION_DEPTH%'",
        )
      ).length > 0,
  );
});

test("a type is the name of a contract behind the prefix, and others are listed, or passed over where that is said", async () => {
  const prefixed = [
    cloudEvent("com.example.OrderPlaced", { orderId: "prefix-1", cents: 1 }),
    cloudEvent("OrderPlaced", { orderId: "prefix-2", cents: 1 }),
    cloudEvent("com.example.OrderBurnt", {}),
  ];
  const listing = await takenIn({ typePrefix: "com.example." }, ...prefixed);
  expect((await unfit(listing.name)).map(({ type: of }) => of)).toEqual(["OrderPlaced", "com.example.OrderBurnt"]);
  const passing = await takenIn({ typePrefix: "com.example.", otherTypes: "skip" }, ...prefixed);
  expect(await unfit(passing.name)).toEqual([]);
  expect(await intakeRow(passing.name)).toMatchObject({ received: "3", written: "1", skipped: "2", invalid: "0" });
  const written = (await stored("OrderPlaced")).map(({ key }) => key).filter((key) => key?.startsWith("prefix-"));
  expect(written).toEqual(["prefix-1", "prefix-1"]);
});

test("messages of foreign producers are read by a function of the intake, and recognised by the id that it gives, that of the sender, or their place", async () => {
  const plain = (payload: unknown, more: object = {}) => ({
    headers: { kind: "order" },
    contentType: "application/json",
    body: Buffer.from(JSON.stringify(payload)),
    ...more,
  });
  const read = (message: { json(): unknown; headers: Readonly<Record<string, string>>; id: string | undefined }) => {
    const body = message.json() as { no?: string; total: number; ref?: string; noise?: true };
    if (body.noise) return null;
    if (body.total < 0) throw new Error("a negative total");
    return {
      name: "OrderPlaced",
      payload: { orderId: body.no, cents: body.total },
      headers: { kind: message.headers.kind ?? "" },
      ...(body.ref !== undefined && { id: body.ref }),
    };
  };
  const { name } = await takenIn(
    { read },
    plain({ no: "f-1", total: 1, ref: "r-1" }, { id: "m-1" }),
    plain({ no: "f-1 again", total: 1, ref: "r-1" }, { id: "m-2" }),
    plain({ no: "f-2", total: 2 }, { id: "m-3", position: "orders/0/1" }),
    plain({ no: "f-2 again", total: 2 }, { id: "m-3", position: "orders/0/2" }),
    plain({ no: "f-3", total: 3 }, { position: "orders/0/3" }),
    plain({ no: "f-3 again", total: 3 }, { position: "orders/0/3" }),
    plain({ no: "f-4", total: 4 }),
    plain({ noise: true }),
    plain({ no: "f-5", total: -1 }, { id: "m-5" }),
    plain({ total: 6 }, { id: "m-6" }),
    cloudEvent("OrderPlaced", { orderId: "f-7", cents: 7 }),
  );
  const written = (await stored("OrderPlaced")).filter(({ key }) => key?.startsWith("f-"));
  expect(written.map(({ key, headers }) => [key, headers])).toEqual([
    ["f-1", { kind: "order" }],
    ["f-2", { kind: "order" }],
    ["f-3", { kind: "order" }],
    ["f-7", null],
  ]);
  expect((await unfit(name)).map(({ reason }) => reason)).toEqual([
    "it has no id, and nothing stable can be derived: it would be written again whenever it comes again",
    "the function `read` threw: a negative total",
    expect.stringMatching(/orderId: expected a text/),
  ]);
  expect(await intakeRow(name)).toMatchObject({ received: "11", written: "4", skipped: "1", invalid: "3" });
});

test("an asynchronous schema is waited for, and the order stays", async () => {
  const Checked = command("CheckOrder", {
    queue: "checks",
    schema: {
      "~standard": {
        version: 1 as const,
        vendor: "test",
        validate: async (value: unknown) => {
          await new Promise((resolve) => setTimeout(resolve, Math.random() * 4));
          return orderSchema["~standard"].validate(value);
        },
      },
    },
  });
  const orders: Order[] = Array.from({ length: 30 }, (_, i) => ({ orderId: `late-${i}`, cents: i }));
  const { name } = await takenIn(
    { into: [Checked] },
    ...orders.map((order) => cloudEvent("CheckOrder", order)),
    carried(cloudEvent("CheckOrder", {})),
  );
  expect((await stored("CheckOrder")).map(({ payload }) => payload)).toEqual(orders);
  expect(await unfit(name)).toHaveLength(1);
});
