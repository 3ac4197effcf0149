/**
 * Goal: whatever dies, and however the broker behaves, every event arrives, those of a key in order; what comes twice comes under the same id.
 * Method: relays and their broker in processes of their own, SIGKILL in the middle of batches, a broker that refuses, is silent or keeps what it never
 * acknowledges; then what the broker has kept is looked at.
 */
import { event, type Post, posthorn, type Sql, type } from "posthorn";
import { afterAll, beforeAll, expect, test } from "vitest";
import { silentLogger } from "../../src/core/logger.js";
import { eventually } from "../support/eventually.js";
import { type FixtureProcess, spawnFixture } from "../support/processes.js";
import { createDatabase, type TestDatabase } from "../support/server.js";
import { secret, type Wired } from "./fixtures/wire.js";

let place: TestDatabase;
let post: Post<Sql>;
beforeAll(async () => {
  place = await createDatabase();
  post = posthorn({ service: "shop", database: place.url, migrate: "auto", logger: silentLogger }) as Post<Sql>;
  await post.migrate();
});
afterAll(async () => {
  await post?.stop();
  await place?.drop();
});

let names = 0;
async function stage(options: object = {}) {
  names += 1;
  const topic = `orders-${names}`;
  const name = `out-${names}`;
  const Placed = event(`Order${names}Placed`, {
    topic,
    schema: type<{ key: string; n: number; text?: string }>(),
    key: ({ key }) => key,
  });
  const broker = await spawnFixture("test/relays/fixtures/wire-broker.ts");
  const port = Number((await broker.line(/^port /)).slice(5));
  const relay = async (): Promise<FixtureProcess> => {
    const args = [JSON.stringify({ url: place.url, port, topic, name, options })];
    return spawnFixture("test/relays/fixtures/relaying.ts", { args });
  };
  const working = async (): Promise<FixtureProcess> => {
    const one = await relay();
    await one.line("works");
    return one;
  };
  const be = async (word: string): Promise<void> => {
    broker.say(word);
    await broker.line(`is ${word}`);
  };
  const kept = async (): Promise<readonly Wired[]> => {
    broker.say("tell");
    return JSON.parse((await broker.line(/^kept /)).slice(5));
  };
  const line = async () => (await post.backlog()).find((one) => one.name === name);
  /** One look for both: between two of them a rescue turns what runs into backlog. */
  const quiet = () =>
    eventually(async () => {
      const { backlog, running } = (await line()) ?? {};
      return backlog === 0 && running === 0;
    });
  const publish = (from: number, upTo: number) =>
    post.publishMany(
      Placed,
      Array.from({ length: upTo - from }, (_, i) => ({ key: `key-${(from + i) % keys}`, n: from + i })),
    );
  return { name, Placed, broker, relay, working, be, kept, line, quiet, publish };
}
const keys = 40;

/** Every event arrived, and the first arrivals of a key are in order. Returns how many came twice. */
function check(kept: readonly Wired[], count: number): number {
  const first = new Map<string, Wired>();
  for (const one of kept) if (!first.has(one.id)) first.set(one.id, one);
  const byKey = new Map<string, number[]>();
  for (const { data } of first.values()) {
    const { key, n } = JSON.parse(data) as { key: string; n: number };
    byKey.set(key, [...(byKey.get(key) ?? []), n]);
  }
  expect([...byKey.values()].flat().toSorted((a, b) => a - b)).toEqual(Array.from({ length: count }, (_, i) => i));
  for (const some of byKey.values()) expect(some).toEqual(some.toSorted((a, b) => a - b));
  return kept.length - first.size;
}

test("relays that are killed in the middle of batches, again and again, lose nothing and keep the order of each key", async () => {
  const { working, kept, quiet, publish, broker } = await stage({ batchSize: 20, concurrency: 60 });
  await publish(0, 1_200);
  for (let kill = 0; kill < 4; kill += 1) {
    const one = await working();
    await broker.line(/^batch /);
    await publish(1_200 + kill * 100, 1_300 + kill * 100);
    one.kill();
    await one.exited;
  }
  await working();
  await quiet();
  check(await kept(), 1_600);
});

test("what a broker has kept and never acknowledged is sent again under the same id by the next process", async () => {
  const { working, be, kept, quiet, publish, broker } = await stage();
  await be("hold");
  const one = await working();
  await publish(0, 100);
  await broker.line(/^batch /);
  one.kill();
  await one.exited;
  await be("up");
  await working();
  await quiet();
  const all = await kept();
  expect(check(all, 100)).toBeGreaterThan(0);
  const texts = new Map(all.map(({ id, data }) => [id, data]));
  for (const { id, data } of all) expect(texts.get(id)).toBe(data);
});

test("while a broker refuses connections, or is silent, nothing is lost, dead or tried in vain; it is told in words, and goes on by itself in order", async () => {
  const { name, working, be, kept, line, quiet, publish } = await stage({ visibilityTimeoutMs: 2_000 });
  const one = await working();
  await publish(0, 200);
  for (const trouble of ["refuse", "silent"]) {
    await be(trouble);
    const from = trouble === "refuse" ? 200 : 500;
    await publish(from, from + 300);
    await eventually(async () => (await line())?.circuit?.state === "open");
    expect(await line()).toMatchObject({ deadLetters: 0, invalid: 0 });
    const { reason } = (await line())?.circuit ?? {};
    expect(reason).toMatch(/^the broker is away, wire 127\.0\.0\.1:\d+\/orders: /);
    const [alert] = await eventually(async () => {
      const { rows } = await post.transaction(({ tx }) =>
        tx.query<{ detail: string }>(
          "select detail from posthorn.alerts where subscription = $1 and alert = 'circuitOpen' and resolved_at is null",
          [name],
        ),
      );
      return rows.length > 0 ? rows : undefined;
    });
    expect(alert?.detail).toMatch(/^the broker is away, wire 127/);
    expect(`${reason} ${alert?.detail}`).not.toContain(secret);
    await be("up");
    await quiet();
    await eventually(async () => (await line())?.circuit?.state === "closed");
  }
  check(await kept(), 800);
  const { rows } = await post.transaction(({ tx }) =>
    tx.query<{ n: number }>("select count(*)::int as n from posthorn.deferred where attempts > 0"),
  );
  expect(rows[0]?.n).toBe(0);
  expect(`${one.lines.join("\n")}${one.errorOutput}`).not.toContain(secret);
});

// It tried what followed in the log, one message after the other, and each only waited behind others of its key; what was due came when all was read.
test("what a relay held that died in an outage is tried first by the next one, whatever follows in the log", async () => {
  const { name, working, be, kept, quiet, publish, broker } = await stage();
  await be("hold");
  const one = await working();
  await publish(0, keys);
  await broker.line(/^batch /);
  one.kill();
  await one.exited;
  const ask = <T>(text: string) => post.transaction(async ({ tx }) => (await tx.query<T>(text, [name])).rows[0]);
  await ask(`insert into posthorn.circuit (subscription, state, opened_at, open_ms, probe_at, reason)
    select s.id, 'open', now(), 1000, now(), 'the broker is away' from posthorn.subscription s where s.name = $1
    on conflict (subscription) do update set state = 'open', opened_at = now(), open_ms = 1000, probe_at = now()`);
  for (let from = keys; from < 3_000; from += 740) await publish(from, from + 740);
  await be("up");
  await working();
  let unread = 0;
  await eventually(async () => {
    const now = await ask<{
      unread: string;
      state: string;
    }>(`select (posthorn.waiting_in_log(s.id, 10000)).messages as unread, c.state
      from posthorn.subscription s join posthorn.circuit c on c.subscription = s.id where s.name = $1`);
    if (now?.state !== "closed") unread = Number(now?.unread);
    return now?.state === "closed";
  });
  expect(unread).toBeGreaterThan(1_500);
  await quiet();
  check(await kept(), 3_000);
});

test("a relay whose broker is away at the start starts all the same, says so, and delivers when it comes", async () => {
  const { working, be, kept, quiet, publish } = await stage();
  await be("refuse");
  await publish(0, 50);
  const one = await working();
  await eventually(() => /is away at the start, wire 127.*Messages wait/.test(one.errorOutput));
  expect(one.errorOutput).not.toContain(secret);
  await be("up");
  await quiet();
  check(await kept(), 50);
});

test("a broker that has no such destination fails the start of the process", async () => {
  const { relay, be, line } = await stage();
  await be("unknown");
  const one = await relay();
  expect((await one.exited).code).not.toBe(0);
  expect(one.errorOutput).toContain("the broker has no such topic");
  expect(await line()).toBeUndefined();
});

test("a relay that is told to stop waits for what is on its way and hands the rest back", async () => {
  const { working, be, kept, line, publish, broker } = await stage({ concurrency: 20, batchSize: 20 });
  await publish(0, 1_000);
  const one = await working();
  await broker.line(/^batch /);
  one.say("stop");
  expect((await one.exited).code).toBe(0);
  const { backlog = 0, running = 1 } = (await line()) ?? {};
  const sent = new Set((await kept()).map(({ id }) => id)).size;
  expect({ running, all: backlog + sent }).toEqual({ running: 0, all: 1_000 });
  await be("up");
});
