/** A broker that asks for a pause of a day: the circuit of the fleet keeps it, until somebody knows better. */
import { event, type Post, policies, posthorn, type Sql, type } from "posthorn";
import { afterAll, beforeAll, expect, onTestFinished, test } from "vitest";
import { silentLogger } from "../../src/core/logger.js";
import { serviceName } from "../producer/stage.js";
import { eventually } from "../support/eventually.js";
import { createDatabase, type TestDatabase } from "../support/server.js";
import { MemoryBroker } from "./memory-broker.js";

let place: TestDatabase;
beforeAll(async () => {
  place = await createDatabase();
});
afterAll(() => place?.drop());

const day = 86_400_000;
let names = 0;
function stage() {
  names += 1;
  const [topic, out, service] = [`orders-${names}`, `out-${names}`, serviceName()];
  const Placed = event(`Order${names}Placed`, { topic, schema: type<{ n: number }>(), key: () => "one" });
  const start = async (to: MemoryBroker): Promise<Post<Sql>> => {
    const post = posthorn({ service, database: place.url, migrate: "auto", logger: silentLogger }) as Post<Sql>;
    onTestFinished(async () => {
      await post.stop({ graceMs: 0 });
    });
    post.relay(out, { ...policies.relay, from: { topic }, to, startFrom: "oldest" });
    await post.start();
    return post;
  };
  const circuit = async (post: Post<Sql>) => (await post.backlog()).find(({ name }) => name === out)?.circuit;
  /** A process whose broker has asked for a day. */
  const asked = async (broker: MemoryBroker): Promise<Post<Sql>> => {
    const error = new Error("maintenance");
    broker.judge = () => ({ kind: "unavailable", error, retryAfterMs: day });
    const post = await start(broker);
    await post.publishMany(Placed, [{ n: 1 }, { n: 2 }]);
    await eventually(async () => (await circuit(post))?.state === "open");
    const probeAt = Date.parse((await circuit(post))?.probeAt ?? "");
    expect(probeAt).toBeGreaterThan(Date.now() + day - 60_000);
    return post;
  };
  return { Placed, out, start, asked, circuit };
}
const sent = (broker: MemoryBroker) => broker.received.map(({ event: { data } }) => JSON.parse(data).n);

// The circuit stayed open for the day, and what had been tried was put off for as long: nothing that an operator could do changed that.
test("a relay that goes to another broker does not wait for what the one before it has asked for", async () => {
  const { start, asked } = stage();
  await (await asked(new MemoryBroker())).stop();
  const other = new MemoryBroker({}, "memory/other");
  await start(other);
  await eventually(() => other.received.length === 2);
  expect(sent(other)).toEqual([1, 2]);
});

// In a deployment it opened the circuit for the day again, though the processes of after it send to another broker.
test("what a process says that still goes to the broker of before opens the circuit for as long as the policy says", async () => {
  const { Placed, out, start, circuit } = stage();
  const broker = new MemoryBroker();
  let answer: () => void = () => undefined;
  const answered = new Promise<void>((resolve) => {
    answer = resolve;
  });
  broker.delay = () => answered;
  broker.judge = () => ({ kind: "unavailable", error: new Error("maintenance"), retryAfterMs: day });
  const before = await start(broker);
  await before.publish(Placed, { n: 1 });
  await eventually(() => broker.calls.length === 1);
  // A process that was deployed meanwhile has declared it anew.
  await before.transaction(({ tx }) =>
    tx.query(
      `update posthorn.subscription set policy = jsonb_set(policy::jsonb, '{relay,where}', '"memory/other"')::json where name = $1`,
      [out],
    ),
  );
  answer();
  await eventually(async () => (await circuit(before))?.state === "open");
  const { probeAt = "", reason } = (await circuit(before)) ?? {};
  expect(Date.parse(probeAt)).toBeLessThan(Date.now() + 60_000);
  expect(reason).toContain("maintenance");
});

test("a start of the same relay leaves its broker in peace, and resume has it tried at once", async () => {
  const { out, start, asked } = stage();
  const broker = new MemoryBroker();
  await (await asked(broker)).stop();
  broker.judge = () => undefined;
  const calls = broker.calls.length;
  const post = await start(broker);
  await post.publish(event("OrderSeen", { topic: `seen-${names}`, schema: type<object>() }), {});
  expect(broker.calls).toHaveLength(calls);
  expect(await post.operate.resume(out, { by: "ann" })).toMatchObject({ changed: false });
  await eventually(() => broker.received.length === 2);
  expect(sent(broker)).toEqual([1, 2]);
});
