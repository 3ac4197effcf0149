/** What a relay is told, and what is refused of it. */
import { command, describePolicy, event, policies, posthorn, retry, type } from "posthorn";
import { expect, test } from "vitest";
import { kafka } from "../../src/brokers/kafka/index.js";
import { mqtt } from "../../src/brokers/mqtt/index.js";
import { nats } from "../../src/brokers/nats/index.js";
import { rabbitmq } from "../../src/brokers/rabbitmq/index.js";
import { redis } from "../../src/brokers/redis/index.js";
import { sqs } from "../../src/brokers/sqs/index.js";
import { webhook } from "../../src/brokers/webhooks/index.js";
import { cleaned, reasonOf } from "../../src/core/clean.js";
import { silentLogger } from "../../src/core/logger.js";
import { readStoredPolicy, storedPolicy } from "../../src/policies/policy.js";
import { checkRelay } from "../../src/relays/options.js";
import { thrown } from "../core/thrown.js";
import { MemoryBroker } from "./memory-broker.js";

const good = { ...policies.relay, from: { topic: "orders" }, to: new MemoryBroker() };
const refusal = (options: unknown, name = "out"): string => thrown(() => checkRelay(options, name)).message;

test("a relay without its decisions lists all that are missing", () => {
  const message = refusal({});
  for (const name of ["from", "to", "retry", "idempotency", "ordering", "visibilityTimeoutMs", "deadLetter", "alerts"])
    expect(message).toContain(`\n  ${name}: `);
});

test("what cannot be kept is refused with the reason", () => {
  const { ordering, ...unordered } = good;
  const acknowledgeless = new MemoryBroker({ acknowledges: false });
  expect(refusal({ ...good, idempotency: "transaction" })).toContain("takes no part in a transaction of this database");
  expect(refusal({ ...good, idempotency: "at-most-once" })).toContain("must be retry.none");
  expect(refusal({ ...good, to: acknowledgeless })).toContain("or say lossy: true");
  expect(refusal({ ...good, to: new MemoryBroker({ sends: false }) })).toContain("nothing can be sent to");
  expect(refusal({ ...good, to: new MemoryBroker({ order: "none" }) })).toContain("keeps no order");
  expect(refusal({ ...good, sendTimeoutMs: 15_001 })).toContain("at most half of");
  expect(refusal({ ...good, from: { queue: "shipping" } })).toContain('Call the relay "shipping"');
  expect(refusal({ ...good, results: { keepMs: 1 } })).toContain('unknown option "results"');
  expect(refusal({ ...good, backlogLimit: { messages: 1, whenFull: "reject" } })).toContain("is for queues");
  expect(refusal({ ...good, batchSize: 1_001 })).toContain("from 1 to 1000");
  const lossy = checkRelay({ ...good, lossy: true, to: acknowledgeless }, "out");
  expect(lossy.settings.to.features).toBe(acknowledgeless.features);
  // It was accepted, and allowed nothing.
  expect(refusal({ ...good, lossy: true })).toContain("lossy is for a broker that does not acknowledge, and this");
  const loose = { ...unordered, ordering: "none", to: new MemoryBroker({ order: "none" }) };
  expect(checkRelay(loose, "out").policy.ordering).toBe("none");
  expect(ordering).toEqual({ per: "key", whenDead: "park" });
});

test("a key of from that is misspelt is named, with what is meant", () => {
  // "got an object" was all.
  expect(refusal({ ...good, from: { topics: "orders" } })).toContain(
    '; got an object. It has an unknown option "topics". Did you mean "topic"? Known are: topic, queue.',
  );
  expect(refusal({ ...good, from: { topic: "orders", start: "oldest" } })).toContain('an unknown option "start"');
  expect(refusal({ ...good, from: { topic: "a", queue: "b" } })).toMatch(/got an object\. Name one of them\.$/);
});

test("a source of messages is a topic or a queue, and a broker is one that was made; neither repeats a text, which may hold a password", () => {
  for (const from of [undefined, null, "orders", {}, { topic: "a", queue: "b" }, { exchange: "a" }])
    expect(refusal({ ...good, from })).toMatch(/from/);
  for (const to of ["amqp://user:hunter2@host", {}, null, { kind: "x", where: "y" }]) {
    const message = refusal({ ...good, to });
    expect(message).toMatch(/to must be a broker|lacks the option to/);
    expect(message).not.toContain("hunter2");
  }
});

// What is none went out as it was, and receivers that look at it refused every event.
test("the source of a relay is a URI-reference, and a text that is none is refused", () => {
  const fitting = [
    "urn:example:shop",
    "https://shop.example/a?b=c#d",
    "/shop",
    "shop",
    "a%20b",
    "https://[::1]/",
    "./a:b",
  ];
  for (const source of fitting) expect(checkRelay({ ...good, source }, "out").settings.source).toBe(source);
  for (const source of ["", "our shop", "a%2", "1a:b", ":a", "a#b#c", "straße", 'a"b', "a<b>", "x".repeat(501), 7])
    expect(refusal({ ...good, source })).toContain("source must be a URI-reference of 1 to 500 letters");
});

test("a contract goes out under the type that is named for its version, every other under the prefix and its name", () => {
  const OrderPlaced = event("OrderPlaced", { topic: "orders", schema: type<{ id: string }>() });
  const OrderLost = event("OrderLost", { topic: "parcels", schema: type<{ id: string }>() });
  const Ship = command("Ship", { queue: "orders", schema: type<{ id: string }>() });
  const types = { "com.acme.order.placed": OrderPlaced };
  const named = checkRelay({ ...good, types, typePrefix: "com." }, "out").settings.types;
  const olds = ["OrderPlaced", "OrderLost"].map((name) => named.of({ name, version: 2 }));
  expect([named.of(OrderPlaced), ...olds]).toEqual(["com.acme.order.placed", "com.OrderPlaced", "com.OrderLost"]);
  const confused = checkRelay({ ...good, types: { OrderLost: OrderPlaced } }, "out").settings.types;
  expect(thrown(() => confused.of({ name: "OrderLost", version: 1 })).message).toBe(
    'its type would be "OrderLost", which `types` of the relay gives to OrderPlaced. Name a type for OrderLost there, or another one for OrderPlaced.',
  );
  expect(confused.of({ name: "OrderPlaced", version: 2 })).toBe("OrderPlaced");
  const again = { ...types, "order.placed": OrderPlaced };
  expect(refusal({ ...good, types: again })).toBe(
    'relay("out").types has two types for version 1 of OrderPlaced: "com.acme.order.placed" and "order.placed". A message goes out under one. Leave the other out.',
  );
  expect(refusal({ ...good, types: { lost: OrderLost } })).toBe(
    'relay("out").types["lost"] is the event OrderLost of the topic "parcels", and the relay carries what goes to the topic "orders". Leave it out, or give it to the relay that carries it.',
  );
  expect(refusal({ ...good, types: { ship: Ship } })).toContain('is the command Ship of the queue "orders", and the');
  expect(refusal({ ...good, types: { "": OrderPlaced } })).toContain("one has 1 to 500 letters");
  expect(refusal({ ...good, types: { placed: "OrderPlaced" } })).toContain("Give a contract that the relay carries");
  expect(refusal({ ...good, types: [OrderPlaced] })).toContain("each under its type");
});

test("a mistyped option is called an option, with the one that is meant; one of an intake leads to the intake", () => {
  expect(refusal({ ...good, typePrefx: "com." })).toMatch(
    /^relay\("out"\) has an unknown option "typePrefx"\. Did you mean "typePrefix"\? Known are: from, to, /,
  );
  for (const name of ["into", "read", "inbox", "otherTypes"])
    expect(refusal({ ...good, [name]: [] })).toMatch(
      /belongs to an intake, which takes in.*post\.intake\(…\)\. Known are:/,
    );
  const backwards = refusal({ ...good, from: good.to });
  expect(backwards).toContain(
    "got a broker. A relay reads a topic or a queue of this database and sends `to` a broker",
  );
  expect(backwards).toContain("post.intake(…)");
  expect(refusal({})).toMatch(/lacks 2 options from, to and 6 decisions retry, idempotency, /);
});

test("a relay has a circuit breaker, which is tried a second after it opened, unless it has another", () => {
  const { circuitBreaker, ...without } = good;
  expect(circuitBreaker?.openMs).toBe(1_000);
  expect(checkRelay(without, "out").policy.circuitBreaker).toEqual({ failures: 20, windowMs: 10_000, openMs: 1_000 });
  const own = { failures: 3, windowMs: 1_000, openMs: 7_000 };
  expect(checkRelay({ ...good, circuitBreaker: own }, "out").policy.circuitBreaker).toEqual(own);
});

test("an acknowledgement is waited for at most half the time of a run, and ten seconds unless told otherwise", () => {
  const of = (options: object) => checkRelay({ ...good, ...options }, "out").settings.sendTimeoutMs;
  expect([
    of({}),
    of({ visibilityTimeoutMs: 5_000 }),
    of({ visibilityTimeoutMs: 1 }),
    of({ sendTimeoutMs: 15_000 }),
  ]).toEqual([10_000, 2_500, 1, 15_000]);
});

// It was accepted, and the relay gave up long before.
test("a time that a broker was told to wait is one that the relay waits as well, or it is refused with both numbers and what to do", () => {
  const waiting = (timeoutMs: number, atOnce?: number) =>
    Object.assign(new MemoryBroker(), { timeoutMs, ...(atOnce !== undefined && { atOnce }) });
  const untold = (atOnce: number) => Object.assign(new MemoryBroker(), { atOnce });
  const of = (to: MemoryBroker, options: object = {}) =>
    checkRelay({ ...good, visibilityTimeoutMs: 60_000, ...options, to }, "out").settings.sendTimeoutMs;
  expect([of(waiting(9_000)), of(waiting(20_000)), of(waiting(12_000, 10)), of(waiting(20_000, 10))]).toEqual([
    10_000, 20_000, 24_000, 30_000,
  ]);
  // It had 10 s as well, and a message that had waited 7 s for its turn was given up after 3, and posted twice.
  expect([of(untold(10)), of(untold(10), { visibilityTimeoutMs: 30_000 })]).toEqual([20_000, 15_000]);
  expect(of(waiting(20_000), { sendTimeoutMs: 20_000 })).toBe(20_000);
  expect(refusal({ ...good, visibilityTimeoutMs: 60_000, sendTimeoutMs: 19_999, to: waiting(20_000) })).toMatch(
    /relay\("out"\)\.to waits 20000 ms .* gives up after 19999 ms, its sendTimeoutMs: .* Lower timeoutMs to 19999, or raise sendTimeoutMs to 20000 and visibilityTimeoutMs to 40000 /,
  );
  expect(refusal({ ...good, to: waiting(15_001) })).toMatch(
    /gives up after 15000 ms, half of visibilityTimeoutMs, 30000: /,
  );
  for (const timeoutMs of [0, -1, Number.NaN, "5"])
    expect(refusal({ ...good, to: Object.assign(new MemoryBroker(), { timeoutMs }) })).toContain("to must be a broker");
});

const told = (timeoutMs: number | undefined) => (timeoutMs === undefined ? {} : { timeoutMs });
test.each([
  ["kafka", (timeoutMs?: number) => kafka({ url: "kafka://a", topic: "t", ...told(timeoutMs) })],
  ["mqtt", (timeoutMs?: number) => mqtt({ url: "mqtt://a", topic: "t", ...told(timeoutMs) })],
  ["nats", (timeoutMs?: number) => nats({ url: "nats://a", stream: "s", subject: "t", ...told(timeoutMs) })],
  ["rabbitmq", (timeoutMs?: number) => rabbitmq({ url: "amqp://a", queue: "q", ...told(timeoutMs) })],
  ["redis", (timeoutMs?: number) => redis({ url: "redis://a", stream: "s", ...told(timeoutMs) })],
  ["sqs", (timeoutMs?: number) => sqs({ url: "https://a", queue: "q", region: "eu-west-1", ...told(timeoutMs) })],
  ["webhooks", (timeoutMs?: number) => webhook({ url: "https://a.example", sign: "none", ...told(timeoutMs) })],
] as const)("%s tells the time that it was told, and none that nobody has said", (kind, make) => {
  const options = { ...good, ordering: "none" };
  expect(make().timeoutMs).toBeUndefined();
  expect(checkRelay({ ...options, to: make() }, "out").settings.sendTimeoutMs).toBe(
    kind === "webhooks" ? 15_000 : 10_000,
  );
  expect(refusal({ ...options, to: make(60_000) })).toContain("waits 60000 ms for an answer");
});

test("a policy says where it is relayed to, also when it comes back from the registry; nobody else can say it", () => {
  const { policy } = checkRelay(good, "out");
  const stored: unknown = JSON.parse(JSON.stringify(storedPolicy(policy)));
  expect(readStoredPolicy(stored, "out")).toEqual(policy);
  for (const described of [policy, readStoredPolicy(stored, "out")])
    expect(describePolicy(described)).toMatch(/^relayed to memory memory\/orders; tried at 0 s/);
  const post = posthorn({ service: "own", database: "embedded:/nowhere", logger: silentLogger });
  const own = { ...policies.notify, retry: retry.none, relay: policy.relay };
  expect(thrown(() => post.queue("q", own)).message).toContain('unknown option "relay"');
});

test("a text of a foreign error is kept without what looks like a credential", () => {
  const hidden = [
    "connect to amqps://user:hunter2@host:5671/vhost failed",
    "redis://:hunter2@host",
    "nats://hunter2@host:4222",
    "kafka://us%40er:hunter2@a:1,b:2",
    "https://user:hun@ter2:hunter2@host/path",
    'sasl {"username":"u","password":"hunter2"}',
    "password = hunter2, then",
    "token: 'hunter2'",
    "SecretAccessKey=hunter2;",
    "Authorization: Bearer hunter2.hunter2",
    "authorization: Basic aHVudGVyMg==hunter2",
    "GET /?api_key=hunter2&x=1",
  ];
  for (const text of hidden) expect(cleaned(text)).not.toContain("hunter2");
  const plain = "connect ECONNREFUSED 127.0.0.1:5672: no basic exchange called token in orders@eu";
  expect(cleaned(plain)).toBe(plain);
  expect(reasonOf(new AggregateError([new Error("a: password=hunter2"), new Error("b")]))).toBe("a: password=***; b");
  expect(reasonOf(Object.assign(new Error("closed"), { code: "EPIPE" }))).toBe("closed (EPIPE)");
  const hostile = Object.defineProperty(new Error("x"), "message", {
    get: () => {
      throw new Error("the getter");
    },
  });
  expect(reasonOf(hostile)).toBe("an error that cannot be read");
});

test("where a broker is, is kept and shown without what looks like a credential, whoever made it", () => {
  const to = new MemoryBroker({}, "amqps://user:hunter2@host/orders");
  const { policy, settings } = checkRelay({ ...good, to }, "out");
  expect(policy.relay).toEqual({ broker: "memory", where: "amqps://host/orders" });
  expect(settings.to).toMatchObject({ where: "amqps://host/orders", features: to.features });
  const bare = new MemoryBroker({}, "user:hunter2@host:5672,other:hunter2@host-2/orders@eu");
  expect(checkRelay({ ...good, to: bare }, "out").settings.to.where).toBe("host:5672,host-2/orders@eu");
});
