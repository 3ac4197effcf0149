import { afterAll, beforeAll, expect, test } from "vitest";
import { drive } from "../../src/maintenance/operation.js";
import { discard, errorGroups, letters, redrive } from "../../src/store/operate.js";
import {
  beginLetters,
  beginRemove,
  listSubscriptions,
  operations,
  proceed,
  remaining,
  stopOperation,
} from "../../src/store/operations.js";
import { registerSubscription } from "../../src/store/registry.js";
import { settle, work } from "../../src/store/work.js";
import {
  claim,
  die,
  type Engine,
  end,
  failure,
  giveUp,
  makeQueue,
  makeTopic,
  makeWorker,
  numberOf,
  openEngine,
  part,
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
const ann = { by: "ann", reason: "no longer needed" };

test("a removed subscription is gone with all that it had not handled, others of the topic go on, and declared anew it is a new one", async () => {
  const [one, two] = await makeTopic(engine, "facts", ["leaves", "stays"]);
  if (one === undefined || two === undefined) throw new Error("two were made");
  const worker = await makeWorker(engine, [one]);
  await say(engine.db, one, upTo(6));
  const [dead, waits] = await claim(engine.db, one, worker, 2);
  if (dead === undefined || waits === undefined) throw new Error("some were said");
  expect(await failure(beginRemove(engine.db, "leaves", ann, "leaves"))).toMatchObject({
    code: "PH_SUBSCRIPTION_IN_USE",
  });
  await settle(
    engine.db,
    [part([dead, waits], 1, "failed", true)],
    [end(dead, "failed", giveUp), end(waits, "failed", retryNow)],
    null,
  );
  await die(engine, worker);
  expect(await failure(beginRemove(engine.db, "leaves", ann, "leaves"))).toMatchObject({
    code: "PH_SUBSCRIPTION_IN_USE",
  });
  await rescueAll(engine.db);
  expect(await remaining(engine.db, "leaves")).toEqual({
    name: "leaves",
    unread: 4,
    waiting: 1,
    parked: 0,
    deadLetters: 1,
    invalid: 0,
  });
  expect(await failure(beginRemove(engine.db, "leaves", ann, null))).toMatchObject({ code: "PH_CONFIRMATION_MISSING" });
  expect(await drive(engine.db, await beginRemove(engine.db, "leaves", ann, "leaves"))).toMatchObject({
    state: "done",
    found: 6,
    done: 6,
  });
  expect((await listSubscriptions(engine.db)).map(({ name }) => name)).toEqual(["stays"]);
  for (const table of ["deferred", "dead_letter", "lane", "discarded", "result", "attendance"])
    expect([
      table,
      await engine.admin.value(`select count(*)::int from posthorn.${table} where subscription = $1`, [
        one.subscription,
      ]),
    ]).toEqual([table, 0]);
  const other = await makeWorker(engine, [two]);
  expect((await claim(engine.db, two, other, 10)).map(numberOf)).toEqual(upTo(6));
  const anew = await registerSubscription(
    engine.db,
    { name: "leaves", kind: "event", channel: "facts", idempotency: "handler", policy: "{}" },
    "test",
  );
  expect(anew.subscription).not.toBe(one.subscription);
  await say(engine.db, one, [7]);
  const again = { ...one, subscription: anew.subscription };
  expect((await claim(engine.db, again, await makeWorker(engine, [again]), 10)).map(numberOf)).toEqual([7]);
});

test("a new subscription starts now, or with the oldest message that is kept; one that is known goes on where it is", async () => {
  const [first] = await makeTopic(engine, "history", ["first"]);
  if (first === undefined) throw new Error("one was made");
  await say(engine.db, first, upTo(3));
  const entry = { kind: "event", channel: "history", idempotency: "handler", policy: "{}" } as const;
  const read = async (name: string, startFrom: "now" | "oldest" | undefined) => {
    const { subscription } = await registerSubscription(
      engine.db,
      { ...entry, name, ...(startFrom && { startFrom }) },
      "test",
    );
    const reader = { ...first, subscription };
    const worker = await makeWorker(engine, [reader]);
    const { deliveries } = await work(engine.db, subscription, worker, 10, []);
    if (deliveries.length > 0) await settle(engine.db, [part(deliveries, 1, "succeeded", true)], [], null);
    return deliveries.map(numberOf);
  };
  expect(await read("late", undefined)).toEqual([]);
  expect(await read("later", "now")).toEqual([]);
  expect(await read("whole", "oldest")).toEqual([1, 2, 3]);
  expect(await read("whole", "oldest")).toEqual([]);
  expect(await read("late", "oldest")).toEqual([]);
});

test("a queue keeps its reader, and unknown names are refused", async () => {
  await makeQueue(engine, "kept");
  expect(await failure(beginRemove(engine.db, "kept", ann, "kept"))).toMatchObject({ code: "PH_OPTION_INVALID" });
  expect(await failure(remaining(engine.db, "nobody"))).toMatchObject({ code: "PH_NAME_UNKNOWN" });
});

test("dead letters are redriven and discarded by the group of their newest error, in the order of the list, and nothing that dies meanwhile is taken", async () => {
  const reader = await makeQueue(engine, "groups");
  const worker = await makeWorker(engine, [reader]);
  const die = async (numbers: readonly number[], message: string): Promise<void> => {
    await say(engine.db, reader, numbers);
    for (let left = numbers.length; left > 0; ) {
      const held = await claim(engine.db, reader, worker, 50);
      left -= held.length;
      const entry = {
        attempt: 1,
        outcome: "failed",
        endedAt: new Date().toISOString(),
        error: { name: "Error", code: "ECONN", message, stack: "Error\n    at send (mail.ts:1:2)" },
      };
      await settle(
        engine.db,
        [part(held, 1, "failed", true)],
        held.map((one) => ({ ...end(one, "failed", giveUp), entry })),
        null,
      );
    }
  };
  await die(upTo(7), "mail 4711 was refused");
  await die(upTo(5, 100), "no route to host");
  const groups = await errorGroups(engine.db, { subscription: "groups" }, 10, 100);
  const group = groups.find(({ message }) => /refused/.test(message))?.fingerprint ?? "";
  const filter = { list: "dead-letters", subscription: "groups", group } as const;
  const operation = await beginLetters(engine.db, "redrive", filter, ann);
  expect(operation).toMatchObject({ found: 7, target: "groups" });
  expect(await proceed(engine.db, operation.operation, 3)).toMatchObject({ done: 3, state: "running" });
  await die([8], "mail 4712 was refused");
  expect(await drive(engine.db, operation)).toMatchObject({ done: 7, state: "done" });
  expect(
    await engine.admin.rows(
      "select (payload ->> 'm')::int as m from posthorn.deferred where subscription = $1 order by due_at",
      [reader.subscription],
    ),
  ).toEqual(upTo(7).map((m) => ({ m })));
  expect(await failure(beginLetters(engine.db, "discard", filter, { by: "ann" }))).toMatchObject({
    code: "PH_OPTION_INVALID",
  });
  expect(await drive(engine.db, await beginLetters(engine.db, "discard", filter, ann))).toMatchObject({
    found: 1,
    done: 1,
  });
  expect(await letters(engine.db, { list: "dead-letters", subscription: "groups" }, 100)).toHaveLength(5);
  // Of one message, done at once, the record has a row as well.
  const [letter] = await letters(engine.db, { list: "dead-letters", subscription: "groups" }, 1);
  await redrive(engine.db, { list: "dead-letters", message: letter?.message ?? "" }, "ben", 10);
  const [next] = await letters(engine.db, { list: "dead-letters", subscription: "groups" }, 1);
  await discard(engine.db, { list: "dead-letters", message: next?.message ?? "" }, "ben", "wrong", 10);
  expect((await operations(engine.db, 2, false)).map(({ verb, by, done, state }) => [verb, by, done, state])).toEqual([
    ["discard", "ben", 1, "done"],
    ["redrive", "ben", 1, "done"],
  ]);
  // What is not dead is not redriven, and leaves no record.
  expect(await redrive(engine.db, { list: "dead-letters", message: next?.message ?? "" }, "cid", 10)).toEqual([]);
  expect((await operations(engine.db, 1, false))[0]?.by).toBe("ben");
});

test("an operation that was stopped stays where it is, and psql does all of one in a single statement", async () => {
  const reader = await makeQueue(engine, "byhand");
  await makeWorker(engine, [reader]);
  await say(engine.db, reader, upTo(30));
  const session = await engine.session();
  const begun = String(
    await session.value("select posthorn.purge('byhand', by => 'ann', confirm => 'byhand') ->> 'operation'"),
  );
  await session.value("select posthorn.proceed($1::bigint, 10)", [begun]);
  expect(await stopOperation(engine.db, begun)).toBe(true);
  expect(await stopOperation(engine.db, begun)).toBe(false);
  expect(await proceed(engine.db, begun, 10)).toMatchObject({ state: "stopped", done: 10 });
  const next = String(
    await session.value("select posthorn.purge('byhand', by => 'ann', confirm => 'byhand') ->> 'operation'"),
  );
  await session.rows(`call posthorn.run(${next}, 1000)`);
  expect(
    await session.rows("select state, done::int, ordered_by from posthorn.audit where operation = $1", [next]),
  ).toEqual([{ state: "done", done: 20, ordered_by: "ann" }]);
});

test("errors of two statuses are two groups, and ids, places and numbers are none", async () => {
  const normalised = async (text: string) =>
    (await engine.admin.rows("select posthorn.normalised($1) as text", [text]))[0]?.text;
  // Both were "http://# answered #": one group, whatever had gone wrong.
  expect(await normalised("http://127.0.0.1:8080 answered 404: no order 12 is here")).toBe(
    "http://# answered 404: no order # is here",
  );
  expect(await normalised("https://shop.example:8443 answered 500.")).toBe("https://shop.example:# answered 500.");
  expect(await normalised("answered 4711, answered 999 and unanswered 404 of 404")).toBe(
    "answered #, answered # and unanswered # of #",
  );
  expect(await normalised("order 7f9c0d1e2a3b4c5d of 1.2.3 at 10:31")).toBe("order # of # at #");
});
