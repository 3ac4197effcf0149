/**
 * Goal: one message that its receiver falls over, each time, holds up no others and ends as a dead letter; while nothing goes through, none ever does.
 * Method: an endpoint that answers 502, or not at all, for the one or for all; the outage is far longer than the attempts of the policy would last.
 */
import { event, type Post, policies, posthorn, retry, type Sql, type } from "posthorn";
import { expect, onTestFinished, test } from "vitest";
import { silentLogger } from "../../src/core/logger.js";
import { Suspects } from "../../src/relays/suspects.js";
import { hook, receiving } from "../brokers/webhooks/places.js";
import { eventually } from "../support/eventually.js";
import { createDatabase } from "../support/server.js";

const Placed = event("Placed", {
  topic: "orders",
  schema: type<{ id: string; n: number }>(),
  key: ({ id }) => id,
});

interface Order {
  readonly id: string;
  readonly n: number;
}

/**
 * A relay with an endpoint, which takes what `answer` says; what it took, in order.
 *
 * The database is another process: queries of one in this process would hold up the answers of the endpoint, and those that are late are none.
 */
async function stage(answer: (order: Order) => number | Promise<number>, options: { timeoutMs?: number } = {}) {
  const taken: Order[] = [];
  const asked: Order[] = [];
  const { url } = await receiving(async ({ body }) => {
    const order: Order = JSON.parse(body.toString()).data;
    asked.push(order);
    const status = await answer(order);
    if (status === 204) taken.push(order);
    return status;
  });
  const place = await createDatabase();
  const post = posthorn({ service: "shop", database: place.url, migrate: "check", logger: silentLogger }) as Post<Sql>;
  onTestFinished(async () => {
    await post.stop({ graceMs: 0 });
    await place.drop();
  });
  post.relay("out", {
    ...policies.relay,
    // Two attempts, and little time: whoever burns them is found out.
    retry: retry.fixed({ attempts: 2, delayMs: 1 }),
    circuitBreaker: { failures: 20, windowMs: 10_000, openMs: 100 },
    concurrency: 10,
    from: { topic: "orders" },
    to: hook(url, options),
  });
  await post.start();
  const line = async () => (await post.backlog()).find(({ name }) => name === "out");
  return { post, asked, taken, line };
}

const of = (orders: readonly Order[], id: string) => orders.filter((one) => one.id === id).map(({ n }) => n);

/** Without what came again at once: whose answer was late on a busy machine. */
const inOrder = (orders: readonly Order[], id: string) => of(orders, id).filter((n, i, all) => n !== all[i - 1]);

test.each([
  ["is always answered 502", () => 502, {}],
  // Not so little that the others are late on a busy machine.
  ["is never answered", () => new Promise<number>(() => undefined), { timeoutMs: 2_000 }],
])(
  "a message that %s while others go through is a dead letter after its attempts, and holds up its own key alone",
  async (_, answer, options) => {
    const { post, taken, asked, line } = await stage(({ n }) => (n === -1 ? answer() : 204), options);
    await post.publishMany(Placed, [
      { id: "a", n: 0 },
      { id: "poison", n: -1 },
      { id: "poison", n: 1 },
    ]);
    let n = 0;
    await eventually(async () => {
      // A few ahead, whatever the machine is able to: there is always somebody who goes through, and never a heap.
      if (inOrder(taken, "b").length + inOrder(taken, "c").length > 2 * n - 6) {
        n += 1;
        await post.publishMany(Placed, [
          { id: "b", n },
          { id: "c", n },
        ]);
      }
      return (await line())?.deadLetters === 1;
    });
    const all = Array.from({ length: n }, (_, i) => i + 1);
    await eventually(() => inOrder(taken, "b").length >= n && inOrder(taken, "c").length >= n);
    expect(inOrder(taken, "b")).toEqual(all);
    expect(inOrder(taken, "c")).toEqual(all);
    expect(of(taken, "poison")).toEqual([]);
    // Its tries before it is known, and its two attempts.
    expect(of(asked, "poison").length).toBeGreaterThanOrEqual(4);
    const { rows } = await post.transaction(({ tx }) =>
      tx.query<{ reason: string; error: string }>("select reason, history::text as error from posthorn.dead_letters"),
    );
    expect(rows).toEqual([
      { reason: "failed 2 times", error: expect.stringMatching(/Others were acknowledged between its tries[^.]*"/) },
    ]);
  },
);

test("while nothing goes through no attempt is burnt, however often each is tried, and delivery goes on by itself and in order", async () => {
  let away = true;
  const { post, taken, asked, line } = await stage(() => (away ? 502 : 204));
  const orders = Array.from({ length: 12 }, (_, i) => ({ id: `k${i % 4}`, n: i }));
  await post.publishMany(Placed, orders);
  await eventually(() => asked.length >= 30);
  // All but the one that is being tried just now.
  const tried = await line();
  expect((tried?.backlog ?? 0) + (tried?.running ?? 0)).toBe(12);
  expect(tried).toMatchObject({
    deadLetters: 0,
    circuit: { reason: expect.stringContaining("is away") },
  });
  away = false;
  await eventually(() => taken.length >= 12);
  await post.untilIdle();
  expect(await line()).toMatchObject({ backlog: 0, deadLetters: 0, circuit: { state: "closed" } });
  for (const { id } of orders) expect(inOrder(taken, id)).toEqual(of(orders, id));
});

test("workers that died under a message are forgotten once it was tried in order: an outage in which processes are killed makes nothing dead", async () => {
  const { post, asked, line } = await stage(() => 502);
  await post.publish(Placed, { id: "a", n: 1 });
  const killed = () =>
    post.transaction(({ tx }) => tx.query("update posthorn.deferred set crashes = 4 where token is null returning id"));
  await eventually(async () => (await killed()).rows.length === 1);
  const tries = asked.length;
  await eventually(() => asked.length > tries + 1);
  // A try may be two posts, on a connection that was just closed; so what is asked for is settled a little later.
  await eventually(async () => {
    const { rows } = await post.transaction(({ tx }) => tx.query("select crashes from posthorn.deferred"));
    expect(rows).toEqual([{ crashes: 0 }]);
    return true;
  });
  const tried = await line();
  // It may just be tried once more.
  expect((tried?.backlog ?? 0) + (tried?.running ?? 0)).toBe(1);
  expect(tried?.deadLetters).toBe(0);
});

test("a message without luck is blamed when others went through between its tries, twice; and not for what nobody got through", () => {
  const suspects = new Suspects();
  const tries = (before: () => void) => {
    before();
    return suspects.unlucky("m").toBlame;
  };
  const other = () => suspects.acknowledged("x");
  const nobody = () => undefined;
  expect([nobody, nobody, nobody, other, nobody, nobody, other, nobody, other].map(tries)).toEqual([
    false,
    false,
    false,
    false,
    false,
    false,
    true,
    false,
    true,
  ]);
  // The longer none of the others is tried before it, the longer it waits for them.
  const waits = (before: () => void) => {
    before();
    return suspects.unlucky("m").patience;
  };
  expect([nobody, nobody, nobody, other].map(waits)).toEqual([4, 8, 8, 2]);
  suspects.acknowledged("m");
  expect([other, other, other].map(tries)).toEqual([false, false, true]);
});
