/** What people are told of a relay by the command line: what it is, where it sends to, and why nothing goes out. */
import { event, type Post, policies, posthorn, type Sql, type } from "posthorn";
import { afterAll, beforeAll, expect, test } from "vitest";
import { ConfigurationError } from "../../src/core/errors.js";
import { silentLogger } from "../../src/core/logger.js";
import { posthornCommand, project } from "../cli/command.js";
import { eventually } from "../support/eventually.js";
import { createDatabase, type TestDatabase } from "../support/server.js";
import { MemoryBroker } from "./memory-broker.js";

const OrderPlaced = event("OrderPlaced", {
  topic: "orders",
  schema: type<{ id: string }>(),
  key: ({ id }) => id,
});
const broker = new MemoryBroker({}, "broker.example.org:5672/orders");
const busy = new MemoryBroker({}, "partners.example.org:5672/orders");
busy.judge = () => ({ kind: "failed", error: new Error("try later"), retryAfterMs: 3_600_000 });
let place: TestDatabase;
let post: Post<Sql>;
beforeAll(async () => {
  place = await createDatabase();
  post = posthorn({ service: "shop", database: place.url, migrate: "auto", logger: silentLogger }) as Post<Sql>;
  // Long enough that the circuit stays open while it is looked at.
  const circuitBreaker = { failures: 20, windowMs: 10_000, openMs: 3_600_000 };
  post.relay("out", { ...policies.relay, circuitBreaker, from: { topic: "orders" }, to: broker });
  post.relay("partners", { ...policies.relay, from: { topic: "orders" }, to: busy });
  await post.start();
  broker.state = "away";
  await post.publish(OrderPlaced, { id: "a" });
  await eventually(async () => (await post.backlog())[0]?.circuit?.state === "open");
});
afterAll(async () => {
  await post?.stop({ graceMs: 0 });
  await place?.drop();
});

const command = async (...args: readonly string[]) => {
  const { out, err } = await posthornCommand([...args, "--database", place.url]);
  expect(err).toBe("");
  return out;
};
const away = "the broker is away, memory broker.example.org:5672/orders: connect ECONNREFUSED 127.0.0.1:1";

test("the policy of a relay read back says first where it is relayed to", async () => {
  expect(await command("policy", "out")).toContain("  relayed to memory broker.example.org:5672/orders\n");
  expect(JSON.parse(await command("policy", "out", "--json"))).toMatchObject({
    policy: { relay: { broker: "memory", where: "broker.example.org:5672/orders" } },
    description: { relayedTo: { broker: "memory" } },
  });
});

test("the status says which broker a relay sends to and why it does not, and an open alert says it as well", async () => {
  await eventually(async () => (await command("status")).includes("circuitOpen"));
  const status = await command("status");
  expect(status).toContain("out is relayed to memory broker.example.org:5672/orders.\n");
  expect(status).toContain(`: ${away}. Nobody takes a message before `);
  const alerts = await command("alerts");
  // One answer opened it. It was shown as "20, limit 20".
  expect(alerts).toMatch(/circuitOpen +the broker is away, memory broker\.example\.org:5672\/orders: .* 1 +1 /);
});

// It said "No waiting or dead message has an error" while nothing went out.
test("the errors say which circuit is open, since when and why, and how many messages wait behind it", async () => {
  const one = await command("errors");
  expect(one).toMatch(
    /^The circuit of out is open since [^ ]+( [^ ]+)?: the broker is away, memory .*\. 1 message waits: posthorn waiting out$/m,
  );
  const { circuits } = JSON.parse(await command("errors", "--json"));
  expect(circuits).toEqual([{ name: "out", waiting: 1, circuit: expect.objectContaining({ state: "open" }) }]);
  expect(await command("errors", "--subscription", "partners")).not.toContain("circuit");
});

test("why a message of a relay waits is that the broker is away, and the next one is said to wait for the circuit", async () => {
  const { rows } = await post.transaction(({ tx }) =>
    tx.query<{ id: string }>("select posthorn.public_id(message, nonce) as id from posthorn.deferred"),
  );
  expect(await command("why", rows[0]?.id ?? "")).toMatch(
    new RegExp(`^out: put off by the relay 'out' until [-\\d: ]+: ${away.replaceAll(".", "\\.")}\n`),
  );
  await post.publish(OrderPlaced, { id: "b" });
  const { rows: log } = await post.transaction(({ tx }) =>
    tx.query<{ id: string }>(
      "select posthorn.public_id(id, nonce) as id from posthorn.message_1 order by id desc limit 1",
    ),
  );
  expect(await command("why", log[0]?.id ?? "")).toMatch(
    /the circuit of 'out' is open since [^ ]+, as the relay said: the broker is away, memory/,
  );
});

test("why a message waits that a broker does not take yet is told with the relay, the broker and what it said", async () => {
  const waits = async () => {
    const { rows } = await post.transaction(({ tx }) =>
      tx.query<{ id: string }>(
        "select posthorn.public_id(d.message, d.nonce) as id from posthorn.deferred d join posthorn.subscription s on s.id = d.subscription where s.name = 'partners'",
      ),
    );
    return rows[0]?.id;
  };
  expect(await command("why", (await eventually(waits)) ?? "")).toMatch(
    /\npartners: put off by the relay 'partners' until [-\d: ]+: not sent to memory partners\.example\.org:5672\/orders: try later\n$/,
  );
});

// All of them said that the broker is away, and the log that messages go out when it is back.
test("credentials that are refused while it runs are told as what has to be mended, and nothing is lost by them", async () => {
  const denied = new MemoryBroker({}, "third.example.org:5672/orders");
  const message = "memory at third.example.org:5672/orders does not let this client in. Correct it.";
  const other = posthorn({ service: "third", database: place.url, migrate: "auto", logger: silentLogger }) as Post<Sql>;
  const circuitBreaker = { failures: 20, windowMs: 10_000, openMs: 100 };
  other.relay("third", { ...policies.relay, circuitBreaker, from: { topic: "thirds" }, to: denied });
  await other.start();
  try {
    const error = new ConfigurationError("PH_BROKER_DENIED", message);
    denied.judge = () => ({ kind: "unavailable", error });
    const Third = event("ThirdPlaced", { topic: "thirds", schema: type<{ id: string }>() });
    await other.publish(Third, { id: "a" });
    const said = `nothing goes out before this is mended, memory: ${message.slice(0, -1)} (PH_BROKER_DENIED)`;
    await eventually(async () => (await command("status")).includes(said));
    expect(await command("alerts")).toContain("nothing goes out before this is mended");
    denied.judge = () => undefined;
    await eventually(() => denied.received.length === 1);
  } finally {
    await other.stop({ graceMs: 0 });
  }
});

test("the check of a configuration finds nothing missing in a relay, which has no handlers", async () => {
  const folder = await project({
    "posthorn.config.mjs": `
      import { policies, posthorn } from "posthorn";
      const features = { acknowledges: true, sends: true, receives: false, order: "key", mode: "binary" };
      const to = { kind: "memory", where: "here", features, openSender() {}, openReceiver() {} };
      export const post = posthorn({ service: "other", database: "postgres://nowhere/none" });
      post.relay("elsewhere", { ...policies.relay, from: { topic: "orders" }, to });
      export default post;`,
  });
  const { out, code, err } = await posthornCommand(["check", "--offline"], { cwd: folder });
  expect(`${out}${err}`).toBe("Nothing is wrong.\n");
  expect(code).toBe(0);
});

// Status, alerts and why went on saying that the connection was refused.
test("a broker that is back and answers otherwise is told with what it answers now, and when", async () => {
  broker.judge = () => ({
    kind: "failed",
    error: Object.assign(new Error("401 \u001b[31munauthorized"), { code: "E401" }),
  });
  broker.state = "up";
  await post.transaction(({ tx }) => tx.query("update posthorn.circuit set probe_at = clock_timestamp()"));
  await eventually(async () => (await post.backlog()).some(({ circuit }) => circuit?.reason?.includes("401")));
  const now = "not sent to memory broker\\.example\\.org:5672/orders: 401 +\\[31munauthorized \\(E401\\)";
  const status = await command("status");
  expect(status).toMatch(
    new RegExp(`The circuit of out is open since [-\\d: ]+; the newest answer, at [-\\d: ]+: ${now}\\. Nobody`),
  );
  expect(await command("alerts")).toMatch(new RegExp(`circuitOpen +${now} \\(said at [-\\d: ]+\\) +1 +1 `));
  await post.publish(OrderPlaced, { id: "c" });
  const { messages } = JSON.parse(await command("waiting", "out", "--json"));
  const last = messages.at(-1).message;
  expect(await command("why", last)).toMatch(
    new RegExp(
      `the circuit of 'out' is open since [-\\d: ]+, 1 probe failed since, the newest answer at [-\\d: ]+: ${now}; next probe`,
    ),
  );
});

// It was stored and shown with the stack of this library.
test("the errors of what a broker did not take have its words and its code, and no stack, which would be ours", async () => {
  const { groups } = JSON.parse(await command("errors", "--subscription", "out", "--json"));
  expect(groups).toMatchObject([{ name: "NotSent", code: "E401", at: null, count: 1 }]);
  const [table] = (await command("errors", "--subscription", "out")).split("\n\n");
  expect(table).not.toContain(" at ");
  const { rows } = await post.transaction(({ tx }) =>
    tx.query<{ history: string }>("select string_agg(history::text, ',') as history from posthorn.deferred"),
  );
  expect(rows[0]?.history).toContain("E401");
  expect(rows[0]?.history).not.toContain('"stack"');
});
