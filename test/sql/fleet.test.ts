/** The registry under two parties: who may declare what, what is recorded of it, and what the fleet lacks. */
import { afterAll, beforeAll, expect, test } from "vitest";
import type { Executor } from "../../src/core/database.js";
import { registerWorker, standing } from "../../src/store/fleet.js";
import { type Declaring, registerContract, registerSubscription } from "../../src/store/registry.js";
import { settle, work } from "../../src/store/work.js";
import {
  claim,
  die,
  type Engine,
  end,
  failure,
  makeQueue,
  makeTopic,
  openEngine,
  part,
  type Reader,
  retryNow,
  say,
  waitsForLock,
} from "./engine.js";

let engine: Engine;
beforeAll(async () => {
  engine = await openEngine();
});
afterAll(() => engine.close());

const alerts = { oldestAgeMs: 3_600_000, backlog: 1_000, deadLetters: 10, noWorkerMs: 60_000 };
const policyOf = (more: object = {}) => ({
  idempotency: "handler",
  ordering: "none",
  deadLetter: { keepMs: 60_000 },
  alerts,
  ...more,
});
const by: Declaring = { host: "here", pid: 1, library: "0.1.0", again: false };

async function declare(
  name: string,
  policy: { idempotency: string },
  service = "test",
  who: Declaring = by,
  on: Executor = engine.db,
) {
  const entry = {
    name,
    kind: "command",
    channel: name,
    idempotency: policy.idempotency,
    policy: JSON.stringify(policy),
  } as const;
  return registerSubscription(on, entry, service, who);
}

async function attend(
  reader: Pick<Reader, "subscription">,
  contracts: readonly number[],
  policy: object = policyOf(),
  service = "test",
  on: Executor = engine.db,
): Promise<string> {
  return registerWorker(on, {
    service,
    host: "there",
    pid: 7,
    timeoutMs: 3_600_000,
    sessionKey: null,
    backends: [],
    library: "0.1.0",
    attends: [{ subscription: reader.subscription, contracts, policy }],
  });
}

const historyOf = (name: string) =>
  engine.admin.rows(
    "select service, host, pid, library, was ->> 'visibilityTimeoutMs' as was, became ->> 'visibilityTimeoutMs' as became from posthorn.policy_history where subscription = $1 order by changed_at",
    [name],
  );
const orphans = (what: string) =>
  engine.admin.rows("select name, detail from posthorn.orphans where what = $1", [what]);
const raised = async (name: string) => {
  await engine.admin.rows("update posthorn.maintenance set ran_at = '-infinity' where name = 'watch'");
  await engine.admin.rows("select posthorn.watch(1)");
  return engine.admin.rows(
    "select alert, detail from posthorn.alerts where subscription = $1 and resolved_at is null order by 1",
    [name],
  );
};

// ---- conflicts --------------------------------------------------------------
test("a command that two queues handle, an event that two services own and a subscription to two topics are refused with both parties named", async () => {
  const first = { kind: "command", name: "DoShared", version: 1, channel: "one", keyed: false, owner: null };
  await registerContract(engine.db, first, "shop", false);
  const second = await failure(registerContract(engine.db, { ...first, channel: "two" }, "billing", false));
  expect(second).toMatchObject({
    code: "PH_CONTRACT_CONFLICT",
    message: expect.stringMatching(/"one".*"shop".*"billing".*"two"/),
  });
  const fact = { kind: "event", name: "SharedHappened", version: 1, channel: "facts", keyed: false, owner: null };
  await registerContract(engine.db, fact, "shop", true);
  const owner = await failure(registerContract(engine.db, { ...fact, version: 2 }, "billing", true));
  expect(owner).toMatchObject({ code: "PH_CONTRACT_CONFLICT", message: expect.stringMatching(/"shop".*"billing"/) });
  const reader = {
    name: "mails",
    kind: "event",
    channel: "facts",
    idempotency: "handler",
    policy: JSON.stringify(policyOf()),
  } as const;
  await registerSubscription(engine.db, reader, "shop");
  const topics = await failure(registerSubscription(engine.db, { ...reader, channel: "others" }, "billing"));
  expect(topics).toMatchObject({
    code: "PH_CONTRACT_CONFLICT",
    message: expect.stringMatching(/"facts" for service "shop".*"billing".*"others"/),
  });
});

test("a queue that a living worker of another service works on is refused with both named; after its death it is taken over", async () => {
  await declare("mine", policyOf(), "shop");
  const { subscription, contract } = await makeQueueFor("mine");
  const worker = await attend({ subscription }, [contract], policyOf(), "shop");
  const refused = await failure(declare("mine", policyOf(), "billing"));
  expect(refused).toMatchObject({
    code: "PH_CONTRACT_CONFLICT",
    message: expect.stringMatching(/ervice "shop" works on "mine" \(pid 7 on there\), and service "billing"/),
  });
  await die(engine, worker);
  await declare("mine", policyOf(), "billing");
  expect((await historyOf("mine")).map(({ service }) => service)).toEqual(["shop", "billing"]);
});

test("of two services that declare a queue in the same moment one is refused when its worker registers", async () => {
  await declare("race", policyOf(), "shop");
  const { subscription, contract } = await makeQueueFor("race");
  await declare("race", policyOf(), "billing");
  expect(await failure(attend({ subscription }, [contract], policyOf(), "shop"))).toMatchObject({
    code: "PH_CONTRACT_CONFLICT",
    message: expect.stringMatching(/"billing" declared "race".*"shop"/),
  });
  await attend({ subscription }, [contract], policyOf(), "billing");
});

async function makeQueueFor(name: string) {
  const entry = { kind: "command", name: `Do${name}`, version: 1, channel: name, keyed: false, owner: null };
  const { contract, channel } = await registerContract(engine.db, entry, "test", false);
  const subscription = Number(await engine.admin.value("select id from posthorn.subscription where name = $1", [name]));
  return { subscription, contract, channel };
}

// ---- policies ---------------------------------------------------------------
test("every change of a policy is recorded with who made it; the newest start wins, the same policy again is no change, and a worker that comes back changes nothing", async () => {
  const of = (visibilityTimeoutMs: number) => policyOf({ visibilityTimeoutMs });
  await declare("told", of(1_000));
  await declare("told", of(1_000), "test", { ...by, pid: 2 });
  await declare("told", of(2_000), "test", { ...by, pid: 3 });
  await declare("told", of(1_000), "test", { ...by, pid: 4, again: true });
  const common = { service: "test", host: "here", library: "0.1.0" };
  expect(await historyOf("told")).toEqual([
    { ...common, pid: 1, was: null, became: "1000" },
    { ...common, pid: 3, was: "1000", became: "2000" },
  ]);
  expect(
    await engine.admin.value("select policy ->> 'visibilityTimeoutMs' from posthorn.subscription where name = 'told'"),
  ).toBe("2000");
});

test("of two policies declared at once both are recorded, one after the other, and the later one holds", async () => {
  await declare("twice", policyOf({ visibilityTimeoutMs: 1 }));
  const [one, two] = [await engine.session(), await engine.session()];
  await one.rows("begin");
  await declare("twice", policyOf({ visibilityTimeoutMs: 2 }), "test", by, one);
  const later = declare("twice", policyOf({ visibilityTimeoutMs: 3 }), "test", by, two);
  await waitsForLock(engine, two);
  await one.rows("commit");
  await later;
  expect((await historyOf("twice")).map(({ was, became }) => [was, became])).toEqual([
    [null, "1"],
    ["1", "2"],
    ["2", "3"],
  ]);
  expect(
    await engine.admin.value("select policy ->> 'visibilityTimeoutMs' from posthorn.subscription where name = 'twice'"),
  ).toBe("3");
});

const ordered = { ordering: { per: "key", whenDead: "park" } };
test.each([
  ["waits in the log", async () => undefined],
  ["is held", async (reader: Reader, worker: string) => void (await claim(engine.db, reader, worker))],
  [
    "waits for a retry",
    async (reader: Reader, worker: string) => {
      const deliveries = await claim(engine.db, reader, worker);
      await settle(
        engine.db,
        [part(deliveries, 1, "failed", true)],
        deliveries.map((one) => end(one, "failed", retryNow)),
        null,
      );
    },
  ],
])("idempotency and ordering are not changed while a message %s, and are once nothing is left", async (what, act) => {
  const name = `fixed-${what.replaceAll(" ", "-")}`;
  const reader = await makeQueue(engine, name);
  await declare(name, policyOf());
  const worker = await attend(reader, [reader.contract]);
  await say(engine.db, reader, [1]);
  await act(reader, worker);
  await engine.admin.rows("update posthorn.worker set heartbeat_at = '-infinity' where id = $1", [worker]);
  for (const [policy, words] of [
    [policyOf({ idempotency: "transaction" }), `its idempotency from "handler" to "transaction"`],
    [policyOf(ordered), `its ordering from "none" to "per key"`],
  ] as const) {
    const refused = await failure(declare(name, policy));
    expect(refused).toMatchObject({
      code: "PH_NOT_DRAINED",
      message: expect.stringContaining(`posthorn drain ${name}`),
    });
    expect(refused.message).toContain(words);
  }
  // Anything else may change at any time.
  await declare(name, policyOf({ visibilityTimeoutMs: 5 }));
  await engine.admin.rows("select posthorn.rescue(100)");
  const last = await attend(reader, [reader.contract]);
  const rest = await drain(reader, last);
  expect(rest).toBe(1);
  await engine.admin.rows("delete from posthorn.worker where id = $1", [last]);
  await declare(name, policyOf({ idempotency: "transaction", ...ordered }));
});

/** Ends everything of a queue; how much. */
async function drain(reader: Reader, worker: string): Promise<number> {
  const log = await work(engine.db, reader.subscription, worker, 100, []);
  if (log.deliveries.length > 0) await settle(engine.db, [part(log.deliveries, 1, "succeeded", true)], [], null);
  const waiting = await engine.admin.rows("delete from posthorn.deferred where subscription = $1 returning id", [
    reader.subscription,
  ]);
  return log.deliveries.length + waiting.length;
}

test("idempotency is not changed while a living worker works by the old one, though the queue is empty", async () => {
  const reader = await makeQueue(engine, "lived");
  await declare("lived", policyOf());
  const worker = await attend(reader, [reader.contract]);
  const refused = await failure(declare("lived", policyOf({ idempotency: "transaction" })));
  expect(refused).toMatchObject({ code: "PH_NOT_DRAINED", message: expect.stringContaining("pid 7 on there") });
  await die(engine, worker);
  await declare("lived", policyOf({ idempotency: "transaction" }));
  // The dead one comes back with what it carries.
  const back = await failure(declare("lived", policyOf(), "test", { ...by, again: true }));
  expect(back).toMatchObject({ code: "PH_NOT_DRAINED", message: expect.stringContaining("declared anew") });
  // And one that had declared before the change cannot register.
  const late = await failure(attend(reader, [reader.contract], policyOf()));
  expect(late).toMatchObject({ code: "PH_NOT_DRAINED" });
  expect(late.message).toContain('this worker would change its idempotency from "transaction" to "handler"');
});

test("policies that run side by side for more than ten minutes raise an alert, which says who has which and names the command that shows them", async () => {
  const reader = await makeQueue(engine, "mixed");
  const [before, after] = [
    policyOf({ visibilityTimeoutMs: 1 }),
    policyOf({ visibilityTimeoutMs: 2, concurrency: 3, alerts: { ...alerts, backlog: 5 } }),
  ];
  await declare("mixed", before);
  const old = await attend(reader, [reader.contract], before);
  // The same, written in another order: it is one policy.
  const written = Object.fromEntries(Object.entries(before).reverse());
  const other = await attend(reader, [reader.contract], written);
  const age = (worker: string) =>
    engine.admin.rows("update posthorn.worker set started_at = started_at - interval '11 minutes' where id = $1", [
      worker,
    ]);
  for (const one of [old, other]) await age(one);
  expect(await raised("mixed")).toEqual([]);
  await declare("mixed", after);
  const anew = await attend(reader, [reader.contract], after);
  expect(await raised("mixed")).toEqual([]);
  await age(anew);
  expect(await raised("mixed")).toEqual([
    {
      alert: "mixedPoliciesMs",
      detail: expect.stringMatching(
        /^2 policies side by side: pid \d+ on .+ and 1 more have alerts\.backlog 1000, concurrency none, visibilityTimeoutMs 1; pid \d+ on .+ has alerts\.backlog 5, concurrency 3, visibilityTimeoutMs 2; see posthorn policy mixed --history$/,
      ),
    },
  ]);
  for (const one of [old, other]) await die(engine, one);
  expect(await raised("mixed")).toEqual([]);
});

// ---- what nobody handles ----------------------------------------------------
test("a message that is due for longer than noWorkerMs and that no worker has a handler for raises an alert that says which versions there are", async () => {
  const reader = await makeQueue(engine, "lacks");
  await declare("lacks", policyOf());
  const entry = { kind: "command", name: "Dolacks", version: 2, channel: "lacks", keyed: false, owner: null };
  const newer = (await registerContract(engine.db, entry, "test", false)).contract;
  const worker = await attend(reader, [reader.contract]);
  await say(engine.db, { ...reader, contract: newer }, [1, 2]);
  const deliveries = await claim(engine.db, reader, worker);
  const back = { defer: { delayMs: 0, attempts: 0, crashes: 0 } };
  await settle(
    engine.db,
    [part(deliveries, 1, "released", true)],
    deliveries.map((one) => ({ delivery: one, outcome: "released" as const, next: back, ends: false })),
    null,
  );
  expect(await raised("lacks")).toEqual([]);
  await engine.admin.rows(
    "update posthorn.deferred set due_at = due_at - interval '2 minutes' where subscription = $1",
    [reader.subscription],
  );
  expect(await raised("lacks")).toEqual([
    { alert: "noHandlerMs", detail: "Dolacks version 2: 2 waiting, 1 worker has version 1" },
  ]);
  await attend(reader, [reader.contract, newer]);
  expect(await raised("lacks")).toEqual([]);
});

test("a worker without any handler makes messages wait without a handler, too", async () => {
  const reader = await makeQueue(engine, "empty-handed");
  await declare("empty-handed", policyOf());
  const worker = await attend(reader, []);
  await say(engine.db, reader, [1]);
  const deliveries = await claim(engine.db, reader, worker);
  const ends = deliveries.map((one) => end(one, "released", { defer: { delayMs: 0, attempts: 0, crashes: 0 } }));
  await settle(engine.db, [part(deliveries, 1, "released", true)], ends, null);
  await engine.admin.rows(
    "update posthorn.deferred set due_at = due_at - interval '2 minutes' where subscription = $1",
    [reader.subscription],
  );
  expect(await raised("empty-handed")).toEqual([
    { alert: "noHandlerMs", detail: "Doempty-handed version 1: 1 waiting, no worker has another version" },
  ]);
});

test("what becomes of a message without a handler depends on what living workers read", async () => {
  const [reader] = await makeTopic(engine, "stands", ["standing"]);
  if (reader === undefined) throw new Error("no reader");
  const register = async (name: string, version: number) =>
    (
      await registerContract(
        engine.db,
        { kind: "event", name, version, channel: "stands", keyed: false, owner: null },
        "test",
        false,
      )
    ).contract;
  const [second, third] = [await register("standsHappened", 2), await register("standsHappened", 3)];
  const other = await register("OtherHappened", 1);
  const what = async (contract: number) => (await standing(engine.db, reader.subscription, contract)).what;
  expect(await what(second)).toBe("skip");
  const worker = await attend(reader, [second]);
  expect([await what(reader.contract), await what(third), await what(other)]).toEqual([
    "unreadable",
    "release",
    "skip",
  ]);
  const old = await attend(reader, [reader.contract]);
  expect(await what(reader.contract)).toBe("release");
  await die(engine, old);
  expect(await what(reader.contract)).toBe("unreadable");
  await die(engine, worker);
  expect(await what(third)).toBe("skip");
});

test("the view of orphans names queues nobody works on, topics nobody reads, commands and versions nobody handles", async () => {
  const reader = await makeQueue(engine, "lonely");
  expect(await orphans("queue")).toContainEqual({ name: "lonely", detail: 'no worker works on the queue "lonely"' });
  await makeTopic(engine, "unread", []);
  expect(await orphans("topic")).toContainEqual({ name: "unread", detail: 'nobody reads the topic "unread"' });
  const entry = (name: string, version: number) => ({
    kind: "command",
    name,
    version,
    channel: "lonely",
    keyed: false,
    owner: null,
  });
  const second = (await registerContract(engine.db, entry("Dolonely", 2), "test", false)).contract;
  await registerContract(engine.db, entry("DoForgotten", 1), "test", false);
  await attend(reader, [second]);
  expect(await orphans("queue")).not.toContainEqual(expect.objectContaining({ name: "lonely" }));
  expect(await orphans("command")).toContainEqual({
    name: "DoForgotten",
    detail: 'workers of "lonely" run, and none has a handler for DoForgotten',
  });
  expect(await orphans("version")).toContainEqual({
    name: "Dolonely version 1",
    detail: "no running worker knows version 1 of Dolonely any more",
  });
});
