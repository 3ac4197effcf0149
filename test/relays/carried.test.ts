/**
 * Many messages in one call to a broker: each has an end of its own, whatever becomes of the others, also while their claim is ended under them.
 *
 * Method: a broker in this process whose calls are held until the test lets them go.
 */
import { command, event, type Post, policies, posthorn, retry, type Sql, type } from "posthorn";
import { afterAll, afterEach, beforeAll, expect, test } from "vitest";
import { silentLogger } from "../../src/core/logger.js";
import { eventually } from "../support/eventually.js";
import { createDatabase, type TestDatabase } from "../support/server.js";
import { MemoryBroker } from "./memory-broker.js";

let place: TestDatabase;
let open: Post<Sql>[] = [];
beforeAll(async () => {
  place = await createDatabase();
  await make().migrate();
  await stopAll();
});
afterEach(stopAll);
afterAll(() => place?.drop());

function make(logger = silentLogger): Post<Sql> {
  const post = posthorn({ service: "shop", database: place.url, migrate: "auto", logger }) as Post<Sql>;
  open.push(post);
  return post;
}

async function stopAll(): Promise<void> {
  await Promise.all(open.map((post) => post.stop({ graceMs: 0 })));
  open = [];
}

let names = 0;
function stage() {
  names += 1;
  const topic = `carried-${names}`;
  const schema = type<{ id: string; n: number }>();
  const Placed = event(`Carried${names}`, { topic, schema, key: ({ id }) => id });
  return { topic, out: `carrier-${names}`, Placed, broker: new MemoryBroker() };
}

/** Holds the calls that come from now on; each until `letGo`. */
function held(broker: MemoryBroker): { readonly calls: () => number; readonly letGo: () => void } {
  const waiting: (() => void)[] = [];
  let calls = 0;
  broker.delay = () => {
    calls += 1;
    return new Promise((resolve) => waiting.push(resolve));
  };
  return {
    calls: () => calls,
    letGo: () => {
      broker.delay = undefined;
      for (const resolve of waiting.splice(0)) resolve();
    },
  };
}

const texts = (broker: MemoryBroker) => broker.received.map(({ event }) => JSON.parse(event.data));
const ofKey = (broker: MemoryBroker, key: string) =>
  texts(broker)
    .filter(({ id }) => id === key)
    .map(({ n }) => n);
const line = async (post: Post<Sql>, name: string) => (await post.backlog()).find((one) => one.name === name);

test("while a call is held the lane goes on without its keys; what it brought then ends under its new hold, once and in order", async () => {
  const { topic, out, Placed, broker } = stage();
  const post = make();
  post.relay(out, { ...policies.relay, from: { topic }, to: broker, startFrom: "oldest" });
  await post.publishMany(Placed, [
    { id: "a", n: 1 },
    { id: "a", n: 2 },
    { id: "b", n: 3 },
  ]);
  const hold = held(broker);
  await post.start();
  await eventually(() => hold.calls() === 1);
  // Moved out of their claim, which is open for too long.
  await eventually(async () => {
    const { rows } = await post.transaction(({ tx }) =>
      tx.query<{ n: number }>(
        "select count(*)::int as n from posthorn.deferred d join posthorn.subscription s on s.id = d.subscription where s.name = $1",
        [out],
      ),
    );
    return rows[0]?.n === 3;
  });
  broker.delay = undefined;
  await post.publishMany(Placed, [
    { id: "a", n: 4 },
    { id: "c", n: 5 },
  ]);
  await eventually(() => ofKey(broker, "c").length === 1);
  expect(ofKey(broker, "a")).toEqual([]);
  hold.letGo();
  // Not idle while the next of a key is still to be made due.
  await post.untilIdle();
  expect([ofKey(broker, "a"), ofKey(broker, "b")]).toEqual([[1, 2, 4], [3]]);
  expect(await line(post, out)).toMatchObject({ backlog: 0, running: 0, deadLetters: 0 });
});

test("of one call some succeed, some are refused and some fail: each ends as it would alone, and keys go on or wait by it", async () => {
  const { topic, out, Placed, broker } = stage();
  const post = make();
  const again = retry.fixed({ attempts: 2, delayMs: 1 });
  post.relay(out, { ...policies.relay, retry: again, from: { topic }, to: broker, startFrom: "oldest" });
  let failures = 0;
  broker.judge = ({ event }) => {
    const { id, n } = JSON.parse(event.data);
    if (n !== 1) return undefined;
    if (id === "refused") return { kind: "refused", reason: "it is too large" };
    if (id === "once" && failures++ === 0) return { kind: "failed", error: new Error("busy") };
    return undefined;
  };
  const ids = ["fine", "refused", "once"];
  await post.publishMany(
    Placed,
    [1, 2].flatMap((n) => ids.map((id) => ({ id, n }))),
  );
  await post.start();
  await eventually(() => broker.received.length === 4);
  await post.untilIdle();
  expect(broker.calls[0]).toBe(3);
  expect(ids.map((id) => ofKey(broker, id))).toEqual([[1, 2], [], [1, 2]]);
  expect(await line(post, out)).toMatchObject({ deadLetters: 1, running: 0 });
});

test("a worker that stops while a call is held hands its messages back, and they are sent again under the same id", async () => {
  const { topic, out, Placed, broker } = stage();
  const first = make();
  const relay = { ...policies.relay, from: { topic }, to: broker, startFrom: "oldest" } as const;
  first.relay(out, relay);
  await first.publishMany(Placed, [
    { id: "a", n: 1 },
    { id: "a", n: 2 },
    { id: "b", n: 3 },
  ]);
  const hold = held(broker);
  await first.start();
  await eventually(() => hold.calls() === 1);
  await first.stop({ graceMs: 0 });
  hold.letGo();
  await eventually(() => broker.received.length === 2);
  const before = broker.received.map(({ event }) => event.id);
  const second = make();
  second.relay(out, relay);
  await second.start();
  await eventually(() => broker.received.length === 5);
  await second.untilIdle();
  const after = broker.received.slice(2).map(({ event }) => event.id);
  expect(new Set(after).size).toBe(3);
  expect(after).toEqual(expect.arrayContaining(before));
  expect(ofKey(broker, "a").slice(1)).toEqual([1, 2]);
});

test("a message that somebody cancels while it is on its way has succeeded when the broker took it, and is cancelled when it failed; one that has expired is not sent", async () => {
  names += 1;
  const queue = `carried-queue-${names}`;
  const Ship = command(`ShipCarried${names}`, { queue, schema: type<{ n: number }>() });
  const broker = new MemoryBroker();
  const post = make();
  post.relay(queue, { ...policies.relay, ordering: "none", from: { queue }, to: broker });
  const [taken, failing] = [await post.send(Ship, { n: 1 }), await post.send(Ship, { n: 2 })];
  const late = await post.send(Ship, { n: 3 }, { expiresInMs: 1 });
  broker.judge = ({ event }) =>
    JSON.parse(event.data).n === 2 ? { kind: "failed", error: new Error("busy") } : undefined;
  const hold = held(broker);
  await post.start();
  await eventually(() => hold.calls() === 1);
  expect(await taken.cancel()).toBe("signalled");
  expect(await failing.cancel()).toBe("signalled");
  hold.letGo();
  expect(await taken.settled({ withinMs: 60_000 })).toMatchObject({ state: "succeeded" });
  expect(await failing.settled({ withinMs: 60_000 })).toMatchObject({ state: "cancelled" });
  expect(await late.settled({ withinMs: 60_000 })).toMatchObject({ state: "expired" });
  expect(texts(broker).map(({ n }) => n)).toEqual([1]);
});

test("a broker that has so many on their way at once is handed twice as many, the rest waits, and all arrive once and in order", async () => {
  const { topic, out, Placed, broker } = stage();
  broker.atOnce = 2;
  const calls = held(broker);
  const post = make();
  post.relay(out, { ...policies.relay, from: { topic }, to: broker, startFrom: "oldest" });
  await post.publishMany(
    Placed,
    Array.from({ length: 40 }, (_, n) => ({ id: `id-${n % 20}`, n })),
  );
  await post.start();
  await eventually(() => calls.calls() === 4);
  await eventually(async () => (await post.backlog()).find(({ name }) => name === out)?.running !== 0);
  expect(broker.calls).toEqual([1, 1, 1, 1]);
  calls.letGo();
  await post.untilIdle();
  expect(broker.received.map(({ event }) => JSON.parse(event.data).n).sort((a, b) => a - b)).toEqual(
    Array.from({ length: 40 }, (_, n) => n),
  );
  const of = (id: string) => texts(broker).filter((one) => one.id === id);
  for (let n = 0; n < 20; n += 1) expect(of(`id-${n}`).map((one) => one.n)).toEqual([n, n + 20]);
});

test("when such a broker is away, what waits for its turn is not tried, burns no attempt, and goes when it is back", async () => {
  const { topic, out, Placed, broker } = stage();
  broker.atOnce = 2;
  const calls = held(broker);
  const post = make();
  const once = { failures: 20, windowMs: 10_000, openMs: 300 };
  post.relay(out, { ...policies.relay, circuitBreaker: once, from: { topic }, to: broker, startFrom: "oldest" });
  await post.publishMany(
    Placed,
    Array.from({ length: 30 }, (_, n) => ({ id: `id-${n}`, n })),
  );
  await post.start();
  await eventually(() => calls.calls() === 4);
  broker.state = "away";
  calls.letGo();
  await eventually(async () => (await post.backlog()).find(({ name }) => name === out)?.circuit?.state === "open");
  await eventually(async () => (await post.backlog()).find(({ name }) => name === out)?.running === 0);
  // Four that were on their way, and single ones that look whether it is back.
  expect(broker.calls.slice(0, 5).every((size) => size === 1)).toBe(true);
  expect(broker.calls.length).toBeLessThan(30);
  broker.state = "up";
  await eventually(() => broker.received.length === 30);
  await post.untilIdle();
  const [line] = await post.backlog();
  expect(line).toMatchObject({ deadLetters: 0, invalid: 0 });
  expect(new Set(texts(broker).map((one) => one.n)).size).toBe(30);
});

const numbered = (count: number) => Array.from({ length: count }, (_, n) => ({ id: `id-${n}`, n }));
const away = { kind: "unavailable", error: new Error("connect ECONNREFUSED 127.0.0.1:1") } as const;
const soon = { failures: 20, windowMs: 10_000, openMs: 300 };

// There was a line for each message that was put off: thousands when an outage begins.
test("of an outage the log is told once when it begins and once when it is over, with how many messages were put off", async () => {
  const { topic, out, Placed, broker } = stage();
  const told: string[] = [];
  const to = (level: string) => (message: string) => void told.push(`${level} ${message}`);
  const post = make({ info: to("info"), warn: to("warn"), error: to("error") });
  post.relay(out, { ...policies.relay, circuitBreaker: soon, from: { topic }, to: broker });
  await post.start();
  broker.judge = () => away;
  await post.publishMany(Placed, numbered(200));
  // Each is tried in vain at least once, and then single ones again.
  await eventually(() => broker.calls.reduce((sum, size) => sum + size, 0) >= 203);
  broker.judge = () => undefined;
  await eventually(() => broker.received.length === 200);
  await post.untilIdle();
  const about = told.filter((text) => /put off/.test(text));
  expect(about).toEqual([
    expect.stringMatching(
      new RegExp(`^info messages of "${out}" are put off, \\d+ so far: the broker is away, memory `),
    ),
    expect.stringMatching(
      new RegExp(`^info messages of "${out}" go out again after \\d+ ms; .* put off 2\\d\\d times$`),
    ),
  ]);
  expect(told.filter((text) => text.includes("the circuit of"))).toEqual([
    expect.stringMatching(/ is open for 300 ms: the broker is away, /),
    expect.stringMatching(/ is closed again after [\d.]+ m?s; \d+ messages? waits?$/),
  ]);
});

const atMostOnce = { ...policies.relay, idempotency: "at-most-once", retry: retry.none, circuitBreaker: soon } as const;

// All that were begun together became dead letters, also those that were never handed over.
test("at most once, what was handed over when the broker went away is a dead letter, and what only waited for its turn goes later", async () => {
  const { topic, out, Placed, broker } = stage();
  broker.atOnce = 2;
  const calls = held(broker);
  let judged = 0;
  broker.judge = () => {
    judged += 1;
    return judged <= 4 ? away : undefined;
  };
  const post = make();
  post.relay(out, { ...atMostOnce, from: { topic }, to: broker, startFrom: "oldest" });
  await post.publishMany(Placed, numbered(30));
  await post.start();
  await eventually(() => calls.calls() === 4);
  await eventually(async () => (await line(post, out))?.running === 30);
  calls.letGo();
  await eventually(() => broker.received.length === 26);
  await post.untilIdle();
  expect(await line(post, out)).toMatchObject({ deadLetters: 4, backlog: 0, running: 0 });
  expect(judged).toBe(30);
  expect(new Set(texts(broker).map(({ n }) => n)).size).toBe(26);
});

test("at most once, what no way to the broker could be opened for was not sent: it goes when there is one, once", async () => {
  const { topic, out, Placed, broker } = stage();
  broker.state = "away";
  const post = make();
  post.relay(out, { ...atMostOnce, from: { topic }, to: broker });
  await post.start();
  await post.publishMany(Placed, numbered(20));
  await eventually(async () => (await line(post, out))?.circuit?.state === "open");
  // At the start, for all of them, and for the one that is tried.
  await eventually(() => broker.opened.length >= 3);
  expect(await line(post, out)).toMatchObject({ deadLetters: 0 });
  broker.state = "up";
  await eventually(() => broker.received.length === 20);
  await post.untilIdle();
  expect(await line(post, out)).toMatchObject({ deadLetters: 0, backlog: 0 });
  expect(texts(broker)).toHaveLength(20);
});

test("at most once, a worker that stops hands back what waited for its turn, and gives up what is on its way", async () => {
  const { topic, out, Placed, broker } = stage();
  broker.atOnce = 2;
  const calls = held(broker);
  const relay = { ...atMostOnce, from: { topic }, to: broker, startFrom: "oldest" } as const;
  const post = make();
  post.relay(out, relay);
  await post.publishMany(Placed, numbered(10));
  await post.start();
  await eventually(() => calls.calls() === 4);
  await eventually(async () => (await line(post, out))?.running === 10);
  await post.stop({ graceMs: 0 });
  broker.delay = undefined;
  const next = make();
  next.relay(out, relay);
  await next.start();
  await eventually(() => broker.received.length === 6);
  await next.untilIdle();
  expect(await line(next, out)).toMatchObject({ deadLetters: 4, backlog: 0, running: 0 });
  expect(new Set(texts(broker).map(({ n }) => n)).size).toBe(6);
});
