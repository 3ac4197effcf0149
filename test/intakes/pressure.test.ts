/** What an intake waits for, and what ends it: a full queue, a database or a broker that is away, a stop. */
import { command, policies, posthorn, type } from "posthorn";
import { describe, expect, onTestFinished, test } from "vitest";
import { ConfigurationError } from "../../src/core/errors.js";
import { eventually } from "../support/eventually.js";
import { createDatabase, startServer } from "../support/server.js";
import { cloudEvent, MemoryBroker } from "./memory-broker.js";
import { fresh, instance, intakeRow, listening, type Order, OrderPlaced, onServer, rows, stored } from "./stage.js";

onServer();

const PackOrder = command("PackOrder", { queue: "packing", schema: type<Order>() });
const packing = (count: number, from = 0) =>
  Array.from({ length: count }, (_, i) => cloudEvent("PackOrder", { orderId: `pack-${from + i}`, cents: 1 }));

test("a full queue is waited for: nothing is acknowledged meanwhile, the status says why, and it goes on in order when there is room", async () => {
  const broker = new MemoryBroker();
  const name = fresh("full");
  const { logger, told } = listening();
  const worker = instance("packer");
  let open: () => void = () => undefined;
  const opened = new Promise<void>((resolve) => {
    open = resolve;
  });
  worker
    .queue("packing", { ...policies.notify, concurrency: 2, backlogLimit: { messages: 20, whenFull: "reject" } })
    .handle(PackOrder, () => opened);
  await worker.start();
  const post = instance("intake", logger);
  post.intake(name, { from: broker, into: [PackOrder], batchSize: 10 });
  broker.put(...packing(200));
  await post.start();
  await eventually(async () => (await intakeRow(name)).trouble?.includes("is full"));
  // The batch before the one that found it full is acknowledged beside it.
  await eventually(async () => broker.left === 200 - (await stored("PackOrder")).length);
  expect(broker.left).toBeGreaterThan(0);
  expect(await post.intakes()).toContainEqual(
    expect.objectContaining({ name, connected: true, trouble: expect.stringContaining('"packing" is full') }),
  );
  open();
  await eventually(() => broker.left === 0);
  const ids = (await stored("PackOrder")).map(({ payload }) => (payload as Order).orderId);
  expect(ids).toEqual(Array.from({ length: 200 }, (_, i) => `pack-${i}`));
  expect(told.filter(({ message }) => message.includes("waits, and acknowledges nothing")).length).toBeGreaterThan(0);
  await eventually(async () => (await intakeRow(name)).trouble === null);
});

test("while the database is away nothing is acknowledged and nothing is lost, and it goes on by itself", async () => {
  const server = await startServer();
  onTestFinished(() => server.remove());
  const database = await createDatabase({ on: server });
  const broker = new MemoryBroker();
  const post = posthorn({ service: "away", database: database.url, migrate: "auto", logger: listening().logger });
  onTestFinished(() => post.stop({ graceMs: 0 }));
  post.intake("orders-in", { from: broker, into: [OrderPlaced], batchSize: 20 });
  const orders = Array.from({ length: 400 }, (_, i) => cloudEvent("OrderPlaced", { orderId: `away-${i}`, cents: i }));
  broker.put(...orders.slice(0, 100));
  await post.start();
  await eventually(() => broker.left === 0);
  await server.stop("immediate");
  broker.put(...orders.slice(100));
  const before = broker.left;
  await server.start();
  await eventually(() => broker.left === 0, { withinMs: 120_000 });
  expect(before).toBe(300);
  const all = await post.transaction(
    async ({ tx }) => (await tx.query("select key from posthorn.message_1 order by id")).rows,
  );
  expect((all as { key: string }[]).map(({ key }) => key)).toEqual(orders.map((_, i) => `away-${i}`));
});

test("a stop finishes what is being written and acknowledges it; the rest comes again to whoever starts next", async () => {
  const broker = new MemoryBroker();
  const name = fresh("stopped");
  const events = Array.from({ length: 100 }, (_, i) => cloudEvent("OrderPlaced", { orderId: `stop-${i}`, cents: i }));
  broker.put(...events);
  let reached: () => void = () => undefined;
  const acknowledging = new Promise<void>((resolve) => {
    reached = resolve;
  });
  let stopping: Promise<void> | undefined;
  const first = instance("stopping");
  broker.before = async (step) => {
    if (step !== "acknowledge" || stopping !== undefined) return;
    stopping = first.stop();
    reached();
  };
  first.intake(name, { from: broker, into: [OrderPlaced], batchSize: 10 });
  await first.start();
  await acknowledging;
  await stopping;
  const written = async () => (await stored("OrderPlaced")).filter(({ key }) => key?.startsWith("stop-"));
  const done = broker.acknowledged.length;
  expect(done).toBeGreaterThanOrEqual(10);
  expect(done).toBeLessThan(100);
  expect(await written()).toHaveLength(done);
  expect(await intakeRow(name)).toMatchObject({ worker: null });
  const second = instance("stopping");
  second.intake(name, { from: broker, into: [OrderPlaced] });
  await second.start();
  await eventually(() => broker.left === 0);
  expect((await written()).map(({ key }) => key)).toEqual(events.map((_, i) => `stop-${i}`));
});

describe("a broker that cannot be opened", () => {
  test("is told and tried again where it is away, and the start succeeds; it is told once and not for each try", async () => {
    const broker = new MemoryBroker();
    const name = fresh("late");
    const refused = Object.assign(new Error("connect ECONNREFUSED 127.0.0.1:1"), { code: "ECONNREFUSED" });
    broker.refuses = new AggregateError([refused], "");
    const { logger, told } = listening();
    const post = instance("late", logger);
    post.intake(name, { from: broker, into: [OrderPlaced] });
    await post.start();
    await eventually(() => broker.opened.length >= 2);
    broker.refuses = undefined;
    broker.put(cloudEvent("OrderPlaced", { orderId: "late", cents: 1 }));
    await eventually(() => broker.left === 0);
    const again = `^info the intake "${name}" is connected to memory/orders again, after [\\d.]+ m?s$`;
    const connected = expect.stringMatching(again);
    const not = `warn the intake "${name}" is not connected to memory/orders: connect ECONNREFUSED 127.0.0.1:1.`;
    const tries = "What is not stored was not acknowledged; it tries again, after 10 s at the latest";
    const look = "Nothing listens there: if it should be up, look at the host and the port.";
    const lines = () => told.map(({ level, message }) => `${level} ${message}`);
    expect(lines()).toEqual([`${not} ${look} ${tries}`, connected]);
    // The address was right.
    broker.refuses = refused;
    broker.before = () => {
      throw refused;
    };
    await eventually(() => told.length === 3);
    expect(lines()[2]).toBe(`${not} ${tries}`);
  });

  // It was told that nothing is lost and that it tries again, of a stream that had been deleted with all that was in it.
  test("is told as what has to be mended where waiting does not help, once more than that the connection was lost", async () => {
    const broker = new MemoryBroker();
    const name = fresh("denied");
    const { logger, told } = listening();
    const post = instance("denied", logger);
    post.intake(name, { from: broker, into: [OrderPlaced] });
    await post.start();
    broker.refuses = new ConfigurationError("PH_BROKER_DENIED", "memory does not let this client in. Correct it.");
    broker.before = () => {
      throw new Error("the connection was closed");
    };
    broker.put(cloudEvent("OrderPlaced", { orderId: "denied", cents: 1 }));
    await eventually(async () => /does not let/.test((await intakeRow(name)).trouble ?? ""));
    broker.before = () => undefined;
    broker.refuses = undefined;
    await eventually(() => broker.left === 0);
    const not = `the intake "${name}" is not connected to memory/orders`;
    expect(told.map(({ message }) => message)).toEqual([
      `${not}: the connection was closed. What is not stored was not acknowledged; it tries again, after 10 s at the latest`,
      `${not}: memory does not let this client in. Correct it (PH_BROKER_DENIED). Nothing comes in before this is mended; it tries again, after 10 s at the latest`,
      expect.stringMatching(`^the intake "${name}" is connected to memory/orders again, after [\\d.]+ m?s$`),
    ]);
  });

  // Each try was told as the end of the outage and as a new one, and no time was ever long enough for the alert.
  test("is away for as long as it is lost at once whenever it is opened, and that is told once", async () => {
    const broker = new MemoryBroker();
    const name = fresh("flapping");
    const { logger, told } = listening();
    const post = instance("flapping", logger);
    post.intake(name, { from: broker, into: [OrderPlaced] });
    broker.before = (step) => {
      if (step === "receive") throw new Error("what lies there cannot be read");
    };
    await post.start();
    broker.put(cloudEvent("OrderPlaced", { orderId: "flapping", cents: 1 }));
    // Until it was lost first it was connected.
    await eventually(() => broker.opened.length >= 3);
    const since = await eventually(async () => (await intakeRow(name)).away_since ?? undefined);
    const opened = broker.opened.length;
    await eventually(() => broker.opened.length > opened);
    expect(await intakeRow(name)).toMatchObject({ away_since: since, trouble: "what lies there cannot be read" });
    const lost = `the intake "${name}" is not connected to memory/orders: what lies there cannot be read. What is not stored was not acknowledged; it tries again, after 10 s at the latest`;
    expect(told.map(({ message }) => message)).toEqual([lost]);
    broker.before = () => undefined;
    await eventually(() => broker.left === 0);
    await eventually(async () => (await intakeRow(name)).away_since === null);
    const again = expect.stringMatching(
      `^the intake "${name}" is connected to memory/orders again, after [\\d.]+ m?s$`,
    );
    expect(told.map(({ message }) => message)).toEqual([lost, again]);
  });

  // Where a broker of one's own is went into logs and the database as it says it.
  test("is told without a credential, also where the broker has one in what it says of its place", async () => {
    const broker = new MemoryBroker("amqp://user:hunter2@broker.example:5672/orders");
    const name = fresh("own");
    broker.refuses = new Error("connect ECONNREFUSED 127.0.0.1:1");
    const { logger, told } = listening();
    const post = instance("own", logger);
    post.intake(name, { from: broker, into: [OrderPlaced] });
    await post.start();
    await eventually(async () => (await intakeRow(name)).trouble !== null);
    const seen = JSON.stringify([told, await intakeRow(name), await post.intakes()]);
    expect(seen).toContain("amqp://broker.example:5672/orders");
    expect(seen).not.toContain("hunter2");
  });

  test("with an error that PostgreSQL cannot store is told, and the intakes beside it are kept", async () => {
    const [broker, other] = [new MemoryBroker(), new MemoryBroker()];
    const [name, beside] = [fresh("odd"), fresh("beside")];
    broker.refuses = new Error("refused: \0 and \ud83d");
    const { logger, told } = listening();
    const post = instance("odd", logger);
    post.intake(name, { from: broker, into: [OrderPlaced] });
    post.intake(beside, { from: other, into: [OrderPlaced] });
    await post.start();
    await eventually(async () => (await intakeRow(name)).trouble === "refused: \ufffd and \ufffd");
    expect(await intakeRow(beside)).toMatchObject({ trouble: null, away_since: null });
    expect(told.map(({ message }) => message)).toEqual([expect.stringContaining("is not connected to memory/orders")]);
  });

  test("fails the start where no later attempt mends it, and the next start may succeed", async () => {
    const broker = new MemoryBroker();
    const name = fresh("missing");
    broker.refuses = new ConfigurationError("PH_BROKER_DESTINATION", 'The queue "orders" does not exist.');
    const post = instance("missing");
    post.intake(name, { from: broker, into: [OrderPlaced] });
    // It did not say of which intake.
    await expect(post.start()).rejects.toMatchObject({
      code: "PH_BROKER_DESTINATION",
      message: `intake "${name}": The queue "orders" does not exist.`,
      facts: { intake: name },
    });
    expect(await rows("select 1 from posthorn.intake where name = $1", [name])).toEqual([]);
    broker.refuses = undefined;
    broker.put(cloudEvent("OrderPlaced", { orderId: "found", cents: 1 }));
    await post.start();
    await eventually(() => broker.left === 0);
  });

  test("does not begin where the start names others, and a name that is unknown is refused", async () => {
    const broker = new MemoryBroker();
    const post = instance("chooser");
    const [one, other] = [fresh("chosen"), fresh("chosen")];
    post.intake(one, { from: broker, into: [OrderPlaced] });
    post.intake(other, { from: new MemoryBroker(), into: [OrderPlaced] });
    await expect(post.start({ intakes: ["chosn"] })).rejects.toThrow(/intake "chosn", which is not declared/);
    await expect(post.start({ intakes: [one, one] })).rejects.toThrow(/twice/);
    await post.start({ intakes: [other] });
    expect(broker.opened).toEqual([]);
    expect(await rows("select name from posthorn.intake where name = any ($1)", [[one, other]])).toEqual([
      { name: other },
    ]);
  });
});

test("on the embedded engine an intake takes in as on a server, once and in order", async () => {
  const { PGlite } = await import("@electric-sql/pglite");
  const pglite = new PGlite();
  onTestFinished(() => pglite.close());
  const broker = new MemoryBroker();
  const post = posthorn({ service: "embedded", database: pglite, logger: listening().logger });
  onTestFinished(() => post.stop({ graceMs: 0 }));
  const seen: string[] = [];
  post.intake("orders-in", { from: broker, into: [OrderPlaced] });
  post
    .subscription("billing", { topic: "orders", ...policies.notify, ordering: { per: "key", whenDead: "park" } })
    .on(OrderPlaced, ({ orderId }) => void seen.push(orderId));
  const events = Array.from({ length: 30 }, (_, i) => cloudEvent("OrderPlaced", { orderId: `e-${i}`, cents: i }));
  broker.put(...events, ...events, cloudEvent("OrderPlaced", {}));
  await post.start();
  await eventually(() => broker.left === 0 && seen.length === 30);
  expect([...seen].sort()).toEqual(events.map((_, i) => `e-${i}`).sort());
  expect(await post.intakes()).toMatchObject([{ received: 61, written: 30, duplicates: 30, invalid: 1, listed: 1 }]);
});

test("what has been in the inbox for its time is removed page by page, and taken in again if it should come again", async () => {
  const broker = new MemoryBroker();
  const name = fresh("forgetful");
  const takeIn = async () => {
    const post = instance("forgetful");
    post.intake(name, { from: broker, into: [OrderPlaced], inbox: { keepMs: 60_000 } });
    await post.start();
    return post;
  };
  const events = Array.from({ length: 2_000 }, (_, i) => cloudEvent("OrderPlaced", { orderId: `old-${i}`, cents: i }));
  broker.put(...events);
  const post = await takeIn();
  await eventually(() => broker.left === 0);
  // A worker sweeps by itself: none is there meanwhile.
  await post.stop();
  const { id } = await intakeRow(name);
  const kept = async () => (await rows("select 1 from posthorn.inbox where intake = $1", [id])).length;
  expect(await kept()).toBe(2_000);
  await rows(
    "update posthorn.inbox set keep_until = now() - interval '1 s' where intake = $1 and keep_until is not null",
    [id],
  );
  // The sweep is due by the time that has passed since the last one, and goes on at these: other tests have rows before them.
  await rows(
    `insert into posthorn.maintenance (name, ran_at, notes)
       select 'inbox', now() - interval '1 hour', json_build_object('page', min((b.ctid::text::point)[0])::int) from posthorn.inbox b where b.intake = $1
       on conflict (name) do update set (ran_at, notes) = (excluded.ran_at, excluded.notes)`,
    [id],
  );
  const sweep = async () => (await rows<{ behind: boolean }>("select posthorn.sweep_inbox(4) as behind"))[0]?.behind;
  expect(await sweep()).toBe(true);
  const after = await kept();
  expect(after).toBeGreaterThan(0);
  expect(after).toBeLessThan(2_000);
  while (await sweep()) {
    // Bounded by the pages of the inbox.
  }
  expect(await kept()).toBe(0);
  broker.put(...events.slice(0, 5));
  await takeIn();
  await eventually(() => broker.left === 0);
  expect(await intakeRow(name)).toMatchObject({ received: "2005", written: "2005" });
});
