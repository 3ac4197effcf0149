/**
 * Goal: what was not posted is not taken for something that may have arrived, and waits for nothing that is over.
 * Method: receivers that are gone, ask for a pause, refuse connections or hold their answers; relays to them, and what becomes of their messages.
 */
import { PGlite } from "@electric-sql/pglite";
import { event, type Post, policies, posthorn, type RelayOptions, retry, type Sql, type } from "posthorn";
import { expect, onTestFinished, test } from "vitest";
import type { Sent } from "../../../src/brokers/broker.js";
import { silentLogger } from "../../../src/core/logger.js";
import { eventually } from "../../support/eventually.js";
import { hook, message, never, open, receiving, senderOf, sendOne, serveTcp } from "./places.js";

const OrderPlaced = event("OrderPlaced", {
  topic: "orders",
  schema: type<{ order: string; n: number }>(),
  key: ({ order }) => order,
});

/** A service on a database that outlives it. */
function places(): (url: string, options?: Partial<RelayOptions>) => Post<Sql> {
  const pglite = new PGlite();
  let last: Post<Sql> | undefined;
  onTestFinished(async () => {
    await last?.stop({ graceMs: 0 });
    await pglite.close();
  });
  return (url, options = {}) => {
    last = posthorn({ service: "shop", database: pglite, migrate: "auto", logger: silentLogger }) as Post<Sql>;
    const to = hook(url);
    last.relay("partner", { ...policies.relay, from: { topic: "orders" }, to, startFrom: "oldest", ...options });
    return last;
  };
}

const orders = (count: number, order = (n: number) => `o${n}`) =>
  Array.from({ length: count }, (_, n) => ({ order: order(n), n }));
const partner = async (post: Post<Sql>) => (await post.backlog()).find(({ name }) => name === "partner");
const unsent = (sent: Sent | undefined) => sent?.kind === "unavailable" && sent.unsent === true;

test("what nothing of has left this process is said to be unsent, and what was posted is not", async () => {
  const gone = hook((await receiving(() => 410)).url);
  expect(unsent(await sendOne(await senderOf(gone)))).toBe(false);
  expect(unsent(await sendOne(await senderOf(gone)))).toBe(true);
  const paused = hook((await receiving(() => ({ status: 503, headers: { "retry-after": "60" } }))).url);
  const [first, second] = await (await senderOf(paused)).send(
    [message("1", { key: "a" }), message("2", { key: "a" })],
    never,
  );
  expect([unsent(first), unsent(second)]).toEqual([false, true]);
  const { url, server } = await receiving(() => 204);
  const closed = await open(url);
  await new Promise((resolve) => server.close(resolve));
  expect(unsent(await sendOne(closed))).toBe(true);
  const silent = await open(await serveTcp(() => undefined), { connections: 1 });
  const stop = new AbortController();
  const sending = silent.send([message("1"), message("2")], stop.signal);
  await eventually(() => true);
  setTimeout(() => stop.abort(), 100);
  expect((await sending).map(unsent)).toEqual([false, true]);
});

// Each that was tried while nothing was posted became a dead letter "asked for another run, which at-most-once rules out".
test("at most once, of a receiver that is gone only what was posted is a dead letter; the rest waits, and goes when there is another", async () => {
  const shop = places();
  const { url, asked } = await receiving(() => 410);
  const once = { idempotency: "at-most-once", retry: retry.none, ordering: "none", concurrency: 1 } as const;
  const first = shop(url, once);
  await first.publishMany(OrderPlaced, orders(8));
  await first.start();
  await eventually(async () => ((await partner(first))?.circuit?.probes ?? 0) >= 2);
  expect(asked).toHaveLength(1);
  expect(await partner(first)).toMatchObject({ deadLetters: 1 });
  await first.stop();
  const other = await receiving(() => 204);
  await shop(other.url, once).start();
  await eventually(() => other.asked.length === 7);
});

// The circuit of the fleet was open for a day, and so long the first message was put off: neither a new url nor a restart changed that.
test("after a 410 a process that starts again asks the receiver once more, and everything goes where it was a mistake", async () => {
  const shop = places();
  let status = 410;
  const { url, asked } = await receiving(() => status);
  const first = shop(url);
  await first.publishMany(
    OrderPlaced,
    orders(3, () => "one"),
  );
  await first.start();
  await eventually(async () => (await partner(first))?.circuit?.state === "open");
  await first.stop();
  expect(asked).toHaveLength(1);
  status = 204;
  await shop(url).start();
  await eventually(() => asked.length === 4);
  expect(asked.slice(1).map(({ body }) => JSON.parse(String(body)).data.n)).toEqual([0, 1, 2]);
});

// They were posted one after the other: the last waited for all, was given up with a receiver that is only slow, and what was under way was posted twice.
test("where no order is kept, messages of one key do not wait for each other", async () => {
  const shop = places();
  const held: (() => void)[] = [];
  const { url, asked } = await receiving(() => new Promise((resolve) => held.push(() => resolve(204))));
  const post = shop(url, { ordering: "none" });
  await post.publishMany(
    OrderPlaced,
    orders(10, () => "one"),
  );
  await post.start();
  await eventually(() => asked.length === 10);
  for (const answer of held) answer();
  await post.untilIdle();
});
