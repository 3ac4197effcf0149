/**
 * Goal: the rules of the circuit breaker, each from a planted state: when it opens, who may try, what closes it.
 * Method: sessions of workers ask the functions that workers ask; times are written into the row, none is waited for.
 */
import { afterAll, beforeAll, expect, test } from "vitest";
import { type CircuitReport, tellCircuit } from "../../src/store/circuit.js";
import { crossedAlerts } from "../../src/store/operate.js";
import { registerContract, registerSubscription } from "../../src/store/registry.js";
import { backlog } from "../../src/store/status.js";
import { type Claimed, type Delivery, settle, takeDue, work } from "../../src/store/work.js";
import {
  die,
  type Engine,
  end,
  makeWorker,
  openEngine,
  part,
  type Reader,
  rescueAll,
  retryNow,
  say,
  upTo,
} from "./engine.js";

let engine: Engine;
beforeAll(async () => {
  engine = await openEngine();
});
afterAll(() => engine.close());

const breaker = { failures: 3, windowMs: 60_000, openMs: 30_000 };

/** A queue with a breaker; with null without one. */
async function guarded(name: string, circuitBreaker: object | null = breaker): Promise<Reader> {
  const entry = { kind: "command", name: `Do${name}`, version: 1, channel: name, keyed: false, owner: null };
  const { contract, channel } = await registerContract(engine.db, entry, "test", false);
  const policy = JSON.stringify({
    deadLetter: { keepMs: 60_000 },
    visibilityTimeoutMs: 30_000,
    alerts: { oldestAgeMs: 3_600_000, backlog: 1_000, deadLetters: 1_000, noWorkerMs: 3_600_000 },
    ...(circuitBreaker === null ? {} : { circuitBreaker }),
  });
  const reader = { name, kind: "command", channel: name, idempotency: "handler", policy } as const;
  const { subscription } = await registerSubscription(engine.db, reader, "test");
  return { subscription, channel, contract };
}

const hear = ({ subscription }: Reader, ...events: readonly CircuitReport[]) =>
  tellCircuit(engine.db, subscription, events);

const circuit = async ({ subscription }: Reader) => {
  const [row] = await engine.admin.rows(
    "select state, failures, reason, probes, cardinality(failed_at) as counted, probe_at > clock_timestamp() as waits from posthorn.circuit where subscription = $1",
    [subscription],
  );
  return row;
};
const plant = ({ subscription }: Reader, change: string) =>
  engine.admin.rows(`update posthorn.circuit set ${change} where subscription = $1`, [subscription]);
const due = (reader: Reader) => plant(reader, "probe_at = clock_timestamp() - interval '1 ms'");

const claim = ({ subscription }: Reader, worker: string, limit = 10): Promise<Claimed> =>
  work(engine.db, subscription, worker, limit, []);
const taken = ({ subscription, contract }: Reader, worker: string) =>
  takeDue(engine.db, subscription, worker, [contract], 10);

/** A circuit that has just opened. */
async function opened(name: string): Promise<{ reader: Reader; worker: string }> {
  const reader = await guarded(name);
  const worker = await makeWorker(engine, [reader]);
  await say(engine.db, reader, upTo(5));
  await hear(reader, { failed: 3 });
  return { reader, worker };
}

/** The message that is tried once the time has come. */
async function probing(name: string): Promise<{ reader: Reader; worker: string; tried: Delivery; probe: string }> {
  const { reader, worker } = await opened(name);
  await due(reader);
  const { deliveries } = await claim(reader, worker);
  const [tried] = deliveries;
  if (tried?.probe === undefined) throw new Error("one message should be tried");
  expect(deliveries).toHaveLength(1);
  return { reader, worker, tried, probe: tried.probe };
}

test("a circuit opens at the last of the failures that its policy names, whoever tells of them, and not one sooner", async () => {
  const reader = await guarded("counts");
  const worker = await makeWorker(engine, [reader]);
  await say(engine.db, reader, upTo(30));
  expect(await hear(reader, { failed: 1 })).toMatchObject({ changed: null });
  expect(await hear(reader, { failed: 1 })).toMatchObject({ changed: null });
  expect((await claim(reader, worker)).deliveries).toHaveLength(10);
  expect(await hear(reader, { failed: 1 })).toMatchObject({ changed: "opened", failures: 3, openMs: 30_000 });
  expect(await circuit(reader)).toMatchObject({ state: "open", failures: 3, probes: 0, waits: true });
});

test("while a circuit is open nobody claims or takes anything of its queue, and is told when to look again; other queues go on", async () => {
  const { reader, worker } = await opened("nobody");
  const other = await guarded("others");
  await say(engine.db, other, [1]);
  for (const who of [worker, await makeWorker(engine, [reader])]) {
    const { deliveries, openMs = 0 } = await claim(reader, who);
    expect(deliveries).toEqual([]);
    expect(openMs).toBeGreaterThan(0);
    expect(openMs).toBeLessThanOrEqual(30_000);
    expect(await taken(reader, who)).toMatchObject({ deliveries: [], openMs: expect.any(Number) });
  }
  expect((await claim(other, await makeWorker(engine, [other]))).deliveries).toHaveLength(1);
});

test("parts that come with a claim are settled although the circuit is open", async () => {
  const reader = await guarded("settles");
  const worker = await makeWorker(engine, [reader]);
  await say(engine.db, reader, upTo(3));
  const { deliveries } = await claim(reader, worker);
  await hear(reader, { failed: 3 });
  const done = part(deliveries, 1, "succeeded", true);
  expect(await work(engine.db, reader.subscription, worker, 10, [done])).toMatchObject({
    deliveries: [],
    openMs: expect.any(Number),
  });
  expect(
    await engine.admin.value("select count(*)::int from posthorn.settlement_1 where claim = $1", [done.claim]),
  ).toBe(1);
});

test("a failure that is older than the window does not count", async () => {
  const reader = await guarded("window");
  await hear(reader, { failed: 2 });
  await plant(reader, "failed_at = array(select at - interval '61 s' from unnest(failed_at) at)");
  expect(await hear(reader, { failed: 2 })).toMatchObject({ changed: null });
  expect(await circuit(reader)).toMatchObject({ state: "closed", counted: 2 });
  expect(await hear(reader, { failed: 1 })).toMatchObject({ changed: "opened" });
});

test("many failures that are told at once open it once, and count no more than it takes", async () => {
  const reader = await guarded("many");
  expect(await hear(reader, { failed: 1_000 })).toMatchObject({ changed: "opened", failures: 3 });
  expect(await hear(reader, { failed: 1_000 })).toMatchObject({ changed: null });
});

test("of many workers that ask in the moment when a circuit is due, exactly one gets exactly one message", async () => {
  const { reader } = await opened("rush");
  await due(reader);
  const answers = await Promise.all(
    upTo(8).map(async () => {
      const worker = await makeWorker(engine, [reader]);
      const session = await engine.session();
      return work(session, reader.subscription, worker, 10, []);
    }),
  );
  const tried = answers.flatMap(({ deliveries }) => deliveries);
  expect(tried).toHaveLength(1);
  expect(tried[0]?.probe).toMatch(/^\d+$/);
  expect(answers.filter(({ openMs }) => openMs !== undefined)).toHaveLength(7);
  expect(await circuit(reader)).toMatchObject({ state: "half-open" });
});

test("the success of the message that was tried closes the circuit, and forgets the failures", async () => {
  const { reader, worker, probe } = await probing("closes");
  expect(await hear(reader, { succeeded: true, probe })).toMatchObject({ changed: "closed" });
  expect(await circuit(reader)).toMatchObject({ state: "closed", failures: null, counted: 0 });
  expect((await claim(reader, worker)).deliveries).toHaveLength(4);
  expect(await hear(reader, { failed: 2 })).toMatchObject({ changed: null });
});

test("the failure of the message that was tried opens the circuit again for the whole time, however few failed since", async () => {
  const { reader, worker, probe } = await probing("again");
  expect(await hear(reader, { failed: 1, probe })).toMatchObject({ changed: "opened", probes: 1, failures: 3 });
  expect(await claim(reader, worker)).toMatchObject({ deliveries: [], openMs: expect.any(Number) });
  expect(await circuit(reader)).toMatchObject({ state: "open", probes: 1, waits: true });
});

// It said for ever what had opened it, or nothing where failures had.
test("what the newest message that was tried said is the reason of the circuit, with when, and what closes it forgets it", async () => {
  const { reader, worker, probe } = await probing("reasons");
  await say(engine.db, reader, upTo(5));
  const facts = async () => (await backlog(engine.db)).find(({ name }) => name === "reasons")?.circuit;
  expect(await facts()).not.toHaveProperty("reasonAt");
  await hear(reader, { failed: 1, probe, said: "connect ECONNREFUSED" });
  const first = await facts();
  expect(first).toMatchObject({ failures: 3, probes: 1, reason: "connect ECONNREFUSED", reasonAt: expect.any(String) });
  const next = async () => {
    await due(reader);
    return (await claim(reader, worker)).deliveries[0]?.probe ?? "";
  };
  // A run of another time says nothing: neither one of before, nor a trial that is over.
  await hear(reader, { failed: 1, said: "of before" }, { failed: 1, probe, said: "over" });
  expect(await facts()).toEqual(first);
  await hear(reader, { failed: 1, probe: await next(), said: "401 unauthorized" });
  expect(await facts()).toMatchObject({ openedAt: first?.openedAt, probes: 2, reason: "401 unauthorized" });
  await hear(reader, { passed: true, probe: await next(), said: "429 later" });
  expect(await facts()).toMatchObject({ probes: 2, reason: "429 later" });
  await hear(reader, { open: null, probe: await next(), reason: "away again" });
  expect(await facts()).toMatchObject({ openedAt: first?.openedAt, probes: 3, reason: "away again" });
  await hear(reader, { failed: 1, probe: await next() });
  expect(await facts()).toMatchObject({ probes: 4, reason: "away again" });
  await hear(reader, { succeeded: true, probe: await next() });
  expect(await facts()).toEqual({ state: "closed" });
  await hear(reader, { failed: 3 });
  expect(await facts()).not.toHaveProperty("reason");
});

test("while one message is tried, neither the failures nor the successes of runs from before change anything, and nobody gets a second one", async () => {
  const { reader, worker, probe } = await probing("before");
  expect(
    await hear(reader, { failed: 1_000 }, { succeeded: true, probe: "1" }, { failed: 1, probe: "1" }),
  ).toMatchObject({ changed: null });
  expect(await circuit(reader)).toMatchObject({ state: "half-open" });
  expect(await claim(reader, worker)).toMatchObject({ deliveries: [], openMs: 1_000 });
  expect(await taken(reader, await makeWorker(engine, [reader]))).toMatchObject({ deliveries: [], openMs: 1_000 });
  expect(await hear(reader, { succeeded: true, probe })).toMatchObject({ changed: "closed" });
  expect(await hear(reader, { succeeded: true, probe }, { failed: 1, probe })).toMatchObject({ changed: null });
});

test("a message that ended neither well nor badly passes the trial to the next one at once", async () => {
  const { reader, worker, probe, tried } = await probing("passes");
  expect(await hear(reader, { passed: true, probe })).toMatchObject({ changed: null });
  const { deliveries } = await claim(reader, worker);
  expect(deliveries).toHaveLength(1);
  expect(deliveries[0]?.probe).not.toBe(probe);
  expect(deliveries[0]?.id).not.toBe(tried.id);
});

test("a worker that dies with the message that is tried holds the circuit half-open only until it is rescued, and the message burns no attempt", async () => {
  const { reader, worker, tried, probe } = await probing("dies");
  const other = await makeWorker(engine, [reader]);
  expect((await claim(reader, other)).openMs).toBe(1_000);
  await die(engine, worker);
  await rescueAll(engine.db);
  const { deliveries } = await claim(reader, other);
  expect(deliveries.map((delivery) => typeof delivery.probe)).toEqual(["string"]);
  expect(
    await engine.admin.rows("select attempts, crashes from posthorn.deferred where message = $1", [tried.id]),
  ).toEqual([{ attempts: 0, crashes: 1 }]);
  // What it says when it comes back is about a trial that is over.
  expect(await hear(reader, { succeeded: true, probe })).toMatchObject({ changed: null });
});

test("a trial that nobody has ended long after its run had to end is not waited for", async () => {
  const { reader, worker } = await probing("forgotten");
  await plant(reader, "probe_since = clock_timestamp() - interval '91 s'");
  expect((await claim(reader, worker)).deliveries).toHaveLength(1);
});

test("a due circuit whose log is empty tries a message that waits, and one that finds nothing at all stays due", async () => {
  const reader = await guarded("waits");
  const worker = await makeWorker(engine, [reader]);
  await say(engine.db, reader, [1]);
  const { deliveries } = await claim(reader, worker);
  await hear(reader, { failed: 3 });
  await due(reader);
  expect(await claim(reader, worker)).toMatchObject({ missed: false, deliveries: [] });
  expect(await taken(reader, worker)).toEqual({ deliveries: [], openMs: undefined });
  expect(await circuit(reader)).toMatchObject({ state: "open", waits: false });
  const [first] = deliveries;
  if (first === undefined) throw new Error("one message was claimed");
  await settle(engine.db, [part(deliveries, 1, "failed", true)], [end(first, "failed", retryNow)], null);
  expect(await claim(reader, worker)).toMatchObject({ missed: false, deliveries: [] });
  expect((await taken(reader, worker)).deliveries).toEqual([
    expect.objectContaining({ id: first.id, probe: expect.stringMatching(/^\d+$/) }),
  ]);
  expect(await circuit(reader)).toMatchObject({ state: "half-open" });
});

test("a handler opens the circuit without any failure, for as long as it says, and what it says shorter later does not shorten it", async () => {
  const reader = await guarded("said");
  expect(await hear(reader, { open: 600_000, reason: "quota spent" })).toMatchObject({
    changed: "opened",
    openMs: 600_000,
    failures: null,
    reason: "quota spent",
  });
  expect(await hear(reader, { open: null, reason: "still spent" })).toMatchObject({ changed: null, openMs: 600_000 });
  expect((await claim(reader, await makeWorker(engine, [reader]))).openMs).toBeGreaterThan(500_000);
  expect(await hear(await guarded("unsaid"), { open: null, reason: "quota spent" })).toMatchObject({
    changed: "opened",
    openMs: 30_000,
  });
});

test("a clock that jumps back keeps no circuit open for longer than it was opened for, and makes no old failure new", async () => {
  const { reader, worker } = await opened("clock");
  await plant(
    reader,
    "probe_at = clock_timestamp() + interval '1 year', opened_at = clock_timestamp() + interval '1 year'",
  );
  expect((await claim(reader, worker)).openMs).toBeLessThanOrEqual(30_000);
  expect((await taken(reader, worker)).openMs).toBeLessThanOrEqual(30_000);
  const counting = await guarded("clocks");
  await hear(counting, { failed: 2 });
  await plant(counting, "failed_at = array(select at + interval '1 year' from unnest(failed_at) at)");
  expect(await hear(counting, { failed: 1 })).toMatchObject({ changed: null });
  expect(await circuit(counting)).toMatchObject({ state: "closed", counted: 1 });
});

/** What changed of the alerts of one. */
async function watch(name: string): Promise<readonly object[]> {
  await engine.admin.rows("update posthorn.maintenance set ran_at = '-infinity'");
  const changes = JSON.parse(String(await engine.admin.value("select posthorn.watch(0)::text")));
  return changes.filter(({ subscription }: { subscription: string }) => subscription === name);
}

test("an open circuit raises an alert at once, keeps it over failed trials, and resolves it when it closes", async () => {
  const { reader, worker } = await opened("alerts");
  expect(await watch("alerts")).toEqual([
    { change: "raised", alert: "circuitOpen", subscription: "alerts", value: 3, threshold: 3, detail: "3 runs failed" },
  ]);
  await due(reader);
  const [tried] = (await claim(reader, worker)).deliveries;
  await hear(reader, { failed: 1, probe: tried?.probe ?? "" });
  expect(await watch("alerts")).toEqual([]);
  await due(reader);
  const [second] = (await claim(reader, worker)).deliveries;
  await hear(reader, { succeeded: true, probe: second?.probe ?? "" });
  expect(await watch("alerts")).toMatchObject([{ change: "resolved", alert: "circuitOpen" }]);
});

// It stayed open for ever: only a rule that there still is ended an alert.
test("an alert whose rule the policy no longer has is resolved, and says that it is watched no longer", async () => {
  await opened("unwatched");
  expect(await watch("unwatched")).toMatchObject([{ change: "raised", alert: "circuitOpen" }]);
  await guarded("unwatched", null);
  expect(await watch("unwatched")).toEqual([
    {
      change: "resolved",
      alert: "circuitOpen",
      subscription: "unwatched",
      value: 3,
      threshold: 3,
      detail: "it is watched no longer",
    },
  ]);
  expect(await watch("unwatched")).toEqual([]);
});

test("an alert that was resolved three months ago is forgotten, and a younger or an open one is not", async () => {
  const { reader } = await opened("history");
  const times = [
    "'-infinity'",
    "clock_timestamp() - interval '91 days'",
    "clock_timestamp() - interval '89 days'",
    "null",
  ];
  for (const at of times) {
    const insert = `insert into posthorn.alert (name, subscription, raised_at, resolved_at, value, threshold) values ('kept', $1, '-infinity', ${at}, 1, 1)`;
    await engine.admin.rows(insert, [reader.subscription]);
  }
  await engine.admin.value("select posthorn.prune(0, 100)");
  const left = await engine.admin.rows(
    "select resolved_at is null as open from posthorn.alert where name = 'kept' order by 1",
  );
  expect(left).toEqual([{ open: false }, { open: true }]);
});

// It was shown as "3, limit 3": as many failures as the policy allows, of which there had been none.
test("the alert of a circuit that one answer opened says what it said, and claims no failures", async () => {
  const reader = await guarded("told");
  await hear(reader, { open: 30_000, reason: "quota spent" });
  const alert = { alert: "circuitOpen", subscription: "told", value: 1, threshold: 1, detail: "quota spent" };
  const crossed = async () => (await crossedAlerts(engine.db)).filter(({ subscription }) => subscription === "told");
  expect(await crossed()).toMatchObject([{ ...alert, raisedAt: null }]);
  expect(await watch("told")).toEqual([{ change: "raised", ...alert }]);
  expect(await watch("told")).toEqual([]);
  expect(await crossed()).toMatchObject([alert]);
  // It went on saying what it had said when it was raised.
  await hear(reader, { open: 30_000, reason: "401 unauthorized" });
  expect(await watch("told")).toEqual([]);
  const open = { detail: "401 unauthorized", detailAt: expect.any(String), raisedAt: expect.any(String) };
  expect(await crossed()).toMatchObject([open]);
  const view = "select detail from posthorn.alerts where subscription = 'told'";
  expect(await engine.admin.value(view)).toBe("401 unauthorized");
});

test("where no breaker is declared nothing is counted and no row is made; one that is taken out of the policy lets everything through", async () => {
  const plain = await guarded("plain", null);
  expect(await hear(plain, { failed: 1_000 })).toEqual({ changed: null });
  expect(await circuit(plain)).toBeUndefined();
  const { reader, worker } = await opened("taken-out");
  await guarded("taken-out", null);
  expect((await claim(reader, worker)).deliveries).toHaveLength(5);
  const lines = await backlog(engine.db);
  expect(lines.find(({ name }) => name === "plain")).toMatchObject({ circuit: null });
  expect(lines.find(({ name }) => name === "rush")).toMatchObject({
    circuit: { state: "half-open", failures: 3, probes: 0 },
  });
});
