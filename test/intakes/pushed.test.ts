/**
 * Goal: what is pushed to is taken in by every process that it is pushed to, once in the fleet, and what was answered 2xx is in the log whoever dies.
 * Method: webhooks, to handlers of two instances here; and to two processes behind one address that are killed in between.
 */
import type { Post, Sql } from "posthorn";
import { webhookIntake } from "posthorn/webhooks";
import { expect, test } from "vitest";
import { holdIntakes, pack, takeIn } from "../../src/store/intake.js";
import { eventually } from "../support/eventually.js";
import { type FixtureProcess, spawnFixture } from "../support/processes.js";
import {
  asExecutor,
  fresh,
  instance,
  intakeRow,
  OrderPlaced,
  onServer,
  rows,
  session,
  stored,
  unfit,
  url,
} from "./stage.js";

onServer();

const body = (type: string, id: string, data: object) =>
  JSON.stringify({ specversion: "1.0", source: "urn:partner", id, type, data });
const posted = (text: string): RequestInit => ({
  method: "POST",
  headers: { "content-type": "application/cloudevents+json" },
  body: text,
});

interface Place {
  readonly post: Post<Sql>;
  /** Posts an order, and returns the status of the answer. */
  readonly order: (id: string, data?: object) => Promise<number>;
}

let places = 0;
async function place(name: string): Promise<Place> {
  const hooks = webhookIntake({ verify: "none" });
  // As another process would: one process has one instance of a service on a database.
  places += 1;
  const post = instance("shipping", undefined, `${url()}?application_name=place-${places}`);
  post.intake(name, { from: hooks, into: [OrderPlaced] });
  await post.start();
  const order = async (id: string, data: object = { orderId: id, cents: 1 }) =>
    (await hooks.fetch(new Request("http://shop/hooks", posted(body("OrderPlaced", id, data))))).status;
  return { post, order };
}

const line = async (post: Post<Sql>, name: string) => (await post.intakes()).find((one) => one.name === name);
const keys = async (start: string) =>
  (await stored("OrderPlaced")).map(({ key }) => key).filter((key) => key?.startsWith(start));

test("every process takes in what is pushed to it, the same event once, until the intake is paused or the process stops", async () => {
  const name = fresh("pushed");
  const [one, other] = [await place(name), await place(name)];
  expect(await Promise.all([one.order("p-1"), other.order("p-2"), one.order("p-3"), other.order("p-3")])).toEqual([
    204, 204, 204, 204,
  ]);
  expect(await Promise.all([one.order("p-wrong", {}), other.order("p-wrong", {})])).toEqual([204, 204]);
  expect((await keys("p-")).toSorted()).toEqual(["p-1", "p-2", "p-3"]);
  expect(await unfit(name)).toHaveLength(1);
  await eventually(async () => (await line(one.post, name))?.connected === true);
  const two = await line(one.post, name);
  expect(two).toMatchObject({ pushed: true, received: 6, written: 3, duplicates: 2, invalid: 1, awaySince: null });
  expect(two?.holders).toHaveLength(2);

  await one.post.operate.pause(name, { by: "anna" });
  await eventually(async () => (await intakeRow(name)).away_since !== null);
  expect(await Promise.all([one.order("p-4"), other.order("p-4")])).toEqual([503, 503]);
  await one.post.operate.resume(name, { by: "anna" });
  await eventually(async () => (await line(one.post, name))?.holders.every(({ connected }) => connected) === true);
  expect(await Promise.all([one.order("p-4"), other.order("p-5")])).toEqual([204, 204]);

  await one.post.stop();
  expect(await Promise.all([one.order("p-6"), other.order("p-6")])).toEqual([503, 204]);
  const left = await line(other.post, name);
  expect(left).toMatchObject({ connected: true, received: 9, written: 6, duplicates: 2, invalid: 1 });
  expect(left?.holders).toHaveLength(1);
  expect((await keys("p-")).toSorted()).toEqual(["p-1", "p-2", "p-3", "p-4", "p-5", "p-6"]);
});

test("an entry that many could read again is read again once", async () => {
  const name = fresh("again");
  const [one, other] = [await place(name), await place(name)];
  await Promise.all([one.order("a-1", {}), other.order("a-2", {})]);
  // As a contract of today would read them.
  await rows(
    'update posthorn.intake_invalid set body = convert_to(replace(convert_from(body, \'UTF8\'), \'"data":{}\', \'"data":{"orderId":"again","cents":1}\'), \'UTF8\')',
  );
  const { id } = await intakeRow(name);
  await rows("update posthorn.intake_invalid set redrive_at = now(), redrive_by = 'anna' where intake = $1", [id]);
  await eventually(async () => (await unfit(name)).length === 0);
  expect(await keys("again")).toHaveLength(2);
});

/** Two workers that live by their heartbeats, and hold one intake that is pushed to. */
async function held(name: string) {
  const { post } = await place(name);
  await post.stop();
  const { id: intake } = await intakeRow(name);
  const workers = await rows<{ id: string }>(
    "insert into posthorn.worker (service, host, pid, timeout_ms, oldest_open_claim) select 'x', 'x', n, 600000, 0 from generate_series(1, 2) n returning id::text",
  );
  const [contract] = await rows<{ id: number; channel: number }>(
    "select id, channel from posthorn.contract where name = 'OrderPlaced'",
  );
  const holding = workers.map(({ id: worker }) => ({ intake, worker }));
  const client = asExecutor(await session());
  const hold = (worker: string, wants = true) =>
    holdIntakes(client, worker, [{ id: intake, wants, connected: true, trouble: null, pushed: true }]);
  for (const { worker } of holding) expect(await hold(worker)).toMatchObject([{ held: true }]);
  const marked = (n: number) => ({
    mark: (intake * 1_000 + n).toString(16).padStart(32, "0"),
    contract: contract?.id ?? 0,
    channel: contract?.channel ?? 0,
    key: `${name}-${n}`,
    json: JSON.stringify({ orderId: `${name}-${n}`, cents: n }),
    headers: null,
  });
  const [a, b] = holding;
  if (a === undefined || b === undefined) throw new Error("no two workers");
  return { a, b, hold, marked };
}

test("of two processes that write the same events at the same moment, each in its own order, one writes each, and neither fails; others do not wait", async () => {
  const name = fresh("moment");
  const { a, b, marked } = await held(name);
  const [first, second, third] = [await session(), await session(), await session()];
  await first.query("begin");
  expect(await takeIn(asExecutor(first), a, pack([3, 1, 2].map(marked), [], 0))).toMatchObject({
    written: 3,
    invalid: 0,
  });
  // Another one's own events are not held up.
  expect(await takeIn(asExecutor(third), b, pack([marked(9)], [], 0))).toMatchObject({ written: 1, invalid: 0 });
  const late = takeIn(asExecutor(second), b, pack([2, 4, 1, 3].map(marked), [], 0));
  const [{ pid } = { pid: 0 }] = (await first.query("select pg_backend_pid() as pid")).rows as { pid: number }[];
  await eventually(
    async () =>
      (await rows("select 1 from pg_stat_activity where $1::int = any (pg_blocking_pids(pid))", [pid])).length === 1,
  );
  await first.query("commit");
  expect(await late).toMatchObject({ written: 1, invalid: 0 });
  expect((await keys(`${name}-`)).toSorted()).toEqual([1, 2, 3, 4, 9].map((n) => `${name}-${n}`));
});

test("what a dead process counted is kept, and one that was let go as dead writes nothing more", async () => {
  const name = fresh("dead");
  const { a, b, hold, marked } = await held(name);
  const client = asExecutor(await session());
  await takeIn(client, a, pack([marked(1)], [], 2));
  await rows("update posthorn.worker set heartbeat_at = '-infinity' where id = $1", [a.worker]);
  await rows("update posthorn.intake_holder set seen_at = seen_at - interval '1 min' where worker = $1", [a.worker]);
  // It is told in time that nobody else is there.
  await hold(b.worker);
  expect(await intakeRow(name)).toMatchObject({ received: "3", written: "1", skipped: "2", away_since: null });
  await expect(takeIn(client, a, pack([marked(2)], [], 0))).rejects.toMatchObject({ code: "PH_CLAIM_LOST" });
  await hold(b.worker, false);
  expect((await intakeRow(name)).away_since).not.toBeNull();
});

/** One address before many processes: each request goes to the next of them. */
class Balancer {
  readonly ports: number[] = [];
  #turn = 0;

  async send(text: string): Promise<number> {
    this.#turn += 1;
    const port = this.ports[this.#turn % this.ports.length];
    return (await fetch(`http://127.0.0.1:${port}/hooks`, posted(text))).status;
  }
}

async function hooked(name: string, balancer: Balancer): Promise<FixtureProcess> {
  const process = await spawnFixture("test/intakes/fixtures/hooked.ts", {
    args: [JSON.stringify({ url: url(), name })],
  });
  const port = Number((await process.line(/^port /)).split(" ").at(-1));
  balancer.ports.push(port);
  void process.exited.then(() => balancer.ports.splice(balancer.ports.indexOf(port), 1));
  return process;
}

test("processes behind one address lose nothing that they have answered and write nothing twice, whoever of them is killed", async () => {
  const name = fresh("fleet");
  const balancer = new Balancer();
  const reader = instance("hooked");
  const [first, second] = await Promise.all([hooked(name, balancer), hooked(name, balancer)]);
  let delivered = 0;
  const answers = { 204: 0, others: 0 };
  /** A sender keeps a message until it is answered 2xx; every third is posted twice at the same moment. */
  const deliver = async (n: number) => {
    const text = body("Counted", `c-${n}`, { n });
    const tries = n % 3 === 0 ? 2 : 1;
    for (let done = false; !done; ) {
      const statuses = await Promise.all(Array.from({ length: tries }, () => balancer.send(text).catch(() => 0)));
      done = statuses.includes(204);
      answers[204] += statuses.filter((status) => status === 204).length;
      answers.others += statuses.filter((status) => status !== 204).length;
    }
    delivered += 1;
  };
  const count = 600;
  const numbers = Array.from({ length: count }, (_, n) => n);
  const senders = Array.from({ length: 12 }, async () => {
    for (let n = numbers.shift(); n !== undefined; n = numbers.shift()) await deliver(n);
  });
  await eventually(() => delivered > 100);
  expect((await line(reader, name))?.holders.map(({ pid }) => pid).toSorted()).toEqual(
    [first.pid, second.pid].toSorted(),
  );
  first.kill("SIGKILL");
  await eventually(() => delivered > 200);
  await hooked(name, balancer);
  await eventually(() => delivered > 350);
  second.kill("SIGKILL");
  await hooked(name, balancer);
  await Promise.all(senders);
  const written = (await stored("Counted")).map(({ payload }) => (payload as { n: number }).n);
  expect(written.toSorted((one, other) => one - other)).toEqual(Array.from({ length: count }, (_, n) => n));
  expect(answers.others).toBeGreaterThan(0);
  // What the dead had counted is in the sum once they are let go.
  await eventually(async () => (await line(reader, name))?.holders.length === 2);
  expect(await line(reader, name)).toMatchObject({ connected: true, written: count });
});
