import { command, policies, posthorn, type } from "posthorn";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { Executor } from "../../src/core/database.js";
import { silentLogger } from "../../src/core/logger.js";
import { openDatabase } from "../../src/databases/open.js";
import { cancelMessage } from "../../src/store/cancel.js";
import { writeMessages } from "../../src/store/publish.js";
import { planRebase, rebase } from "../../src/store/rebase.js";
import { messageStatus } from "../../src/store/status.js";
import { begin, settle, takeDue, work } from "../../src/store/work.js";
import { posthornCommand } from "../cli/command.js";
import {
  claim,
  type Engine,
  failure,
  makeQueue,
  makeTopic,
  makeWorker,
  numberOf,
  openEngine,
  openSession,
  outgoing,
  part,
  say,
  upTo,
} from "../sql/engine.js";
import { makeRandom, seedOf } from "../sql/random.js";
import { eventually } from "../support/eventually.js";
import { createDatabase, type OwnServer, startServer } from "../support/server.js";
import { expectRebaseToBeExact, nextXid } from "./account.js";
import { dump } from "./copying.js";
import { drain, makeFleet, underLoad } from "./load.js";
import { sendNow } from "./saying.js";

let other: OwnServer;
beforeAll(async () => {
  other = await startServer();
});
afterAll(() => other.remove());

const rounds = process.env.POSTHORN_LONG === "1" ? 30 : 4;

/** Copies all of a log, with nothing but its data. */
async function copy(from: Engine, to: Engine): Promise<void> {
  const taken = await dump(from.url);
  try {
    await taken.restore(to.url);
  } finally {
    await taken.remove();
  }
}

async function within<T>(work: (from: Engine, to: Engine) => Promise<T>, swap = false): Promise<T> {
  const [from, to] = await Promise.all(swap ? [openEngine(other), openEngine()] : [openEngine(), openEngine(other)]);
  try {
    return await work(from, to);
  } finally {
    await Promise.all([from.close(), to.close()]);
  }
}

/**
 * Goal: a copy that is rebased does exactly what was not done in it, in order, however its transaction ids compare with those of its server; and
 * nothing of the past comes back when the server reaches them.
 * Method: dumps at random moments under load, from one server to the other and back; what is left to do is read from the tables before; then ids are
 * used up until far beyond the highest of the log, with new messages between.
 */
test.each(upTo(rounds))(
  "a copy that was taken under load and rebased does what was not done in it, and nothing else, also long after (%i)",
  async (round) => {
    const random = makeRandom(seedOf(`copy ${round}`));
    await within(
      async (from, to) => {
        const fleet = await makeFleet(from);
        const least = random.int(20, 200);
        await underLoad(from, fleet, random, async () => {
          await eventually(
            async () => Number(await from.admin.value("select count(*) from posthorn.claim_1")) >= least,
            {
              everyMs: 5,
            },
          );
          await copy(from, to);
        });
        await expectRebaseToBeExact(to, fleet, await nextXid(from));
      },
      round % 2 === 0,
    );
  },
);

test("a copy of a copy is rebased like the first, and the epochs tell of both", async () => {
  const random = makeRandom(seedOf("twice"));
  await within(async (from, to) => {
    const fleet = await makeFleet(from);
    const enough = async (engine: Engine, least: number) =>
      eventually(async () => Number(await engine.admin.value("select count(*) from posthorn.claim_1")) >= least, {
        everyMs: 5,
      });
    await underLoad(from, fleet, random, async () => {
      await enough(from, 60);
      await copy(from, to);
    });
    await rebase(to.db);
    const third = await openEngine();
    await underLoad(to, fleet, random, async () => {
      await enough(to, 160);
      await copy(to, third);
    });
    await expectRebaseToBeExact(third, fleet, Math.max(await nextXid(from), await nextXid(to)));
    expect(await third.admin.rows("select n from posthorn.epoch order by n")).toEqual([{ n: 1 }, { n: 2 }, { n: 3 }]);
    await third.close();
  });
});

describe("after a rebase", () => {
  test("a message that was committed late is delivered once, and one that was cancelled beside it is not", async () => {
    await within(async (from, to) => {
      const reader = await makeQueue(from, "mail");
      const worker = await makeWorker(from, [reader]);
      const session = await from.session();
      await session.rows("begin");
      const [late, taken] = await say(session, reader, [1, 2]);
      await say(from.db, reader, [3]);
      await claim(from.db, reader, worker);
      await session.rows("commit");
      const nonce = String(
        await from.admin.value("select posthorn.public_id(id, nonce) from posthorn.message_1 where id = $1", [taken]),
      );
      expect(await cancelMessage(from.db, nonce, "somebody")).toBe("cancelled");
      await copy(from, to);
      expect(await rebase(to.db)).toMatchObject({ missed: 1, held: 1, waiting: 0 });
      const { deliveries } = await takeDue(
        to.db,
        reader.subscription,
        await makeWorker(to, [reader]),
        [reader.contract],
        10,
      );
      expect(deliveries.map(({ id, delivery }) => [id === late, delivery])).toEqual(
        expect.arrayContaining([[true, 1]]),
      );
      expect(deliveries.map(numberOf).toSorted()).toEqual([1, 3]);
      expect(await to.admin.value("select count(*)::int from posthorn.cancel_mark")).toBe(0);
      expect(await messageStatus(to.db, nonce)).toMatchObject([{ state: "cancelled" }]);
    });
  });

  test("where order is kept, a message that was committed late runs before those of its key that were said after it", async () => {
    await within(async (from, to) => {
      const fleet = await makeFleet(from);
      const reader = fleet.readers.find(({ subscription }) => fleet.ordered.has(subscription));
      if (reader === undefined) throw new Error("one reader keeps order");
      const send = (executor: Executor, key: string, m: number) =>
        writeMessages(executor, [{ ...outgoing(reader), key, json: JSON.stringify({ m }) }]);
      const worker = await makeWorker(from, [reader]);
      const session = await from.session();
      await session.rows("begin");
      await send(session, "a", 1);
      await send(from.db, "b", 2);
      await settle(from.db, [part(await claim(from.db, reader, worker), 1, "succeeded", true)], [], null);
      await session.rows("commit");
      await send(from.db, "a", 3);
      await send(from.db, "b", 4);
      await copy(from, to);
      expect(await rebase(to.db)).toMatchObject({ missed: 1, waiting: 2 });
      const here = await makeWorker(to, [reader]);
      expect((await claim(to.db, reader, here)).map(numberOf)).toEqual([4]);
      const { deliveries } = await takeDue(to.db, reader.subscription, here, [reader.contract], 10);
      expect(deliveries.map(numberOf)).toEqual([1]);
    });
  });

  test("what had begun at most once is dead with an unknown outcome, and what had not is done", async () => {
    await within(async (from, to) => {
      const reader = await makeQueue(from, "pay", "at-most-once");
      const worker = await makeWorker(from, [reader]);
      await say(from.db, reader, [1, 2]);
      const claimed = await claim(from.db, reader, worker);
      await begin(from.db, [part(claimed.slice(0, 1), 1, "begun", false)]);
      await copy(from, to);
      await rebase(to.db);
      const { deliveries } = await takeDue(
        to.db,
        reader.subscription,
        await makeWorker(to, [reader]),
        [reader.contract],
        10,
      );
      expect(deliveries.map(numberOf)).toEqual([2]);
      expect(await to.admin.rows("select reason, payload ->> 'm' as m from posthorn.dead_letter")).toEqual([
        { reason: "outcome unknown", m: "1" },
      ]);
    });
  });

  test("the old holder of a claim settles nothing here, and its worker is forgotten", async () => {
    await within(async (from, to) => {
      const reader = await makeQueue(from, "mail");
      const worker = await makeWorker(from, [reader]);
      await say(from.db, reader, [1]);
      const claimed = await claim(from.db, reader, worker);
      await copy(from, to);
      await rebase(to.db);
      const closing = [part(claimed, 1, "succeeded", true)];
      expect(await failure(work(to.db, reader.subscription, worker, 1, closing))).toMatchObject({
        code: "PH_CLAIM_LOST",
      });
      expect(await failure(work(to.db, reader.subscription, worker, 1, []))).toMatchObject({
        code: "PH_WORKER_FORGOTTEN",
      });
    });
  });

  test("ids, claims, places and names of sequences go on above all that is in use, although the copy came without sequences", async () => {
    await within(async (from, to) => {
      const [reader] = await makeTopic(from, "facts", ["first"]);
      if (reader === undefined) throw new Error("one reader was made");
      const before = await say(from.db, reader, upTo(5));
      // A ceiling without a row: ids that were drawn and rolled back.
      await from.admin.rows("select nextval('posthorn.message_id') from generate_series(1, 100)");
      await claim(from.db, reader, await makeWorker(from, [reader]), 10);
      await copy(from, to);
      const done = await rebase(to.db);
      expect(Number(done?.firstId)).toBeGreaterThan(Number(before[4]) + 100);
      expect((await say(to.db, reader, [6]))[0]).toBe(done?.firstId);
      const queue = await makeQueue(to, "new");
      expect(queue.subscription).toBeGreaterThan(reader.subscription);
      await drain(to, { readers: [reader, queue], ordered: new Set(), once: 0 });
    });
  });

  test("a schedule stands where it stood, and what it sent is not sent again", async () => {
    await within(async (from, to) => {
      const reader = await makeQueue(from, "report");
      const declare = `select posthorn.declare_schedule('daily', '0 6 * * *', 'UTC', ${reader.contract}, 'all', 0, '{"m":1}', null, null, null, 'test',
        now() - interval '1 hour', now() - interval '1 hour')`;
      await from.admin.rows(declare);
      const fire = `select posthorn.fire_schedule('daily', s.revision, s.next_at, date_trunc('ms', now()) + interval '23 hours', date_trunc('ms', now()) + interval '23 hours',
        json_build_array(json_build_object('at', s.next_at))) is not null as fired from posthorn.schedule s`;
      expect(await from.admin.rows(fire)).toEqual([{ fired: true }]);
      const look = "select next_at, due_at, last_at, last_message, last_nonce from posthorn.schedule";
      const before = await from.admin.rows(look);
      await copy(from, to);
      expect(await failure(to.db.query(declare))).toMatchObject({ code: "PH003" });
      await rebase(to.db);
      expect(await to.admin.rows(look)).toEqual(before);
      expect(await to.admin.rows(fire)).toEqual([{ fired: false }]);
    });
  });
});

describe("a log that is not at home", () => {
  const verbs = {
    "posthorn.send": "select posthorn.send('DoMail', '{}')",
    "posthorn.cancel": "select posthorn.cancel('1-0000000000000000')",
    register_contract: "select posthorn.register_contract('New', 1, 'command', 'new', false, null, 'test', false)",
    register_subscription: "select posthorn.register_subscription('mail', 'command', 'mail', 'handler', '{}', 'test')",
    register_worker: "select posthorn.register_worker('test', 'here', 1, 1000, null, '[]', '[]')",
    heartbeat: "select posthorn.heartbeat(1, null)",
    forget_worker: "select posthorn.forget_worker(1)",
    take_due: "select posthorn.take_due(1, 1, '[1]', 1)",
    settle: "select posthorn.settle(null, null, null)",
    spill: "select posthorn.sweep_keys(1)",
    rescue: "select posthorn.rescue(1)",
    watch: "select posthorn.watch(1)",
    prune: "select posthorn.prune(1, 1)",
    redrive: "select posthorn.redrive('{\"list\":\"dead-letters\"}', 'me', 1)",
    discard: "select posthorn.discard('{\"list\":\"dead-letters\"}', 'me', 'why', 1)",
    peek: "select posthorn.peek(1, '[1]', null)",
    remove_schedule: "select posthorn.remove_schedule('daily')",
    pause: "select posthorn.pause('mail', 'me')",
    resume: "select posthorn.resume('mail', 'me')",
    purge: "select posthorn.purge('mail', 'me', 'why', 'mail')",
    erase: "select posthorn.erase('ada', 'me', 'why', 'ada')",
    stop_operation: "select posthorn.stop_operation(1)",
  };

  async function expectRefused(url: string, why: RegExp): Promise<void> {
    const session = await openSession(url);
    try {
      for (const [verb, text] of Object.entries(verbs))
        expect(await failure(session.rows(text)), verb).toMatchObject({ code: "PH003" });
    } finally {
      await session.close();
    }
    const shown = await posthornCommand(["migrate", "--database", url]);
    expect(shown).toMatchObject({ code: 1, out: expect.stringMatching(why) });
  }

  test("is refused by every verb that writes: a copy in the same server", async () => {
    const original = await createDatabase();
    const database = await openDatabase(original.url);
    await sendNow(database, 3);
    await database.close();
    const made = await createDatabase({ template: original.name });
    try {
      await expectRefused(made.url, /another database of this server.*posthorn migrate --rebase/);
    } finally {
      await Promise.all([original.drop(), made.drop()]);
    }
  });

  test("is refused by every verb that writes: a server that is behind its log", async () => {
    const engine = await openEngine();
    await sendNow(engine.db, 3);
    await engine.admin.rows("insert into posthorn.tick_1 values (999999, 999999, '99999999:99999999:', now())");
    await expectRefused(engine.url, /behind its log, which has seen transaction 99999999/);
    await rebase(engine.db);
    expect(await planRebase(engine.db)).toBeUndefined();
    await engine.close();
  });

  test("is refused by start() before anything of it is run, whatever migrate says", async () => {
    await within(async (from, to) => {
      await sendNow(from.db, 3);
      await copy(from, to);
      const post = posthorn({ service: "copy", database: to.url, migrate: "auto", logger: silentLogger });
      let handled = 0;
      post.queue("mail", policies.email).handle(command("DoMail", { queue: "mail", schema: type<object>() }), () => {
        handled += 1;
      });
      expect(await failure(post.start())).toMatchObject({ name: "DatabaseRefusedError", code: "PH_DATABASE_MOVED" });
      await post.stop();
      expect(await to.admin.value("select count(*)::int from posthorn.epoch")).toBe(1);
      await rebase(to.db);
      const original = posthorn({ service: "copy", database: to.url, logger: silentLogger });
      original
        .queue("mail", policies.email)
        .handle(command("DoMail", { queue: "mail", schema: type<object>() }), () => {
          handled += 1;
        });
      await original.start();
      await original.untilIdle();
      await original.stop();
      expect(handled).toBe(3);
    });
  });

  test("is rebased by the command line when it was told twice that it takes the other's place", async () => {
    await within(async (from, to) => {
      await sendNow(from.db, 3);
      await copy(from, to);
      const cli = (...args: readonly string[]) => posthornCommand(["migrate", ...args, "--database", to.url]);
      expect(await cli("--rebase", "--dry-run")).toMatchObject({
        code: 0,
        out: expect.stringMatching(/Would rebase[\s\S]* 3 messages in the log waiting/),
      });
      expect(await cli("--rebase")).toMatchObject({
        code: 2,
        err: expect.stringMatching(/is a copy[\s\S]*PH_CONFIRMATION_MISSING/),
      });
      expect((await cli()).code).toBe(1);
      expect(JSON.parse((await cli("--rebase", "--yes", "--json")).out)).toMatchObject({
        rebased: true,
        away: { epoch: 2, waiting: 3 },
      });
      expect(await cli("--rebase")).toMatchObject({ code: 0, out: expect.stringContaining("is the original already") });
    });
  });

  test("names the intakes with when each took in its last message in the copy, since their brokers were not set back", async () => {
    await within(async (from, to) => {
      await from.admin.rows(`select posthorn.declare_intake(name, 'shop', 'kafka', 'kafka.example:9092 shipments', 1000, 1000, '[]')
        from unnest(array['shipments-in', 'unused-in']) name`);
      await from.admin.rows(
        "update posthorn.intake set last_message_at = '2026-05-14 09:00Z' where name = 'shipments-in'",
      );
      await copy(from, to);
      const cli = (...args: readonly string[]) => posthornCommand(["migrate", ...args, "--database", to.url]);
      // Nobody asked for a rebase: such a copy may be one to look at.
      expect((await cli()).out).not.toContain("shipments-in");
      const told =
        /Brokers after a restore[\s\S]* shipments-in, from kafka kafka.example:9092 shipments, took in its last message here at 2026-05-14T09:00:00[\s\S]* unused-in, .*, has taken in nothing/;
      expect(await cli("--rebase", "--dry-run")).toMatchObject({ code: 0, out: expect.stringMatching(told) });
      expect(JSON.parse((await cli("--json")).out)).toMatchObject({
        intakes: [
          { name: "shipments-in", broker: "kafka", lastMessageAt: expect.stringMatching(/^2026-05-14T09:00:00/) },
          { name: "unused-in", lastMessageAt: null },
        ],
      });
      expect(await cli("--rebase", "--yes")).toMatchObject({ code: 0, out: expect.stringMatching(told) });
      expect((await cli("--rebase")).out).not.toContain("shipments-in");
    });
  });
});
