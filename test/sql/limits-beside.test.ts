/** Limits of the fleet beside a circuit breaker and beside order per key: which comes first, and what each costs of the other. */
import { afterAll, beforeAll, expect, test } from "vitest";
import { tellCircuit } from "../../src/store/circuit.js";
import { writeMessages } from "../../src/store/publish.js";
import { registerContract, registerSubscription } from "../../src/store/registry.js";
import { type Claimed, settle, type Taken, takeDue as take, work } from "../../src/store/work.js";
import { type Engine, end, makeWorker, numberOf, openEngine, outgoing, part, type Reader, retryNow } from "./engine.js";

let engine: Engine;
beforeAll(async () => {
  engine = await openEngine();
});
afterAll(() => engine?.close());

const circuitBreaker = { failures: 3, windowMs: 60_000, openMs: 30_000 };
const ordering = { per: "key", whenDead: "park" };
const perHour = (messages: number, burst: number) => ({ messages, perMs: 3_600_000, burst });

let made = 0;

async function make(options: object): Promise<Reader & { readonly worker: string }> {
  made += 1;
  const name = `beside${made}`;
  const entry = { kind: "command", name: `Do${name}`, version: 1, channel: name, keyed: true, owner: null };
  const { contract, channel } = await registerContract(engine.db, entry, "test", false);
  const policy = JSON.stringify({ ...options, deadLetter: { keepMs: 60_000 }, visibilityTimeoutMs: 30_000 });
  const declared = { name, kind: "command", channel: name, idempotency: "handler", policy } as const;
  const { subscription } = await registerSubscription(engine.db, declared, "test");
  const reader = { subscription, channel, contract };
  return { ...reader, worker: await makeWorker(engine, [reader]) };
}

/** "a1 b1 a2": messages with these keys and numbers. */
const say = (reader: Reader, text: string) =>
  writeMessages(
    engine.db,
    text.split(" ").map((one) => {
      return { ...outgoing(reader), key: one.slice(0, 1), json: JSON.stringify({ m: Number(one.slice(1)) }) };
    }),
  );
const shown = ({ deliveries }: Taken): string =>
  deliveries.map((delivery) => `${delivery.key}${numberOf(delivery)}`).join(" ");

const claim = ({ subscription, worker }: Reader & { readonly worker: string }, limit = 10): Promise<Claimed> =>
  work(engine.db, subscription, worker, limit, []);
const taken = ({ subscription, contract, worker }: Reader & { readonly worker: string }): Promise<Taken> =>
  take(engine.db, subscription, worker, [contract], 10);
const stateOf = ({ subscription }: Reader) =>
  engine.admin.value("select state from posthorn.circuit where subscription = $1", [subscription]);
const mayTry = ({ subscription }: Reader) =>
  engine.admin.rows(
    "update posthorn.circuit set probe_at = clock_timestamp() - interval '1 ms' where subscription = $1",
    [subscription],
  );
const permitsOf = ({ subscription }: Reader) =>
  engine.admin.value("select extract(epoch from tat)::text from posthorn.permit where subscription = $1", [
    subscription,
  ]);
/** A permit comes back. */
const passes = ({ subscription }: Reader) =>
  engine.admin.rows("update posthorn.permit set tat = tat - interval '1 hour' where subscription = $1", [subscription]);

test("while a circuit is open no permit is used, and the answer is the circuit's", async () => {
  const reader = await make({ circuitBreaker, rateLimit: perHour(60, 3) });
  await say(reader, "a1 a2 a3 a4 a5");
  expect((await claim(reader, 1)).deliveries).toHaveLength(1);
  const before = await permitsOf(reader);
  await tellCircuit(engine.db, reader.subscription, [{ failed: 3 }]);
  for (const answer of [await claim(reader), await taken(reader)]) {
    expect(answer.deliveries).toEqual([]);
    expect(answer.openMs).toBeGreaterThan(0);
    expect(answer.waitMs).toBeUndefined();
  }
  expect(await permitsOf(reader)).toBe(before);
});

test("a circuit that may be tried tries one message with a permit; without one it stays open and says when there is", async () => {
  const reader = await make({ circuitBreaker, rateLimit: perHour(60, 1) });
  await say(reader, "a1 a2 a3");
  expect((await claim(reader)).deliveries).toHaveLength(1);
  await tellCircuit(engine.db, reader.subscription, [{ failed: 3 }]);
  await mayTry(reader);
  const refused = await claim(reader);
  expect([refused.deliveries, refused.openMs]).toEqual([[], undefined]);
  expect(refused.waitMs).toBeGreaterThan(0);
  expect(await stateOf(reader)).toBe("open");
  await passes(reader);
  const tried = await claim(reader);
  expect(tried.deliveries.map(({ probe }) => typeof probe)).toEqual(["string"]);
  expect(await stateOf(reader)).toBe("half-open");
  const before = await permitsOf(reader);
  expect(await claim(reader)).toMatchObject({ deliveries: [], openMs: 1_000 });
  expect(await permitsOf(reader)).toBe(before);
  const [{ probe } = {}] = tried.deliveries;
  await tellCircuit(engine.db, reader.subscription, [{ succeeded: true, ...(probe !== undefined && { probe }) }]);
  await passes(reader);
  const next = await claim(reader);
  expect(next.deliveries.map((delivery) => delivery.probe)).toEqual([undefined]);
});

test("the same holds for a retry that is tried: with a permit, one, and its hold and the circuit's are one", async () => {
  const reader = await make({ circuitBreaker, rateLimit: perHour(60, 2) });
  await say(reader, "a1 a2");
  const { deliveries } = await claim(reader);
  expect(deliveries).toHaveLength(2);
  const ends = deliveries.map((delivery) => end(delivery, "failed", retryNow));
  await settle(engine.db, [part(deliveries, 1, "failed", true)], ends, null);
  await tellCircuit(engine.db, reader.subscription, [{ failed: 3 }]);
  await mayTry(reader);
  const refused = await taken(reader);
  expect([refused.deliveries, refused.openMs]).toEqual([[], undefined]);
  expect(refused.waitMs).toBeGreaterThan(0);
  expect(await stateOf(reader)).toBe("open");
  await passes(reader);
  const tried = await taken(reader);
  expect(tried.deliveries.map(({ probe, hold }) => [typeof probe, hold.from])).toEqual([["string", "deferred"]]);
  expect(await stateOf(reader)).toBe("half-open");
});

test("a half-open circuit tries a message whose key lets it, past those that their key puts aside", async () => {
  const reader = await make({ circuitBreaker, keyConcurrency: 1 });
  await say(reader, "a1 a2 a3 b1 b2");
  expect(shown(await claim(reader, 1))).toBe("a1");
  await tellCircuit(engine.db, reader.subscription, [{ failed: 3 }]);
  await mayTry(reader);
  const tried = await claim(reader);
  expect([shown(tried), tried.deliveries.map(({ probe }) => typeof probe)]).toEqual(["b1", ["string"]]);
});

test("where order is kept a claim takes no more than the rate and the fleet let begin, and a parked key uses no permit", async () => {
  for (const limit of [{ rateLimit: perHour(60, 3) }, { fleetConcurrency: 3 }]) {
    const reader = await make({ ordering, ...limit });
    await say(reader, "a1 b1 a2 c1");
    const first = await claim(reader);
    expect(shown(first)).toBe("a1 b1 a2");
    expect(first.waitMs).toBeGreaterThan(0);
    const [a1, b1, a2] = first.deliveries;
    if (a1 === undefined || b1 === undefined || a2 === undefined) throw new Error("three were claimed");
    const ends = [a1, a2].map((delivery) => end(delivery, "failed", retryNow));
    const parts = [part([b1], 1, "succeeded", false), part([a1, a2], 2, "failed", true)];
    await settle(engine.db, parts, ends, null);
    await passes(reader);
    await say(reader, "a3 d1 d2");
    expect(shown(await claim(reader))).toBe("c1");
    // Of two that it may claim, a3 is put aside behind those of its key, and has used no permit: the third of three is left for a retry.
    const second = await claim(reader, 2);
    expect([shown(second), second.parts]).toEqual(["d1", 1]);
    const retried = await taken(reader);
    expect(shown(retried)).toBe("a1");
    expect(retried.waitMs).toBeGreaterThan(0);
  }
});

// The answer was no JSON ("dueMs":Infinity), or on PostgreSQL 14 an error: the worker dropped what it held, and it ran twice.
test("where order is kept and all that waits is behind what runs, a claim without a permit says that nothing of it is due", async () => {
  const reader = await make({ ordering, rateLimit: perHour(60, 3) });
  await say(reader, "a1 a2");
  const { deliveries } = await claim(reader);
  const ends = deliveries.map((delivery) => end(delivery, "failed", retryNow));
  await settle(engine.db, [part(deliveries, 1, "failed", true)], ends, null);
  expect(shown(await taken(reader))).toBe("a1");
  await say(reader, "b1");
  const refused = await claim(reader);
  expect([refused.deliveries, refused.dueMs]).toEqual([[], null]);
  expect(refused.waitMs).toBeGreaterThan(0);
});

test("what is put aside for the limit of its key is queued, not retrying", async () => {
  const reader = await make({ keyConcurrency: 1 });
  await say(reader, "a1 a2 a3");
  const { deliveries, aside } = await claim(reader);
  expect([deliveries.length, aside]).toEqual([1, 2]);
  const states = await engine.admin.rows(
    "select posthorn.waiting_state(token, place, due_at, reason) as state from posthorn.deferred where subscription = $1",
    [reader.subscription],
  );
  expect(states).toEqual([{ state: "queued" }, { state: "queued" }]);
  const gauge = await engine.admin.rows(
    "select backlog::int, retrying::int from posthorn.gauges(10) where subscription = $1",
    [reader.subscription],
  );
  expect(gauge).toEqual([{ backlog: 2, retrying: 0 }]);
});
