import { afterAll, beforeAll, expect, test } from "vitest";
import { cancelMessage } from "../../src/store/cancel.js";
import { sweepKeys } from "../../src/store/fleet.js";
import { publicId, writeMessages } from "../../src/store/publish.js";
import { registerContract, registerSubscription } from "../../src/store/registry.js";
import {
  type Delivery,
  type End,
  type Part,
  promote,
  settle,
  spill,
  takeDue as take,
  work,
} from "../../src/store/work.js";
import {
  die,
  type Engine,
  end,
  endInTransaction,
  failure,
  giveUp,
  type Idempotency,
  makeWorker,
  numberOf,
  openEngine,
  part,
  type Reader,
  rescueAll,
  retryNow,
  startedAt,
  waitsForLock,
} from "./engine.js";

let engine: Engine;
beforeAll(async () => {
  engine = await openEngine();
});
afterAll(() => engine.close());

interface Ordered extends Reader {
  readonly name: string;
  readonly worker: string;
}

const policyOf = (whenDead: "park" | "skip" | undefined) =>
  JSON.stringify({
    deadLetter: { keepMs: 60_000 },
    ordering: whenDead === undefined ? "none" : { per: "key", whenDead },
  });

async function declare(name: string, idempotency: Idempotency, whenDead: "park" | "skip" | undefined, on = engine) {
  const declared = { name, kind: "command", channel: name, idempotency, policy: policyOf(whenDead) } as const;
  return registerSubscription(on.db, declared, "test");
}

async function orderedQueue(
  name: string,
  whenDead: "park" | "skip" = "park",
  idempotency: Idempotency = "handler",
  on = engine,
): Promise<Ordered> {
  const entry = { kind: "command", name: `Do${name}`, version: 1, channel: name, keyed: true, owner: null };
  const { contract, channel } = await registerContract(on.db, entry, "test", false);
  const { subscription } = await declare(name, idempotency, whenDead, on);
  const reader = { subscription, channel, contract };
  return { ...reader, name, worker: await makeWorker(on, [reader]) };
}

/** "a1 b1 a2": messages with these keys and numbers. */
async function say(reader: Reader, text: string, on = engine): Promise<void> {
  const messages = text.split(" ").map((one) => ({
    contract: reader.contract,
    channel: reader.channel,
    key: one.slice(0, 1),
    json: JSON.stringify({ m: Number(one.slice(1)) }),
    headers: null,
  }));
  await writeMessages(on.db, messages);
}

const shown = (deliveries: readonly Delivery[]): string =>
  deliveries.map((delivery) => `${delivery.key}${numberOf(delivery)}`).join(" ");

async function claimed(reader: Ordered, limit = 100, parts: readonly Part[] = [], worker = reader.worker) {
  const answer = await work(engine.db, reader.subscription, worker, limit, parts);
  return { ...answer, shown: shown(answer.deliveries) };
}

const taken = async (reader: Ordered, worker = reader.worker) =>
  (await take(engine.db, reader.subscription, worker, [reader.contract], 100)).deliveries;

const parkedKeys = ({ subscription }: Reader) =>
  engine.admin.rows("select key from posthorn.parked_key where subscription = $1 order by key", [subscription]);

/** Settles a whole claim: these end so, the others succeed. */
async function settleClaim(deliveries: readonly Delivery[], ends: readonly End[], parts = 0): Promise<void> {
  const bad = ends.map(({ delivery }) => delivery);
  const good = deliveries.filter((delivery) => !bad.includes(delivery));
  const all: Part[] = good.length === 0 ? [] : [part(good, 1 + parts, "succeeded", bad.length === 0)];
  for (const [i, one] of ends.entries())
    all.push(part([one.delivery], 1 + parts + i + (good.length > 0 ? 1 : 0), one.outcome, i === ends.length - 1));
  await settle(engine.db, all, ends, null);
}

const named = (deliveries: readonly Delivery[], name: string): Delivery => {
  const found = deliveries.find((delivery) => shown([delivery]) === name);
  if (found === undefined) throw new Error(`no ${name} in ${shown(deliveries)}`);
  return found;
};

test("a claim stops before the first message whose key another open claim holds, and takes it when that is settled", async () => {
  const reader = await orderedQueue("cut");
  await say(reader, "a1 b1 c1 a2 d1");
  const first = await claimed(reader, 2);
  expect(first.shown).toBe("a1 b1");
  const second = await claimed(reader);
  expect(second.shown).toBe("c1");
  expect(await claimed(reader)).toMatchObject({ blocked: true, deliveries: [] });
  // What a part names has ended: its key is free, though the claim is open.
  await settle(engine.db, [part([named(first.deliveries, "a1")], 1, "succeeded", false)], [], null);
  expect((await claimed(reader)).shown).toBe("a2 d1");
});

test("messages of a parked key are put aside in their order, whatever they are claimed with, and only the first of the key is due", async () => {
  const reader = await orderedQueue("aside");
  await say(reader, "a1 b1");
  const first = await claimed(reader);
  await settleClaim(first.deliveries, [end(named(first.deliveries, "a1"), "failed", retryNow)]);
  await say(reader, "a2 b2 a3 c1 a4");
  const second = await claimed(reader);
  expect([second.shown, second.parts]).toEqual(["b2 c1", 1]);
  const due = await taken(reader);
  expect(shown(due)).toBe("a1");
  expect(await taken(reader)).toEqual([]);
  await say(reader, "a5");
  expect(await claimed(reader)).toMatchObject({ again: true, deliveries: [] });

  let [holder] = due;
  for (const next of ["a2", "a3", "a4", "a5"]) {
    if (holder === undefined) throw new Error("nothing is held");
    await settle(engine.db, [], [end(holder, "succeeded", null)], null);
    expect(await promote(engine.db, reader.subscription, ["a"])).toBe(1);
    // Promoting again changes nothing.
    expect(await promote(engine.db, reader.subscription, ["a", "a"])).toBe(0);
    const now = await taken(reader);
    expect(shown(now)).toBe(next);
    [holder] = now;
  }
  if (holder !== undefined) await settle(engine.db, [], [end(holder, "succeeded", null)], null);
  await promote(engine.db, reader.subscription, ["a"]);
  expect(await parkedKeys(reader)).toEqual([]);
  await say(reader, "a6");
  expect((await claimed(reader)).shown).toBe("a6");
});

test("a key is not let go while a claim puts a message aside behind it", async () => {
  const reader = await orderedQueue("letgo");
  await say(reader, "a1");
  const first = await claimed(reader);
  await settleClaim(first.deliveries, [end(named(first.deliveries, "a1"), "failed", retryNow)]);
  const [head] = await taken(reader);
  if (head === undefined) throw new Error("nothing is due");
  await say(reader, "a2 b1");
  const [claimer, promoter] = [await engine.session(), await engine.session()];
  await claimer.rows("begin");
  await claimer.rows("select posthorn.work($1, 0, $2, 10, null)", [reader.subscription, reader.worker]);
  await settle(engine.db, [], [end(head, "succeeded", null)], null);
  const promoting = promote(promoter, reader.subscription, ["a"]);
  await waitsForLock(engine, promoter);
  await claimer.rows("commit");
  expect(await promoting).toBe(1);
  expect(shown(await taken(reader))).toBe("a2");
});

test("a claim stops before a parked key that somebody is letting go, and finds it free afterwards", async () => {
  const reader = await orderedQueue("locked");
  await say(reader, "a1");
  const first = await claimed(reader);
  await settleClaim(first.deliveries, [end(named(first.deliveries, "a1"), "failed", retryNow)]);
  const [head] = await taken(reader);
  if (head === undefined) throw new Error("nothing is due");
  await settle(engine.db, [], [end(head, "succeeded", null)], null);
  await say(reader, "b1 a2 c1");
  const promoter = await engine.session();
  await promoter.rows("begin");
  await promoter.rows("select posthorn.promote_key($1, 'a')", [reader.subscription]);
  expect((await claimed(reader)).shown).toBe("b1");
  expect(await claimed(reader)).toMatchObject({ blocked: true });
  await promoter.rows("commit");
  expect((await claimed(reader)).shown).toBe("a2 c1");
});

test("behind a dead or invalid message the key waits for a redrive or a discard, and then goes on in order", async () => {
  for (const next of [giveUp, { invalid: [{ path: "", message: "no" }] }] as const) {
    const list = next === giveUp ? "dead-letters" : "invalid";
    for (const verb of ["redrive", "discard"]) {
      const reader = await orderedQueue(`dead-${list}-${verb}`.replaceAll("-", ""));
      await say(reader, "a1 b1");
      const first = await claimed(reader);
      await settleClaim(first.deliveries, [
        end(named(first.deliveries, "a1"), next === giveUp ? "failed" : "invalid", next),
      ]);
      await say(reader, "a2 a3");
      await claimed(reader);
      await promote(engine.db, reader.subscription, ["a"]);
      await sweepKeys(engine.db, 1_000);
      expect(await taken(reader)).toEqual([]);
      const args = verb === "redrive" ? "$1::json, 'test', 10" : "$1::json, 'test', 'no use', 10";
      await engine.admin.rows(`select posthorn.${verb}(${args})`, [
        JSON.stringify({ list, subscription: reader.name }),
      ]);
      const due = await taken(reader);
      expect(shown(due)).toBe(verb === "redrive" ? "a1" : "a2");
    }
  }
});

test("a dead letter that was kept for its time is out of the way at the next sweep", async () => {
  const reader = await orderedQueue("kept");
  await say(reader, "a1");
  const first = await claimed(reader);
  await settleClaim(first.deliveries, [end(named(first.deliveries, "a1"), "failed", giveUp)]);
  await say(reader, "a2");
  await claimed(reader);
  await engine.admin.rows("delete from posthorn.dead_letter where subscription = $1", [reader.subscription]);
  expect((await sweepKeys(engine.db, 1_000)).promoted).toBe(1);
  expect(shown(await taken(reader))).toBe("a2");
});

test("with skip the key goes on behind a dead message, and a redriven one enters at its end", async () => {
  const reader = await orderedQueue("skip", "skip");
  await say(reader, "a1 a2");
  const first = await claimed(reader, 1);
  await settleClaim(first.deliveries, [end(named(first.deliveries, "a1"), "failed", giveUp)]);
  const second = await claimed(reader);
  expect(second.shown).toBe("a2");
  await engine.admin.rows("select posthorn.redrive($1::json, 'test', 10)", [
    JSON.stringify({ list: "dead-letters", subscription: reader.name }),
  ]);
  // a2 runs: a1 waits until it has ended.
  expect(await taken(reader)).toEqual([]);
  await settleClaim(second.deliveries, []);
  await engine.admin.rows("update posthorn.deferred set due_at = clock_timestamp() where subscription = $1", [
    reader.subscription,
  ]);
  expect(shown(await taken(reader))).toBe("a1");
  await say(reader, "a3");
  expect(await claimed(reader)).toMatchObject({ again: true });
});

test("a delayed message whose time comes while one of its key waits for a retry stands behind that", async () => {
  const reader = await orderedQueue("entering");
  await say(reader, "a1");
  const { deliveries } = await claimed(reader);
  await settleClaim(deliveries, [end(named(deliveries, "a1"), "failed", retryNow)]);
  await engine.admin.rows(`select posthorn.send('Doentering', '{"m":2}', 'a', options => '{"delayMs":3600000}')`);
  await engine.admin.rows("update posthorn.deferred set due_at = clock_timestamp() where reason::text = 'scheduled'");
  expect(shown(await taken(reader))).toBe("a1");
});

async function spilled(
  reader: Ordered,
  deliveries: readonly Delivery[],
  running: readonly string[],
  waiting: readonly string[],
) {
  const hold = deliveries[0]?.hold;
  if (hold?.from !== "log") throw new Error("not from the log");
  const ids = (names: readonly string[]) => names.map((name) => named(deliveries, name).id);
  return spill(engine.db, [], {
    claim: hold.claim,
    slot: hold.claimSlot,
    token: hold.token,
    part: 1,
    closes: true,
    worker: reader.worker,
    running: ids(running),
    waiting: ids(waiting),
  });
}

test("a spilled claim lets its lane go on: what runs keeps its holder, what waits behind it is put aside, the old hold is worth nothing", async () => {
  const reader = await orderedQueue("spill");
  await say(reader, "a1 a2 b1");
  const first = await claimed(reader);
  expect(await claimed(reader)).toMatchObject({ deliveries: [] });
  const holds = await spilled(reader, first.deliveries, ["a1", "b1"], ["a2"]);
  await say(reader, "c1 a3");
  expect((await claimed(reader)).shown).toBe("c1");
  expect(await taken(reader)).toEqual([]);
  const a1 = named(first.deliveries, "a1");
  expect(await failure(settle(engine.db, [part([a1], 2, "succeeded", true)], [], null))).toMatchObject({
    code: "PH_CLAIM_LOST",
  });
  const hold = holds.get(a1.id);
  if (hold === undefined) throw new Error("a1 has no new hold");
  await settle(engine.db, [], [end({ ...a1, hold }, "succeeded", null)], null);
  await promote(engine.db, reader.subscription, ["a"]);
  expect(shown(await taken(reader))).toBe("a2");
});

test("a dead worker's spilled messages are delivered again in order, those that ran first", async () => {
  const reader = await orderedQueue("spilldead");
  await say(reader, "a1 a2");
  const first = await claimed(reader);
  await spilled(reader, first.deliveries, ["a1"], ["a2"]);
  await die(engine, reader.worker);
  expect(await rescueAll(engine.db)).toBe(1);
  const other = { ...reader, worker: await makeWorker(engine, [reader]) };
  const due = await taken(other);
  expect(shown(due)).toBe("a1");
  expect(due[0]).toMatchObject({ delivery: 2, crashes: 1 });
});

test.each(["in the same slot", "across a rotation"])(
  "a handler's transaction that committed under its first hold while the claim was spilled is not run again, %s",
  async (where) => {
    const reader = await orderedQueue(`spilltx${where.length}`, "park", "transaction");
    await say(reader, "a1 a2");
    const first = await claimed(reader);
    const a1 = named(first.deliveries, "a1");
    const handler = await engine.session();
    await handler.rows("begin");
    await endInTransaction(handler, a1, await startedAt(handler), null);
    // The worker does not do this: it waits for the new hold. The database must not depend on it.
    await spilled(reader, first.deliveries, ["a1"], ["a2"]);
    await handler.rows("commit");
    if (where === "across a rotation")
      await engine.admin.rows("update posthorn.ring set slots = slots || 2::smallint, slot = 2");
    await die(engine, reader.worker);
    await rescueAll(engine.db);
    await engine.admin.rows("update posthorn.ring set slots = '{1}', slot = 1");
    await sweepKeys(engine.db, 1_000);
    const other = { ...reader, worker: await makeWorker(engine, [reader]) };
    expect(shown(await taken(other))).toBe("a2");
  },
);

test("what was put aside when its claim was spilled cannot be ended under its first hold any more, also where each message ends by itself", async () => {
  const reader = await orderedQueue("spillold", "park", "transaction");
  await say(reader, "a1 a2");
  const first = await claimed(reader);
  await spilled(reader, first.deliveries, ["a1"], ["a2"]);
  const handler = await engine.session();
  await handler.rows("begin");
  const stale = endInTransaction(handler, named(first.deliveries, "a2"), await startedAt(handler), null);
  expect(await failure(stale)).toMatchObject({ code: "PH_CLAIM_LOST" });
  await handler.rows("rollback");
});

test("a retried message that is dead parks its key: making the next one due does not pass it", async () => {
  const reader = await orderedQueue("deadlater");
  await say(reader, "a1");
  const first = await claimed(reader);
  await settleClaim(first.deliveries, [end(named(first.deliveries, "a1"), "failed", retryNow)]);
  const retried = named(await taken(reader), "a1");
  await settle(engine.db, [], [end(retried, "failed", giveUp)], null);
  // Its holder says so, and the sweep comes by.
  expect(await promote(engine.db, reader.subscription, ["a"])).toBe(0);
  await sweepKeys(engine.db, 1_000);
  expect(await parkedKeys(reader)).toEqual([{ key: "a" }]);
  await say(reader, "a2");
  expect(await claimed(reader)).toMatchObject({ again: true, deliveries: [] });
  expect(await taken(reader)).toEqual([]);
});

test("a claim that stops within what was committed late goes on there: nothing is left out, nothing comes twice", async () => {
  const reader = await orderedQueue("cutlate");
  const late = await engine.session();
  await late.rows("begin");
  const outgoing = (key: string, m: number) => ({
    ...{ contract: reader.contract, channel: reader.channel, headers: null },
    ...{ key, json: JSON.stringify({ m }) },
  });
  await writeMessages(late, [outgoing("b", 1), outgoing("a", 2), outgoing("c", 3)]);
  await say(reader, "a1");
  const first = await claimed(reader);
  expect(first.shown).toBe("a1");
  await late.rows("commit");
  expect((await claimed(reader)).shown).toBe("b1");
  await settleClaim(first.deliveries, []);
  expect((await claimed(reader)).shown).toBe("a2 c3");
  expect(await claimed(reader)).toMatchObject({ deliveries: [] });
});

test("when the first of a key is cancelled while it waits for a retry, the next is due at once", async () => {
  const reader = await orderedQueue("cancelfirst");
  await say(reader, "a1");
  const first = await claimed(reader);
  const later = { defer: { delayMs: 3_600_000, attempts: 1, crashes: 0 } };
  await settleClaim(first.deliveries, [end(named(first.deliveries, "a1"), "failed", later)]);
  await say(reader, "a2");
  expect(await claimed(reader)).toMatchObject({ again: true });
  expect(await taken(reader)).toEqual([]);
  expect(await cancelMessage(engine.db, publicId(named(first.deliveries, "a1")), "test")).toBe("cancelled");
  expect(shown(await taken(reader))).toBe("a2");
});

test("a claim that looks while a holder fails sees the open claim or the parked key, whatever commits in between", async () => {
  // Goal: open claims are looked at in an earlier statement than parked keys, since a failing holder closes its part and parks the key at once.
  // Method: in a database of its own the look at open claims is made to wait at its beginning. If parked keys had been looked at before, the claim
  // would find neither.
  const own = await openEngine();
  try {
    const reader = await orderedQueue("between", "park", "handler", own);
    await say(reader, "a1", own);
    const held = await work(own.db, reader.subscription, reader.worker, 10, []);
    await say(reader, "a2", own);
    await own.admin.rows("alter function posthorn.open_keys(int, int) rename to open_keys_at_once");
    await own.admin.rows(`create function posthorn.open_keys(p_subscription int, p_lane int,
        out keys bigint[], out open_from bigint, out unknown boolean) language plpgsql as $$
      begin
        perform pg_advisory_xact_lock_shared(4711);
        select o.* into keys, open_from, unknown from posthorn.open_keys_at_once(p_subscription, p_lane) o;
      end $$`);
    await own.admin.rows("select pg_advisory_lock(4711)");
    const other = await own.session();
    const claiming = work(other, reader.subscription, await makeWorker(own, [reader]), 10, []);
    await waitsForLock(own, other);
    const a1 = named(held.deliveries, "a1");
    await settle(own.db, [part([a1], 1, "failed", true)], [end(a1, "failed", retryNow)], null);
    await own.admin.rows("select pg_advisory_unlock(4711)");
    expect((await claiming).deliveries).toEqual([]);
  } finally {
    await own.close();
  }
});

test("a claim of a dead worker comes back in order, also what it put aside", async () => {
  const reader = await orderedQueue("claimdead");
  await say(reader, "a1 b1 a2 b2");
  expect((await claimed(reader)).shown).toBe("a1 b1 a2 b2");
  await say(reader, "a3");
  expect(await claimed(reader)).toMatchObject({ blocked: true });
  await die(engine, reader.worker);
  expect(await rescueAll(engine.db)).toBe(4);
  const other = { ...reader, worker: await makeWorker(engine, [reader]) };
  expect(await claimed(other)).toMatchObject({ again: true });
  expect(
    shown(await taken(other))
      .split(" ")
      .sort(),
  ).toEqual(["a1", "b1"]);
});

test("keys of claims that are open in the old slot are held after the lane has moved on", async () => {
  const reader = await orderedQueue("rotated");
  await say(reader, "a1");
  await claimed(reader);
  await engine.admin.rows("update posthorn.ring set slots = slots || 2::smallint, slot = 2");
  await engine.admin.rows(
    `insert into posthorn.tick_2 select t.id, t.ceiling_id, t.snapshot, clock_timestamp() from posthorn.position_of($1, 0) p
     cross join lateral unnest(array(select distinct unnest(array[p.floor, p.ceiling]))) e(id)
     cross join lateral posthorn.tick_of(p.slot, e.id) t on conflict do nothing`,
    [reader.subscription],
  );
  await engine.admin.rows(
    `update posthorn.lane l set slot = 2, n = p.n, floor = p.floor, ceiling = p.ceiling, last_id = p.last_id, late = p.late, late_xids = p.late_xids
     from posthorn.position_of($1, 0) p where l.subscription = $1`,
    [reader.subscription],
  );
  await say(reader, "b1 a2");
  expect((await claimed(reader)).shown).toBe("b1");
  expect(await claimed(reader)).toMatchObject({ blocked: true });
  await engine.admin.rows("update posthorn.ring set slots = '{1}', slot = 1");
});

test("a queue whose messages wait for each other keeps its order until it is drained, and then lets go of keys that lie behind a dead letter", async () => {
  const reader = await orderedQueue("ends");
  await say(reader, "a1");
  const first = await claimed(reader);
  await settleClaim(first.deliveries, [
    end(named(first.deliveries, "a1"), "failed", { defer: { delayMs: 0, attempts: 1, crashes: 0 } }),
  ]);
  const refused = { code: "PH_NOT_DRAINED", message: expect.stringContaining("posthorn drain ends") };
  await expect(declare("ends", "handler", undefined)).rejects.toMatchObject(refused);
  const [again] = await taken(reader);
  if (again === undefined) throw new Error("nothing was taken");
  const dead = { reason: "retries spent", keepMs: 3_600_000, attempts: 2, crashes: 0 };
  await settle(engine.db, [], [end(again, "failed", { dead })], null);
  expect(await parkedKeys(reader)).not.toEqual([]);
  await declare("ends", "handler", undefined);
  expect(await parkedKeys(reader)).toEqual([]);
  expect(
    await engine.admin.value("select place from posthorn.dead_letter where subscription = $1", [reader.subscription]),
  ).toBe(null);
});

test("a queue with a claim that is open begins to keep order only when that has ended", async () => {
  const reader = await orderedQueue("begins");
  await declare("begins", "handler", undefined);
  await say(reader, "a1 a2");
  const first = await claimed(reader, 2);
  await expect(declare("begins", "handler", "park")).rejects.toMatchObject({ code: "PH_NOT_DRAINED" });
  await settleClaim(first.deliveries, []);
  await declare("begins", "handler", "park");
  await say(reader, "a3");
  expect((await claimed(reader)).shown).toBe("a3");
});
