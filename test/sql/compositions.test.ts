/** What is said beside the payload, together with order per key, cancelling and the circuit breaker. */
import { afterAll, beforeAll, expect, test } from "vitest";
import { cancelMessage } from "../../src/store/cancel.js";
import { type CircuitReport, tellCircuit } from "../../src/store/circuit.js";
import { registerContract, registerSubscription } from "../../src/store/registry.js";
import { messageStatus } from "../../src/store/status.js";
import { why } from "../../src/store/why.js";
import { type Delivery, promote, settle, spill, takeDue, work } from "../../src/store/work.js";
import {
  type Engine,
  end,
  failure,
  makeWorker,
  openEngine,
  part,
  type Reader,
  retryNow,
  type Session,
  takeOf as take,
  upTo,
} from "./engine.js";
import { openWatched } from "./explain.js";

let engine: Engine;
let queues = 0;
beforeAll(async () => {
  engine = await openEngine();
});
afterAll(() => engine.close());

interface Queue extends Reader {
  readonly name: string;
  readonly worker: string;
}

async function queueWith(policy: object, keyed: boolean): Promise<Queue> {
  queues += 1;
  const name = `both${queues}`;
  const entry = { kind: "command", name: `Do${name}`, version: 1, channel: name, keyed, owner: null };
  const { contract, channel } = await registerContract(engine.db, entry, "test", false);
  const declared = { name, kind: "command", channel: name, idempotency: "handler" } as const;
  const text = JSON.stringify({ deadLetter: { keepMs: 60_000 }, visibilityTimeoutMs: 30_000, ...policy });
  const { subscription } = await registerSubscription(engine.db, { ...declared, policy: text }, "test");
  const reader = { subscription, channel, contract };
  return { ...reader, name, worker: await makeWorker(engine, [reader]) };
}
const ordered = (whenDead: "park" | "skip" = "park") => queueWith({ ordering: { per: "key", whenDead } }, true);
const plain = () => queueWith({}, false);
const guarded = () => queueWith({ circuitBreaker: { failures: 3, windowMs: 60_000, openMs: 30_000 } }, false);

async function send(
  { name }: Queue,
  n: number,
  options: object | null = null,
  key: string | null = null,
  session: Pick<Session, "value"> = engine.admin,
): Promise<string> {
  const values = [`Do${name}`, JSON.stringify({ n }), key, options && JSON.stringify(options)];
  return String(
    await session.value("select posthorn.send($1::text, $2::json, key => $3, options => $4::json)", values),
  );
}

const numbers = (deliveries: readonly Delivery[]) =>
  deliveries.map(({ payload }) => (typeof payload === "object" && payload !== null && "n" in payload ? payload.n : 0));
const claimed = async ({ subscription, worker }: Queue, limit = 10) => work(engine.db, subscription, worker, limit, []);
const due = ({ subscription, worker, contract }: Queue) => take(engine.db, subscription, worker, [contract], 10);
const rows = ({ subscription }: Reader, columns: string) =>
  engine.admin.rows(`select ${columns} from posthorn.deferred where subscription = $1 order by id`, [subscription]);
/** What is scheduled is due now. */
const hasten = ({ subscription }: Reader) =>
  engine.admin.rows(
    "update posthorn.deferred set due_at = clock_timestamp() where subscription = $1 and reason = 'scheduled' and due_at < 'infinity'",
    [subscription],
  );
const only = (deliveries: readonly Delivery[]): Delivery => {
  const [one, more] = deliveries;
  if (one === undefined || more !== undefined) throw new Error(`${deliveries.length} deliveries instead of one`);
  return one;
};
const succeed = (deliveries: readonly Delivery[]) =>
  settle(engine.db, [part(deliveries, 1, "succeeded", true)], [], null);
const succeedWaiting = (delivery: Delivery) => settle(engine.db, [], [end(delivery, "succeeded", null)], null);

test("where order is kept, a delayed message does not hold its key, and takes its place behind what runs when it is due", async () => {
  const queue = await ordered();
  const id = await send(queue, 1, { delayMs: 3_600_000, expiresInMs: 7_200_000 }, "a");
  await send(queue, 2, null, "a");
  const { deliveries } = await claimed(queue);
  expect(numbers(deliveries)).toEqual([2]);
  expect(await due(queue)).toEqual([]);
  expect(await messageStatus(engine.db, id)).toMatchObject([{ state: "scheduled" }]);

  await hasten(queue);
  // Its key is held by the claim: it does not enter yet, and the reader is told when to look again.
  const early = await takeDue(engine.db, queue.subscription, queue.worker, [queue.contract], 10);
  expect(early.deliveries).toEqual([]);
  expect(early.nextInMs).toBeLessThanOrEqual(20);
  await succeed(deliveries);
  await hasten(queue);
  const first = only(await due(queue));
  expect(numbers([first])).toEqual([1]);

  // From here on it is the first of its key: what comes later waits behind it.
  await send(queue, 3, null, "a");
  expect(await claimed(queue)).toMatchObject({ deliveries: [], again: true });
  expect(await due(queue)).toEqual([]);
  await succeedWaiting(first);
  expect(await promote(engine.db, queue.subscription, ["a"])).toBe(1);
  expect(numbers(await due(queue))).toEqual([3]);
});

test("where order is kept, peek tells of a delayed message that has no place yet, and of none that waits behind another", async () => {
  const queue = await ordered();
  const next = async () =>
    (
      await engine.admin.rows("select posthorn.first_due($1, array[$2::int]) - clock_timestamp() as in", [
        queue.subscription,
        queue.contract,
      ])
    )[0]?.in;
  await send(queue, 1, { delayMs: 3_600_000 }, "a");
  expect(await next()).not.toBeNull();
  await engine.admin.rows("update posthorn.deferred set due_at = 'infinity', place = 1 where subscription = $1", [
    queue.subscription,
  ]);
  expect(await next()).toBeNull();
});

/** Method: a session plans while the table is empty; then it is filled, and the same session counts pages. */
test("where order is kept, taking what is due touches few pages beside a hundred thousand messages that are scheduled or parked", async () => {
  const queue = await ordered();
  const watched = await openWatched(engine.url);
  const statement = `select posthorn.take_due(${queue.subscription}, ${queue.worker}, '[${queue.contract}]', 10)`;
  for (const _ of upTo(8)) await watched.rows(statement);
  await engine.admin.rows(
    `insert into posthorn.deferred (subscription, due_at, delivery, attempts, crashes, reason, message, nonce, channel, lane, contract, key, payload, published_at, history, place)
     select $1, case when i % 2 = 0 then clock_timestamp() + interval '1 hour' else 'infinity' end, 1, 0, 0, 'scheduled', 1000000 + i, i, $2, -1, $3,
       'k' || i % 100, '{}', clock_timestamp(), '[]', case when i % 2 = 1 then i end from generate_series(1, 100000) i`,
    [queue.subscription, queue.channel, queue.contract],
  );
  const pages: number[] = [];
  for (const _ of upTo(3)) pages.push(await watched.pages(statement));
  await watched.close();
  expect(Math.min(...pages)).toBeLessThan(300);
});

test("where order is kept, what was scheduled is no backlog before its time, and is while it waits behind its key", async () => {
  const queue = await ordered();
  const backlog = () =>
    engine.admin.rows("select backlog::int, running::int from posthorn.gauges(100) where subscription = $1", [
      queue.subscription,
    ]);
  for (const n of upTo(3)) await send(queue, n, { delayMs: 3_600_000 }, "a");
  expect(await backlog()).toEqual([{ backlog: 0, running: 0 }]);
  await hasten(queue);
  expect(numbers(await due(queue))).toEqual([1]);
  expect(await backlog()).toEqual([{ backlog: 2, running: 1 }]);
});

test.each(["park", "skip"] as const)(
  "where order is kept and the dead %s, the next of a key goes on when the first has expired while it waited for a retry",
  async (whenDead) => {
    const queue = await ordered(whenDead);
    await send(queue, 1, { expiresInMs: 3_600_000 }, "a");
    const first = only((await claimed(queue)).deliveries);
    const later = { defer: { delayMs: 10_800_000, attempts: 1, crashes: 0 } };
    await settle(engine.db, [part([first], 1, "failed", true)], [end(first, "failed", later)], null);
    // It is due when it expires, not when it would be tried again.
    expect(await rows(queue, "due_at = expires_at as at_its_end, place is not null as placed")).toEqual([
      { at_its_end: true, placed: true },
    ]);
    await send(queue, 2, null, "a");
    expect(await claimed(queue)).toMatchObject({ deliveries: [], again: true });

    await engine.admin.rows(
      "update posthorn.deferred set expires_at = clock_timestamp(), due_at = clock_timestamp() where subscription = $1 and delivery = 2 and due_at < 'infinity'",
      [queue.subscription],
    );
    const expired = only(await due(queue));
    expect(expired.expiresAt).toBeLessThanOrEqual(performance.now());
    await settle(engine.db, [], [end(expired, "expired", null)], null);
    expect(await promote(engine.db, queue.subscription, ["a"])).toBe(1);
    expect(numbers(await due(queue))).toEqual([2]);
  },
);

/** It was parked for nothing, and what came later of its key waited for the sweep. */
test.each(["expired", "skipped"] as const)(
  "where order is kept, the key of a message that has %s out of its claim is free at once",
  async (outcome) => {
    const queue = await ordered("park");
    await send(queue, 1, null, "a");
    const first = only((await claimed(queue)).deliveries);
    await settle(engine.db, [part([first], 1, outcome, true)], [end(first, outcome, null)], null);
    expect(
      await engine.admin.rows("select key from posthorn.parked_key where subscription = $1", [queue.subscription]),
    ).toEqual([]);
    await send(queue, 2, null, "a");
    expect(numbers((await claimed(queue)).deliveries)).toEqual([2]);
  },
);

test("where order is kept, what is put aside and what is moved out of a slow claim keeps its expiry", async () => {
  const queue = await ordered();
  const options = { expiresInMs: 3_600_000 };
  await send(queue, 1, options, "a");
  const first = only((await claimed(queue)).deliveries);
  if (first.hold.from !== "log") throw new Error("it is from the log");
  const { claim, token, claimSlot: slot } = first.hold;
  const what = { claim, token, slot, part: 1, closes: true, worker: queue.worker, running: [first.id], waiting: [] };
  await spill(engine.db, [], what);
  await send(queue, 2, options, "a");
  expect(await claimed(queue)).toMatchObject({ again: true });
  expect(await rows(queue, "expires_at is not null as expires, priority, once_more")).toEqual(
    upTo(2).map(() => ({ expires: true, priority: 0, once_more: false })),
  );
});

test.each([
  ["a priority", { priority: 1 }, /queue "both\d+" keeps the order of each key and takes no priority/],
  ["debounce", { dedupe: { key: "k", mode: "debounce", windowMs: 5 } }, /takes no dedupe of the mode debounce/],
  ["throttle", { dedupe: { key: "k", mode: "throttle", windowMs: 5 } }, /takes no dedupe of the mode throttle/],
  ["replace", { delayMs: 5, dedupe: { key: "k", mode: "replace" } }, /takes no dedupe of the mode replace/],
  ["once-more", { dedupe: { key: "k", mode: "once-more" } }, /takes no dedupe of the mode once-more/],
])(
  "where order is kept, %s is refused by name, alone and in a list, and nothing is written",
  async (_, options, error) => {
    const queue = await ordered();
    expect(await failure(send(queue, 1, options, "a"))).toMatchObject({
      code: "PH015",
      message: expect.stringMatching(error),
    });
    const said = JSON.stringify({
      said: upTo(2).map((n) => ({
        n: String(n),
        ch: queue.channel,
        c: queue.contract,
        k: "a",
        p: 1,
        o: 0,
        dk: String(n),
      })),
      options: [options],
    });
    expect(await failure(engine.admin.value("select posthorn.write_said(null, $1)", [said]))).toMatchObject({
      code: "PH015",
      message: expect.stringMatching(error),
    });
    expect(await rows(queue, "id")).toEqual([]);
    expect(
      await engine.admin.value("select count(*)::int from posthorn.lane where subscription = $1", [queue.subscription]),
    ).toBe(1);
  },
);

test("where order is kept, a priority of zero, a delay, an expiry and drop are taken", async () => {
  const queue = await ordered();
  const drop = { key: "k", mode: "drop", windowMs: 3_600_000 };
  const id = await send(queue, 1, { priority: 0, delayMs: 60_000, expiresInMs: 3_600_000, dedupe: drop }, "a");
  expect(await send(queue, 2, { dedupe: drop }, "a")).toBe(id);
});

test("a scheduled message that is cancelled never begins, and its key of dedupe lets a later request wait again", async () => {
  const queue = await plain();
  const delayed = await send(queue, 1, { delayMs: 3_600_000 });
  expect(await cancelMessage(engine.db, delayed, "me")).toBe("cancelled");
  expect(await cancelMessage(engine.db, delayed, "me")).toBe("cancelled");
  const replace = { delayMs: 3_600_000, dedupe: { key: "k", mode: "replace" } };
  const first = await send(queue, 2, replace);
  expect(await send(queue, 3, replace)).toBe(first);
  expect(await cancelMessage(engine.db, first, "me")).toBe("cancelled");
  const second = await send(queue, 4, replace);
  expect(second).not.toBe(first);
  expect(await messageStatus(engine.db, first)).toMatchObject([{ state: "cancelled" }]);
  await hasten(queue);
  expect(numbers(await due(queue))).toEqual([4]);
});

const once = { dedupe: { key: "k", mode: "once-more" } };

test("when the one more run is cancelled, a further request still waits for the one that runs", async () => {
  const queue = await plain();
  const first = await send(queue, 1, once);
  const running = only(await due(queue));
  const more = await send(queue, 2, once);
  expect(more).not.toBe(first);
  expect(await cancelMessage(engine.db, more, "me")).toBe("cancelled");
  const third = await send(queue, 3, once);
  expect(third).not.toBe(more);
  expect(await due(queue)).toEqual([]);
  expect((await why(engine.db, third))?.receivers[0]).toMatchObject({ state: "scheduled", behind: first });
  await succeedWaiting(running);
  expect(numbers(await due(queue))).toEqual([3]);
});

test("when the one more run is cancelled, a further request is the one that waits for a retry", async () => {
  const queue = await plain();
  const first = await send(queue, 1, once);
  const running = only(await due(queue));
  expect(await cancelMessage(engine.db, await send(queue, 2, once), "me")).toBe("cancelled");
  await settle(engine.db, [], [end(running, "failed", retryNow)], null);
  expect(await send(queue, 3, once)).toBe(first);
  expect(numbers(await due(queue))).toEqual([1]);
});

test("a key whose one more run was cancelled is not forgotten while the first still runs", async () => {
  const queue = await plain();
  await send(queue, 1, once);
  const running = only(await due(queue));
  expect(await cancelMessage(engine.db, await send(queue, 2, once), "me")).toBe("cancelled");
  const keys = () =>
    engine.admin.value("select count(*)::int from posthorn.dedupe where subscription = $1", [queue.subscription]);
  const tidied = async () => {
    await engine.admin.rows("update posthorn.dedupe set look_at = clock_timestamp() - interval '1 s'");
    await engine.admin.rows("select posthorn.tidy_dedupe(1000)");
    return keys();
  };
  expect(await tidied()).toBe(1);
  await succeedWaiting(running);
  expect(await tidied()).toBe(0);
});

test("a running message that is cancelled and then fails lets the one more run go", async () => {
  const queue = await plain();
  const first = await send(queue, 1, once);
  const running = only(await due(queue));
  await send(queue, 2, once);
  expect(await cancelMessage(engine.db, first, "me")).toBe("signalled");
  await settle(engine.db, [], [end(running, "failed", retryNow)], null);
  expect(await messageStatus(engine.db, first)).toMatchObject([{ state: "cancelled" }]);
  expect(numbers(await due(queue))).toEqual([2]);
});

test("a retry that is cancelled lets go the one more run that its end had passed over", async () => {
  const queue = await plain();
  const first = await send(queue, 1, once);
  const running = only(await due(queue));
  const producer = await engine.session();
  await send(queue, 2, once);
  // While the first ends, a producer holds the one that waits behind it.
  await producer.rows("begin");
  await send(queue, 2, once, null, producer);
  await settle(
    engine.db,
    [],
    [end(running, "failed", { defer: { delayMs: 3_600_000, attempts: 1, crashes: 0 } })],
    null,
  );
  await producer.rows("commit");
  expect(await due(queue)).toEqual([]);
  expect(await cancelMessage(engine.db, first, "me")).toBe("cancelled");
  expect(numbers(await due(queue))).toEqual([2]);
});

const hear = ({ subscription }: Reader, ...events: readonly CircuitReport[]) =>
  tellCircuit(engine.db, subscription, events);
const tryNow = ({ subscription }: Reader) =>
  engine.admin.rows("update posthorn.circuit set probe_at = clock_timestamp() where subscription = $1", [subscription]);

test("of scheduled messages none is taken while the circuit is open, and one, the most urgent, when it may be tried", async () => {
  const queue = await guarded();
  const taking = () => takeDue(engine.db, queue.subscription, queue.worker, [queue.contract], 10);
  for (const n of upTo(3)) await send(queue, n, { delayMs: 3_600_000, priority: n === 2 ? 2 : 0 });
  await hasten(queue);
  await hear(queue, { failed: 3 });
  const open = await taking();
  expect([open.deliveries, open.nextInMs]).toEqual([[], undefined]);
  expect(open.openMs).toBeGreaterThan(0);
  await tryNow(queue);
  const probe = only((await taking()).deliveries);
  expect(numbers([probe])).toEqual([2]);
  expect(await taking()).toMatchObject({ deliveries: [], openMs: 1_000 });
  await hear(queue, { succeeded: true, probe: probe.probe ?? "" });
  await succeedWaiting(probe);
  expect(numbers((await taking()).deliveries).toSorted()).toEqual([1, 3]);
});

test("a queue with priorities and a circuit breaker claims nothing while it is open, and the most urgent alone when it may be tried", async () => {
  const queue = await guarded();
  await send(queue, 1);
  await send(queue, 2, { priority: 2 });
  await send(queue, 3, { priority: 2 });
  await hear(queue, { failed: 3 });
  expect(await claimed(queue)).toMatchObject({ deliveries: [], openMs: expect.any(Number) });
  await tryNow(queue);
  const { deliveries, more } = await claimed(queue);
  const probe = only(deliveries);
  expect([numbers([probe]), more, typeof probe.probe]).toEqual([[2], true, "string"]);
  expect(await claimed(queue)).toMatchObject({ deliveries: [], openMs: 1_000 });
  await hear(queue, { succeeded: true, probe: probe.probe ?? "" });
  const rest = await claimed(queue);
  expect([numbers(rest.deliveries), rest.more]).toEqual([[3], true]);
  expect(numbers((await claimed(queue)).deliveries)).toEqual([1]);
});

test.each([
  ["none", { kind: "none", attempts: 1 }, 1_000],
  ["fixed", { kind: "fixed", attempts: 4, delayMs: 500 }, 5_500],
  ["fixed, some at once", { kind: "fixed", attempts: 4, delayMs: 500, immediate: 2 }, 4_500],
  ["fixed, all at once", { kind: "fixed", attempts: 2, delayMs: 500, immediate: 5 }, 2_000],
  ["exponential", { kind: "exponential", attempts: 5, firstMs: 100, maxMs: 400 }, 6_100],
  ["exponential, some at once", { kind: "exponential", attempts: 5, firstMs: 100, maxMs: 400, immediate: 2 }, 5_300],
  ["a list of delays", { kind: "delays", attempts: 3, delaysMs: [0, 250] }, 3_250],
  ["a function, which is not known", { kind: "custom", attempts: 3, delayMs: "function" }, null],
])("the longest redelivery of retries of the kind %s is all runs and all waits", async (_, retry, ms) => {
  const policy = JSON.stringify({ visibilityTimeoutMs: 1_000, retry });
  expect(await engine.admin.value("select posthorn.longest_redelivery($1::json)", [policy])).toBe(ms);
});
