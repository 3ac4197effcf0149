/** What a relay does with what is said: in which form it goes out, and what becomes of it by what the broker says. */
import { ConfigurationError, command, event, type Post, policies, posthorn, retry, type Sql, type } from "posthorn";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { rejected } from "../core/thrown.js";
import { type Home, twoHomes } from "../producer/homes.js";
import { collect, serviceName } from "../producer/stage.js";
import { eventually } from "../support/eventually.js";
import { MemoryBroker } from "./memory-broker.js";

let names = 0;
function stage() {
  names += 1;
  const topic = `orders-${names}`;
  const keyed = { topic, schema: type<{ id: string; n: number }>(), key: ({ id }: { id: string }) => id };
  return {
    topic,
    out: `out-${names}`,
    Placed: event(`Order${names}Placed`, keyed),
    Paid: event(`Order${names}Paid`, keyed),
    Shipped: event(`Order${names}Shipped`, keyed),
    ShippedTwo: event(`Order${names}Shipped`, { ...keyed, version: 2 }),
  };
}

describe.each(twoHomes)("a relay on $name", (kind) => {
  let home: Home;
  const told: string[] = [];
  let open: Post<Sql>[] = [];
  const make = (service = serviceName()): Post<Sql> => {
    const logger = collect(told);
    const post = posthorn({ service, database: home.input, migrate: "auto", logger, workerTimeoutMs: 600_000 });
    open.push(post as Post<Sql>);
    return post as Post<Sql>;
  };
  const stopAll = async () => {
    await Promise.all(open.map((post) => post.stop({ graceMs: 0 })));
    open = [];
  };
  beforeAll(async () => {
    home = await kind.open();
    await make().migrate();
    await stopAll();
  });
  afterEach(stopAll);
  afterAll(() => home?.close());
  const line = async (post: Post<Sql>, name: string) => (await post.backlog()).find((one) => one.name === name);

  test("every event of a topic goes out with the text that was stored, whatever its name and version, also one that was new to everybody after the start", async () => {
    const { topic, out, Placed, Paid, ShippedTwo } = stage();
    const broker = new MemoryBroker();
    const post = make("shop");
    post.relay(out, {
      ...policies.relay,
      from: { topic },
      to: broker,
      startFrom: "oldest",
      typePrefix: "com.example.",
      types: { "com.example.order.shipped.v2": ShippedTwo },
    });
    const headers = { traceparent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", tenant: "acme" };
    await post.publish(Placed, { id: "a", n: 1 }, { headers });
    await post.start();
    await post.publishMany(Paid, [{ id: "a", n: 2 }]);
    await post.publish(ShippedTwo, { id: "b", n: 3 });
    await eventually(() => broker.received.length === 3);
    await post.untilIdle();
    const named = (type: string) => broker.received.find(({ event }) => event.type === `com.example.${type}`);
    const [placed, paid, shipped] = [named(Placed.name), named(Paid.name), named("order.shipped.v2")];
    expect(placed).toMatchObject({
      key: "a",
      event: {
        id: expect.stringMatching(/^[\da-f]+-[\da-f]+$/),
        source: "urn:posthorn:shop",
        type: `com.example.${Placed.name}`,
        data: '{"id":"a","n":1}',
        headers: { tenant: "acme" },
        extensions: {
          partitionkey: "a",
          contractversion: "1",
          traceparent: headers.traceparent,
          correlationid: placed?.event.id,
        },
      },
    });
    expect(paid?.event).toMatchObject({ data: '{"id":"a","n":2}', headers: {} });
    expect(shipped?.event.extensions).toMatchObject({ contractversion: "2", partitionkey: "b" });
    expect(await line(post, out)).toMatchObject({ backlog: 0, running: 0, deadLetters: 0, invalid: 0 });
    const names = [Placed.name, Paid.name, ShippedTwo.name];
    const { rows } = await post.transaction(({ tx }) =>
      tx.query(
        `select name from posthorn.orphans where split_part(name, ' ', 1) = any ($1::text[])
          union all select contract from posthorn.skipped_events where contract = any ($1::text[])`,
        [names],
      ),
    );
    expect(rows).toEqual([]);
  });

  // It was lost beside a traceparent.
  test("a header called __proto__ goes out with its message, also beside the headers of a trace", async () => {
    const { topic, out, Placed } = stage();
    const broker = new MemoryBroker();
    const post = make();
    post.relay(out, { ...policies.relay, from: { topic }, to: broker, startFrom: "oldest" });
    const headers = JSON.parse(
      '{"__proto__":"theirs","tenant":"acme","traceparent":"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}',
    );
    await post.publish(Placed, { id: "a", n: 1 }, { headers });
    await post.start();
    await eventually(() => broker.received.length === 1);
    expect(Object.entries(broker.received[0]?.event.headers ?? {})).toEqual([
      ["__proto__", "theirs"],
      ["tenant", "acme"],
    ]);
  });

  const publishOne = (post: Post<Sql>, name: string, payload: string, key: string) =>
    post.transaction(({ tx }) => tx.query("select posthorn.publish($1, $2::json, key => $3)", [name, payload, key]));

  test("the payload goes out as its producer wrote it: a number that JavaScript cannot hold, space, the order of names, quotes in texts", async () => {
    const { topic, out, Placed } = stage();
    const broker = new MemoryBroker();
    const post = make();
    post.relay(out, { ...policies.relay, from: { topic }, to: broker, startFrom: "oldest" });
    await post.publish(Placed, { id: "a", n: 1 });
    const texts = [
      '{ "n" : 12345678901234567890.10, "id":"b" }',
      '{"id":"\\\\\\"],[","n":[[1,2],[{"a":"}"}]]}',
      '"text"',
      " 17 ",
      "null",
      "[[],{}]",
    ];
    for (const text of texts) await publishOne(post, Placed.name, text, "b");
    broker.state = "away";
    await post.start();
    // Also from where it waits after an outage, which is another statement.
    await eventually(async () => (await line(post, out))?.circuit?.state === "open");
    const tries = broker.opened.length;
    // Each try begins after the one before it was told of; they are told in the log once.
    await eventually(() => broker.opened.length >= tries + 2);
    expect(told.filter((one) => one.includes(`the circuit of "${out}" is open`))).toHaveLength(1);
    broker.state = "up";
    await eventually(() => broker.received.length === texts.length + 1);
    expect(broker.received.map(({ event }) => event.data)).toEqual(['{"id":"a","n":1}', ...texts.map((t) => t.trim())]);
  });

  test("a message that the broker refuses is a dead letter of this relay alone, its key waits behind it, and a redrive sends all of them in order", async () => {
    const { topic, out, Placed } = stage();
    const [broker, other] = [new MemoryBroker(), new MemoryBroker({}, "memory/other")];
    const heard: number[] = [];
    const post = make();
    const policy = { ...policies.relay, from: { topic } } as const;
    post.relay(out, { ...policy, to: broker });
    post.relay(`${out}-other`, { ...policy, to: other });
    post.subscription(`${out}-handler`, { topic, ...policies.notify }).on(Placed, ({ n }) => void heard.push(n));
    broker.judge = ({ event }) =>
      event.data.includes('"n":2,') || event.data.includes('"n":2}')
        ? { kind: "refused", reason: "it is larger than 1 MB; sasl password=hunter2" }
        : undefined;
    await post.start();
    await post.publishMany(
      Placed,
      [1, 2, 3].flatMap((n) => [
        { id: "a", n },
        { id: "b", n: n + 10 },
      ]),
    );
    await eventually(async () => (await line(post, out))?.deadLetters === 1);
    await post.untilIdle();
    const sent = () => broker.received.map(({ event }) => JSON.parse(event.data).n);
    expect(sent().filter((n) => n < 10)).toEqual([1]);
    expect(sent().filter((n) => n > 10)).toEqual([11, 12, 13]);
    expect(other.received).toHaveLength(6);
    expect(heard.toSorted((a, b) => a - b)).toEqual([1, 2, 3, 11, 12, 13]);
    expect(await line(post, `${out}-other`)).toMatchObject({ deadLetters: 0, backlog: 0 });
    const { rows } = await post.transaction(({ tx }) =>
      tx.query<{ reason: string }>("select reason from posthorn.dead_letters where subscription = $1", [out]),
    );
    expect(rows[0]?.reason).toBe(
      "rejected: refused by memory memory/orders: it is larger than 1 MB; sasl password=***",
    );
    broker.judge = () => undefined;
    await post.operate.redrive({ list: "dead-letters", subscription: out, by: "test" });
    await eventually(() => broker.received.length === 6);
    expect(sent().filter((n) => n < 10)).toEqual([1, 2, 3]);
  });

  test("what failed is tried again by the policy, or when the broker said; at the end of its attempts it is a dead letter without a credential", async () => {
    const { topic, out, Placed } = stage();
    const broker = new MemoryBroker();
    const post = make();
    const again = retry.fixed({ attempts: 2, delayMs: 1 });
    post.relay(out, { ...policies.relay, retry: again, ordering: "none", from: { topic }, to: broker });
    const tries = new Map<string, number>();
    broker.judge = ({ key, event }) => {
      const count = (tries.get(event.id) ?? 0) + 1;
      tries.set(event.id, count);
      const error = Object.assign(new Error("503 from https://user:hunter2@example.com/hook"), { code: "E503" });
      if (key === "later" && count < 4) return { kind: "failed", error, retryAfterMs: 1 };
      if (key === "once" && count === 1) return { kind: "failed", error };
      return key === "never" ? { kind: "failed", error } : undefined;
    };
    await post.start();
    await post.publishMany(
      Placed,
      ["later", "once", "never"].map((id) => ({ id, n: 1 })),
    );
    await eventually(async () => broker.received.length === 2 && (await line(post, out))?.deadLetters === 1);
    expect([...tries.values()].toSorted()).toEqual([2, 2, 4]);
    const { rows } = await post.transaction(({ tx }) =>
      tx.query("select reason, history from posthorn.dead_letters where subscription = $1", [out]),
    );
    const stored = JSON.stringify(rows);
    expect(stored).toContain("not sent to memory memory/orders: 503 from https://example.com/hook (E503)");
    expect(`${stored}${told.join("\n")}`).not.toContain("hunter2");
  });

  test("a sender that throws, answers too few or nothing at all is asked for each message alone, and what it is not at fault for goes out", async () => {
    const { topic, out, Placed } = stage();
    const broker = new MemoryBroker();
    const post = make();
    const again = retry.fixed({ attempts: 2, delayMs: 1 });
    post.relay(out, {
      ...policies.relay,
      retry: again,
      ordering: "none",
      from: { topic },
      to: broker,
      startFrom: "oldest",
    });
    const sent: string[] = [];
    broker.answer = (messages) => {
      if (messages.some(({ key }) => key === "throws")) throw new Error("a bug of the client");
      if (messages.some(({ key }) => key === "short")) return [];
      if (messages.some(({ key }) => key === "odd")) return messages.map(() => ({ kind: "perhaps" }));
      if (messages.some(({ key }) => key === "none")) return undefined;
      sent.push(...messages.map(({ key }) => String(key)));
      return messages.map(() => ({ kind: "acknowledged" }));
    };
    await post.publishMany(
      Placed,
      ["throws", "fine-1", "short", "odd", "fine-2", "none"].map((id) => ({ id, n: 1 })),
    );
    await post.start();
    await eventually(async () => (await line(post, out))?.deadLetters === 4);
    expect(sent).toEqual(["fine-1", "fine-2"]);
    expect(told.join("\n")).toContain("its broker answered no list of outcomes for a batch of 1");
  });

  test("a sender that never answers makes the broker count as away before the run is over: no attempt is burnt, and it goes on when it answers", async () => {
    const { topic, out, Placed } = stage();
    const broker = new MemoryBroker();
    const post = make();
    const options = { ...policies.relay, visibilityTimeoutMs: 60_000, sendTimeoutMs: 50, from: { topic }, to: broker };
    post.relay(out, options);
    await post.start();
    broker.state = "silent";
    await post.publishMany(Placed, [{ id: "a", n: 1 }]);
    const circuit = await eventually(async () => {
      const found = (await line(post, out))?.circuit;
      return found?.state === "open" ? found : undefined;
    });
    expect(circuit.reason).toBe("the broker is away, memory memory/orders: no acknowledgement within 50 ms");
    broker.state = "up";
    await eventually(() => broker.received.length === 1);
    await post.untilIdle();
    expect(await line(post, out)).toMatchObject({ backlog: 0, deadLetters: 0 });
    expect(told.filter((one) => one.includes(`"${out}"`)).join("\n")).not.toContain("failed and is tried again");
  });

  test("a queue has one receiver, which may be a relay; its receipts, pauses and drains are those of any queue", async () => {
    names += 1;
    const queue = `shipping-${names}`;
    const Ship = command(`Ship${names}`, { queue, schema: type<{ n: number }>() });
    const broker = new MemoryBroker({ order: "none", mode: "structured" });
    const post = make();
    const relay = post.relay(queue, { ...policies.relay, ordering: "none", from: { queue }, to: broker });
    expect(relay).toMatchObject({ name: queue, from: { queue }, to: { broker: "memory", where: "memory/orders" } });
    await post.start({ queues: [queue] });
    await post.operate.pause(queue, { by: "test" });
    const receipt = await post.send(Ship, { n: 1 });
    expect(await line(post, queue)).toMatchObject({ backlog: 1, relay: { broker: "memory", where: "memory/orders" } });
    await post.operate.resume(queue, { by: "test" });
    expect(await receipt.settled({ withinMs: 60_000 })).toMatchObject({ state: "succeeded" });
    expect(await post.operate.drain(queue)).toBe(true);
    expect(broker.received.map(({ key, event }) => [key, event.id, event.type])).toEqual([
      [null, receipt.id, Ship.name],
    ]);
    expect(broker.opened[0]).toMatchObject({ name: queue, mode: "structured" });
    await post.stop();
    expect(broker.closed).toBe(1);
  });

  test("a replay sends what was sent once more, also of names that this process never heard of", async () => {
    const { topic, out, Placed } = stage();
    const broker = new MemoryBroker();
    const first = make();
    first.relay(out, { ...policies.relay, from: { topic }, to: broker });
    await first.start();
    await first.publishMany(Placed, [
      { id: "a", n: 1 },
      { id: "a", n: 2 },
    ]);
    await eventually(() => broker.received.length === 2);
    await first.untilIdle();
    // Down to the millisecond in which the first was said; the time of a delivery is rounded.
    const { rows } = await first.transaction(({ tx }) =>
      tx.query<{ at: string }>(
        `select to_char(min(m.published_at) at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"') as at
          from posthorn.message_1 m join posthorn.channel c on c.id = m.channel where c.name = $1`,
        [topic],
      ),
    );
    const from = new Date(rows[0]?.at ?? "");
    await first.operate.replay(out, { from, by: "test", confirm: out });
    await eventually(() => broker.received.length === 4);
    const ids = broker.received.map(({ event }) => event.id);
    expect(ids.slice(2)).toEqual(ids.slice(0, 2));
  });

  test("at most once, what has no acknowledgement is not sent again: it is a dead letter that says so", async () => {
    const { topic, out, Placed } = stage();
    const broker = new MemoryBroker();
    const post = make();
    const once = { ...policies.relay, idempotency: "at-most-once", retry: retry.none } as const;
    post.relay(out, { ...once, from: { topic }, to: broker });
    await post.start();
    await post.publish(Placed, { id: "a", n: 1 });
    await eventually(() => broker.received.length === 1);
    broker.answer = () => {
      throw new Error("a bug of the client");
    };
    await post.publishMany(Placed, [
      { id: "b", n: 2 },
      { id: "c", n: 3 },
    ]);
    await eventually(async () => (await line(post, out))?.deadLetters === 2);
    expect(broker.calls.reduce((sum, count) => sum + count)).toBe(3);
  });

  test("a start whose destination is not there fails with the broker's own words and closes what it opened; the next one may succeed", async () => {
    const { topic, out, Placed } = stage();
    const [broker, other] = [new MemoryBroker(), new MemoryBroker()];
    const post = make();
    post.relay(out, { ...policies.relay, from: { topic }, to: broker });
    post.relay(`${out}-other`, { ...policies.relay, from: { topic }, to: other });
    broker.openError = new ConfigurationError("PH_OPTION_INVALID", "memory has no topic orders. Make it first.");
    // It did not say of which relay.
    expect(await rejected(post.start())).toMatchObject({
      code: "PH_OPTION_INVALID",
      message: `relay "${out}": memory has no topic orders. Make it first.`,
      facts: { relay: out },
    });
    expect(other.closed).toBe(1);
    broker.openError = undefined;
    await post.start();
    await post.publish(Placed, { id: "a", n: 1 });
    await eventually(() => broker.received.length + other.received.length === 2);
  });

  test("an address at which nothing listens from the first try is told with what to look at, and the start succeeds", async () => {
    const { topic, out } = stage();
    const broker = new MemoryBroker();
    const post = make();
    post.relay(out, { ...policies.relay, from: { topic }, to: broker });
    const cause = Object.assign(new Error("connect ECONNREFUSED 127.0.0.1:1"), { code: "ECONNREFUSED" });
    broker.openError = new Error("connection refused", { cause });
    await post.start();
    const said = `the broker of the relay "${out}" is away at the start, memory memory/orders: connection refused.`;
    const look = "Nothing listens there: if it should be up, look at the host and the port.";
    expect(told).toContainEqual(expect.stringContaining(`${said} ${look} Messages wait, and go out`));
  });

  test("what waits at the end of a turn goes in one batch, up to its size, and the messages of a key go in their order", async () => {
    const { topic, out, Placed } = stage();
    const broker = new MemoryBroker();
    const post = make();
    post.relay(out, { ...policies.relay, batchSize: 4, from: { topic }, to: broker, startFrom: "oldest" });
    const keys = ["a", "b", "c", "d", "e", "f"];
    await post.publishMany(
      Placed,
      [1, 2].flatMap((n) => keys.map((id) => ({ id, n }))),
    );
    await post.start();
    await eventually(() => broker.received.length === 12);
    expect(Math.max(...broker.calls)).toBe(4);
    for (const id of keys) {
      const ns = broker.received.filter(({ key }) => key === id).map(({ event }) => JSON.parse(event.data).n);
      expect(ns).toEqual([1, 2]);
    }
  });
});
