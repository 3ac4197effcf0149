import { afterAll, beforeAll, expect, test } from "vitest";
import { drive } from "../../src/maintenance/operation.js";
import { cancelMessage } from "../../src/store/cancel.js";
import { redrive } from "../../src/store/operate.js";
import {
  beginPurge,
  isDrained,
  type Operation,
  proceed,
  unsettled,
  type WaitingState,
} from "../../src/store/operations.js";
import { publicId, writeMessages } from "../../src/store/publish.js";
import { registerSubscription } from "../../src/store/registry.js";
import { messageStatus } from "../../src/store/status.js";
import { peek, settle, takeDue, work } from "../../src/store/work.js";
import {
  claim,
  type Engine,
  end,
  failure,
  giveUp,
  type Idempotency,
  makeQueue,
  makeWorker,
  numberOf,
  openEngine,
  outgoing,
  part,
  type Reader,
  retryNow,
  say,
  upTo,
} from "./engine.js";

let engine: Engine;
let queues = 0;
beforeAll(async () => {
  engine = await openEngine();
});
afterAll(() => engine.close());

const all: readonly WaitingState[] = ["queued", "scheduled", "retrying", "parked"];
const ordered = { by: "ann", reason: "sent by mistake" };

async function queue(idempotency: Idempotency = "handler", ordering?: "park" | "skip") {
  queues += 1;
  const name = `purge${queues}`;
  const reader = await makeQueue(engine, name, idempotency);
  if (ordering !== undefined) {
    const policy = JSON.stringify({ deadLetter: { keepMs: 60_000 }, ordering: { per: "key", whenDead: ordering } });
    await registerSubscription(engine.db, { name, kind: "command", channel: name, idempotency, policy }, "test");
  }
  return { name, reader, worker: await makeWorker(engine, [reader]) };
}

const begin = (name: string, states = all): Promise<Operation> => beginPurge(engine.db, name, ordered, states, name);
const purge = async (name: string, states = all): Promise<Operation> => drive(engine.db, await begin(name, states));

const discardedIn = async ({ subscription }: Reader): Promise<number> =>
  Number(
    await engine.admin.value("select count(*)::int from posthorn.discarded where subscription = $1", [subscription]),
  );

async function drainAll({ reader, worker }: { reader: Reader; worker: string }): Promise<number[]> {
  const got: number[] = [];
  for (;;) {
    const { deliveries, again, parts = 0 } = await work(engine.db, reader.subscription, worker, 50, []);
    if (deliveries.length === 0 && again !== true) return got;
    got.push(...deliveries.map(numberOf));
    if (deliveries.length > 0) await settle(engine.db, [part(deliveries, parts + 1, "succeeded", true)], [], null);
  }
}

test.each(["handler", "transaction", "at-most-once"] as const)(
  "a purge in mode %s ends all that waits, leaves what runs and what is said later, and tells who and why",
  async (mode) => {
    const { name, reader, worker } = await queue(mode);
    const places = await writeMessages(
      engine.db,
      upTo(250).map((m) => ({ ...outgoing(reader), json: JSON.stringify({ m }) })),
    );
    const held = await claim(engine.db, reader, worker, 5);
    const operation = await begin(name);
    expect(operation).toMatchObject({ found: 245, done: 0, state: "running", by: "ann", reason: "sent by mistake" });
    await say(engine.db, reader, upTo(7, 1_000));
    expect(await drive(engine.db, operation)).toMatchObject({ state: "done", done: 245 });
    const [state] = (await messageStatus(engine.db, publicId(places[100] ?? { id: "0", nonce: "0" }))) ?? [];
    expect(state).toMatchObject({ state: "discarded", reason: "sent by mistake" });
    expect(
      await engine.admin.rows(
        "select distinct discarded_by, reason, list from posthorn.discarded where subscription = $1",
        [reader.subscription],
      ),
    ).toEqual([{ discarded_by: "ann", reason: "sent by mistake", list: "waiting" }]);
    expect(await discardedIn(reader)).toBe(245);
    // Once the record has been kept for its time, the log still tells how it ended.
    await engine.admin.rows("delete from posthorn.discarded where subscription = $1", [reader.subscription]);
    const [later] = (await messageStatus(engine.db, publicId(places[100] ?? { id: "0", nonce: "0" }))) ?? [];
    expect(later).toMatchObject({ state: "discarded" });
    expect(await unsettled(engine.db, name)).toMatchObject({ waiting: 7, running: 5 });
    // The holder still holds what it held.
    if (mode !== "transaction") await settle(engine.db, [part(held, 1, "succeeded", true)], [], null);
    const { deliveries } = await work(engine.db, reader.subscription, worker, 50, []);
    expect(deliveries.map(numberOf)).toEqual(upTo(7, 1_000));
    expect((await peek(engine.db, worker, [reader.subscription], null, false)).ready).toEqual([]);
  },
);

test("a purge without its confirmation, of an unknown name, or of a state that does not wait is refused and changes nothing", async () => {
  const { name, reader } = await queue();
  await say(engine.db, reader, upTo(3));
  expect(await failure(beginPurge(engine.db, name, ordered, all, null))).toMatchObject({
    code: "PH_CONFIRMATION_MISSING",
  });
  expect(await failure(beginPurge(engine.db, name, ordered, all, "another"))).toMatchObject({
    code: "PH_CONFIRMATION_MISSING",
  });
  expect(await failure(beginPurge(engine.db, "nobody", ordered, all, "nobody"))).toMatchObject({
    code: "PH_NAME_UNKNOWN",
  });
  expect(await failure(beginPurge(engine.db, name, ordered, ["running" as "queued"], name))).toMatchObject({
    code: "PH_OPTION_INVALID",
  });
  expect(await unsettled(engine.db, name)).toMatchObject({ waiting: 3 });
  expect(await failure(proceed(engine.db, "999999", 10))).toMatchObject({ code: "PH_OPERATION_UNKNOWN" });
});

test("what waits outside of the log is purged by its state; a retry that runs is left to its end", async () => {
  const { name, reader, worker } = await queue();
  await say(engine.db, reader, upTo(6));
  const held = await claim(engine.db, reader, worker, 6);
  await settle(
    engine.db,
    [part(held, 1, "failed", true)],
    held.map((delivery) => end(delivery, "failed", retryNow)),
    null,
  );
  const { deliveries: running } = await takeDue(engine.db, reader.subscription, worker, [reader.contract], 2);
  expect(running).toHaveLength(2);
  await engine.admin.rows("select posthorn.send($1, '{}'::json, options => '{\"delayMs\":3600000}'::json)", [
    `Do${name}`,
  ]);
  expect(await unsettled(engine.db, name)).toMatchObject({ retrying: 4, scheduled: 1, running: 2 });
  expect(await purge(name, ["scheduled"])).toMatchObject({ done: 1 });
  expect(await purge(name, ["retrying"])).toMatchObject({ done: 4 });
  expect(await unsettled(engine.db, name)).toMatchObject({ waiting: 0, retrying: 0, scheduled: 0, running: 2 });
  await settle(
    engine.db,
    [],
    running.map((delivery) => end(delivery, "succeeded", null)),
    null,
  );
  expect(await isDrained(engine.db, name)).toBe(true);
});

test("where order is kept, a purge takes what waits behind others first, so that no key's next message begins; dead letters stay in their place", async () => {
  const { name, reader, worker } = await queue("handler", "park");
  const keyed = (key: string, m: number) => ({ ...outgoing(reader), key, json: JSON.stringify({ m }) });
  await writeMessages(engine.db, [
    keyed("a", 1),
    keyed("b", 2),
    ...upTo(40, 10).map((m) => keyed(m % 2 === 0 ? "a" : "b", m)),
  ]);
  const held = await claim(engine.db, reader, worker, 2);
  const [first, second] = held;
  if (first === undefined || second === undefined) throw new Error("two were said");
  await settle(
    engine.db,
    [part([first], 1, "failed", false), part([second], 2, "failed", true)],
    [end(first, "failed", retryNow), end(second, "failed", giveUp)],
    null,
  );
  // The rest of both keys is put aside behind the retry and the dead letter.
  expect(await drainAll({ reader, worker })).toEqual([]);
  expect(await unsettled(engine.db, name)).toMatchObject({ retrying: 1, parked: 40, stuck: 20 });
  expect(await purge(name)).toMatchObject({ done: 41, state: "done" });
  expect(await unsettled(engine.db, name)).toMatchObject({ waiting: 0, retrying: 0, parked: 0 });
  expect(
    await engine.admin.value("select count(*)::int from posthorn.dead_letter where subscription = $1", [
      reader.subscription,
    ]),
  ).toBe(1);
  // The key whose messages are all gone flows again; the other waits behind its dead letter.
  await writeMessages(engine.db, [keyed("a", 100), keyed("b", 101)]);
  expect(await drainAll({ reader, worker })).toEqual([100]);
});

test("messages that committed late, below ids that were claimed, are purged where the purge saw them, and handed on where it did not", async () => {
  const { name, reader, worker } = await queue();
  const [early, never] = [await engine.session(), await engine.session()];
  await early.rows("begin");
  await never.rows("begin");
  await say(early, reader, upTo(3, 100));
  await say(never, reader, upTo(3, 200));
  await say(engine.db, reader, upTo(5));
  const held = await claim(engine.db, reader, worker, 2);
  await early.rows("commit");
  const operation = await begin(name);
  await never.rows("commit");
  // Five were said at once, two of them are held; three committed late and were seen.
  expect(await drive(engine.db, operation)).toMatchObject({ state: "done", done: 6 });
  const left = await drainAll({ reader, worker });
  const { deliveries } = await takeDue(engine.db, reader.subscription, worker, [reader.contract], 50);
  expect([...left, ...deliveries.map(numberOf)].sort()).toEqual([200, 201, 202]);
  await settle(engine.db, [part(held, 1, "succeeded", true)], [], null);
});

/** Runs what waits or is dead until nothing is left; what it ran. */
async function runTheRest(name: string, reader: Reader, worker: string): Promise<readonly number[]> {
  const ran: number[] = [];
  await redrive(engine.db, { list: "dead-letters", subscription: name }, "cid", 10_000);
  for (;;) {
    const { deliveries } = await takeDue(engine.db, reader.subscription, worker, [reader.contract], 500);
    ran.push(...deliveries.map(numberOf));
    await settle(
      engine.db,
      [],
      deliveries.map((one) => end(one, "succeeded", null)),
      null,
    );
    const { deliveries: fresh } = await work(engine.db, reader.subscription, worker, 500, []);
    ran.push(...fresh.map(numberOf));
    if (fresh.length > 0) await settle(engine.db, [part(fresh, 1, "succeeded", true)], [], null);
    if (deliveries.length + fresh.length === 0) return ran;
  }
}

test("beside claims, cancels, redrives and producers, each message is either run once or purged or cancelled once, and none is lost", async () => {
  // Goal: a purge takes messages as a worker does, so nothing is both run and discarded.
  // Method: four workers claim and settle while a purge runs in pieces of one to seven, messages are cancelled, and dead letters are redriven.
  const { name, reader, worker } = await queue();
  const places = await writeMessages(
    engine.db,
    upTo(2_000).map((m) => ({ ...outgoing(reader), json: JSON.stringify({ m }) })),
  );
  const ran: number[] = [];
  let over = false;
  const working = async (): Promise<void> => {
    const session = await engine.session();
    while (!over) {
      const { deliveries } = await work(session, reader.subscription, worker, 3, []);
      const { deliveries: due } = await takeDue(session, reader.subscription, worker, [reader.contract], 2);
      for (const one of due) {
        ran.push(numberOf(one));
        await settle(session, [], [end(one, "succeeded", null)], null);
      }
      const [dying, ...fine] = deliveries;
      ran.push(...fine.map(numberOf));
      if (dying !== undefined) {
        const parts = [
          part([dying], 1, "failed", fine.length === 0),
          ...(fine.length > 0 ? [part(fine, 2, "succeeded", true)] : []),
        ];
        await settle(session, parts, [end(dying, "failed", giveUp)], null);
      }
    }
  };
  const cancelling = async (): Promise<number> => {
    const session = await engine.session();
    let cancelled = 0;
    for (let n = 0; n < places.length && !over; n += 37) {
      const place = places[n];
      if (place !== undefined && (await cancelMessage(session, publicId(place), "ben")) === "cancelled") cancelled += 1;
    }
    return cancelled;
  };
  const redriving = async (): Promise<void> => {
    const session = await engine.session();
    while (!over) await redrive(session, { list: "dead-letters", subscription: name }, "cid", 5);
  };
  const others = [working(), working(), working(), working(), redriving()];
  const cancels = cancelling();
  const operation = await begin(name);
  let done = operation;
  for (let size = 1; done.state === "running"; size = (size % 7) + 1)
    done = await proceed(engine.db, operation.operation, size);
  over = true;
  await Promise.all(others);
  await cancels;
  ran.push(...(await runTheRest(name, reader, worker)));
  const gone = await engine.admin.rows(
    `select (m.payload ->> 'm')::int as m from posthorn.message_1 m join (
       select message from posthorn.discarded where subscription = $1 union all select message from posthorn.cancelled where subscription = $1) g on g.message = m.id
     where m.channel = $2`,
    [reader.subscription, reader.channel],
  );
  const ended = [...ran, ...gone.map(({ m }) => Number(m))].sort((a, b) => a - b);
  expect(ended).toEqual(upTo(2_000));
  expect(done.done).toBeGreaterThan(0);
  expect(await isDrained(engine.db, name)).toBe(true);
});

test("a large purge is many short transactions, and claims go on between them", async () => {
  const { name, reader } = await queue();
  for (let from = 1; from <= 20_000; from += 1_000) await say(engine.db, reader, upTo(1_000, from));
  const before = Number(await engine.admin.value("select pg_snapshot_xmax(pg_current_snapshot())::text::bigint"));
  let pieces = 0;
  const ended = await drive(engine.db, await begin(name), { onProgress: () => (pieces += 1) });
  expect(ended).toMatchObject({ state: "done", done: 20_000 });
  const after = Number(await engine.admin.value("select pg_snapshot_xmax(pg_current_snapshot())::text::bigint"));
  expect(pieces).toBeGreaterThanOrEqual(10);
  expect(after - before).toBeGreaterThanOrEqual(pieces);
  expect(await discardedIn(reader)).toBe(20_000);
});
