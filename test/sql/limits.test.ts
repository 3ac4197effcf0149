import { afterAll, beforeAll, expect, test } from "vitest";
import { registerContract, registerSubscription } from "../../src/store/registry.js";
import { writeMessages } from "../../src/store/publish.js";
import { settle, take, work, type Claimed, type Taken } from "../../src/store/work.js";
import { die, type Engine, makeWorker, openEngine, outgoing, part, type Reader, rescueAll, upTo } from "./engine.js";

let engine: Engine;
beforeAll(async () => {
  engine = await openEngine();
});
afterAll(() => engine?.close());

interface Limits {
  readonly rateLimit?: { readonly messages: number; readonly perMs: number; readonly burst: number };
  readonly keyRateLimit?: { readonly messages: number; readonly perMs: number; readonly burst: number };
  readonly fleetConcurrency?: number;
  readonly keyConcurrency?: number;
}

let made = 0;

/** A queue with limits; its policy is what the newest worker declared. */
async function makeLimited(limits: Limits, idempotency = "handler"): Promise<Reader & { readonly name: string }> {
  made += 1;
  const name = `limited${made}`;
  const entry = { kind: "command", name: `Do${name}`, version: 1, channel: name, keyed: true, owner: null };
  const { contract, channel } = await registerContract(engine.db, entry, "test", false);
  const subscription = await declare(name, limits, idempotency);
  return { subscription, channel, contract, name };
}

async function declare(name: string, limits: Limits, idempotency = "handler"): Promise<number> {
  const policy = JSON.stringify({ ...limits, deadLetter: { keepMs: 60_000 } });
  const reader = { name, kind: "command", channel: name, idempotency, policy } as const;
  return (await registerSubscription(engine.db, reader, "test")).subscription;
}

async function say(reader: Reader, keys: readonly string[]): Promise<readonly string[]> {
  const messages = keys.map((key, m) => ({ ...outgoing(reader), key, json: JSON.stringify({ m }) }));
  return (await writeMessages(engine.db, messages)).map(({ id }) => id);
}

const claimUpTo = (reader: Reader, worker: string, limit: number): Promise<Claimed> =>
  work(engine.db, reader.subscription, worker, limit, []);
const takeUpTo = (reader: Reader, worker: string, limit: number): Promise<Taken> =>
  take(engine.db, reader.subscription, worker, [reader.contract], limit);
/** Deliveries that wait become due. */
const passes = (reader: Reader, ms: number) =>
  engine.admin.rows(
    `with d as (update posthorn.deferred set due_at = due_at - $2 * interval '1 ms' where subscription = $1),
       p as (update posthorn.permit set tat = tat - $2 * interval '1 ms' where subscription = $1)
     update posthorn.key_permit set tat = tat - $2 * interval '1 ms', line_end = line_end - $2 * interval '1 ms' where subscription = $1`,
    [reader.subscription, ms],
  );
const perHour = (messages: number, burst: number) => ({ messages, perMs: 3_600_000, burst });

test("a claim gets no more messages than the rate has permits, and is told when there is the next", async () => {
  const reader = await makeLimited({ rateLimit: perHour(60, 3) });
  const worker = await makeWorker(engine, [reader]);
  await say(reader, upTo(10).map(String));
  const first = await claimUpTo(reader, worker, 10);
  expect(first.deliveries).toHaveLength(3);
  // A permit comes each minute.
  expect(first.waitMs).toBeGreaterThan(59_000);
  expect(first.waitMs).toBeLessThanOrEqual(60_000);
  const none = await claimUpTo(reader, worker, 10);
  expect(none).toMatchObject({ missed: false, deliveries: [] });
  expect(none.waitMs).toBeGreaterThan(50_000);
  await passes(reader, 61_000);
  expect((await claimUpTo(reader, worker, 10)).deliveries).toHaveLength(1);
  await passes(reader, 24 * 3_600_000);
  expect((await claimUpTo(reader, worker, 10)).deliveries).toHaveLength(3);
});

test("permits that a claim found no messages for are not used", async () => {
  const reader = await makeLimited({ rateLimit: perHour(60, 3) });
  const worker = await makeWorker(engine, [reader]);
  for (let i = 0; i < 5; i += 1) expect((await claimUpTo(reader, worker, 10)).deliveries).toEqual([]);
  await say(reader, ["a"]);
  const one = await claimUpTo(reader, worker, 10);
  expect([one.deliveries.length, one.waitMs]).toEqual([1, undefined]);
  await say(reader, ["a", "b", "c"]);
  expect((await claimUpTo(reader, worker, 10)).deliveries).toHaveLength(2);
});

test("key limit", async () => {
  const reader = await makeLimited({ keyRateLimit: perHour(60, 1) });
  const worker = await makeWorker(engine, [reader]);
  await say(reader, ["a", "a", "a", "b", "a"]);
  const claimed = await claimUpTo(reader, worker, 10);
  expect(claimed.deliveries.map(({ key }) => key)).toEqual(["a", "b"]);
  console.log(await engine.admin.rows("select message, key, due_at - clock_timestamp() as due, reason, delivery from posthorn.deferred"), claimed);
  await passes(reader, 60_000);
  const t = await takeUpTo(reader, worker, 10);
  console.log(t);
});
