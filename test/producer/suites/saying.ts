/** send, publish, sendMany, publishMany: what is written, in what order, and that a refused call writes nothing. */
import { type AnyContract, PosthornError, WrongKindError } from "posthorn";
import { beforeAll, describe, expect, test } from "vitest";
import { rejected } from "../../core/thrown.js";
import { eventually } from "../../support/eventually.js";
import { homes } from "../homes.js";
import {
  DoCall,
  DoEffect,
  DoLate,
  DoOnce,
  DoShape,
  DoSpoil,
  PileByKey,
  PileUp,
  type Stage,
  spoiled,
  stageOn,
  ThingHappened,
} from "../stage.js";

describe.each(homes)("send and publish on $name", (kind) => {
  let stage: Stage;
  beforeAll(async () => {
    stage = await stageOn(kind);
  });

  const stored = (run: string) =>
    stage.rows(
      "select posthorn.public_id(id, nonce) as id, key, payload::text as text, headers::text as headers, xid::text as xid from posthorn.message_1 where payload ->> 'run' = $1 order by message_1.id",
      [run],
    );

  test("a command is stored exactly as said and reaches its handler once, under the id of its receipt", async () => {
    const run = stage.run();
    const { send } = stage.post;
    const receipt = await send(DoCall, { n: 1.5e300, run });
    expect(await receipt.settled({ withinMs: 60_000 })).toMatchObject({ state: "succeeded" });
    expect(await stored(run)).toEqual([
      expect.objectContaining({ id: receipt.id, key: null, text: `{"n":1.5e+300,"run":"${run}"}`, headers: null }),
    ]);
    const [delivery, ...more] = stage.delivered(run);
    expect(more).toEqual([]);
    expect(delivery?.payload).toEqual({ n: 1.5e300, run });
    expect(delivery?.context.message).toMatchObject({
      id: receipt.id,
      name: "DoCall",
      version: 1,
      key: null,
      headers: {},
    });
    expect(Math.abs(Number(delivery?.context.message.publishedAt) - Date.now())).toBeLessThan(60_000);
  });

  test("an event is stored once and reaches every subscription once, with its key and headers", async () => {
    const run = stage.run();
    const headers = { "trace-id": "4bf9", 'q"\\': "ü 😀", __proto__x: "1" };
    expect(await stage.post.publish(ThingHappened, { run }, { headers })).toBeUndefined();
    await stage.begun(run, 2);
    await stage.post.untilIdle();
    expect(
      stage
        .delivered(run)
        .map(({ receiver }) => receiver)
        .sort(),
    ).toEqual(["alpha", "books"]);
    expect(await stage.stored(run)).toBe(1);
    for (const { context } of stage.delivered(run)) {
      expect(context.message).toMatchObject({ key: run, headers, name: "ThingHappened" });
      expect(Object.isFrozen(context.message.headers)).toBe(true);
    }
  });

  test("an array is sent as it is at the call, also when it is filled or emptied while the call waits", async () => {
    const run = stage.run();
    const filled = Array.from({ length: 600 }, () => ({ run }));
    const sending = stage.post.sendMany(PileUp, filled);
    filled.push({ run });
    expect(await sending).toHaveLength(600);
    const emptied = stage.post.sendMany(PileUp, filled);
    filled.length = 0;
    expect(await emptied).toHaveLength(601);
    expect(await stage.stored(run)).toBe(1_201);
  });

  test("the iterator of a caller is closed when a call fails", async () => {
    let closed = false;
    const payloads = (function* () {
      try {
        for (;;) yield { run: stage.run(), n: "wrong" as unknown as number };
      } finally {
        closed = true;
      }
    })();
    expect((await rejected(stage.post.sendMany(PileUp, payloads))).code).toBe("PH_PAYLOAD_INVALID");
    expect(closed).toBe(true);
  });

  test("a long list whose last payload is wrong leaves nothing, although its first pieces are written while the rest is checked", async () => {
    const run = stage.run();
    const wrong = { run, n: "last" as unknown as number };
    const long = [...Array.from({ length: 4_200 }, (_, n) => ({ run, n })), wrong];
    expect((await rejected(stage.post.sendMany(PileUp, long))).code).toBe("PH_PAYLOAD_INVALID");
    expect(await stored(run)).toEqual([]);
    const receipts = await stage.post.sendMany(PileUp, long.slice(0, -1));
    expect((await stored(run)).map(({ id }) => id)).toEqual(receipts.map(({ id }) => id));
  });

  test("sendMany returns the receipts in the order of the payloads, and the ids ascend in it", async () => {
    const run = stage.run();
    const receipts = await stage.post.sendMany(
      PileUp,
      (function* () {
        for (let n = 0; n < 50; n += 1) yield { run, n };
      })(),
    );
    const rows = await stored(run);
    expect(receipts.map(({ id }) => id)).toEqual(rows.map(({ id }) => id));
    expect(rows.map(({ text }) => JSON.parse(String(text)).n)).toEqual([...Array(50).keys()]);
    expect(new Set(rows.map(({ xid }) => xid)).size).toBe(1);
  });

  test("an iterable that gives the same object each time, changed, says what each was", async () => {
    const run = stage.run();
    const one = { run, n: -1 };
    const receipts = await stage.post.sendMany(
      PileUp,
      (function* () {
        for (one.n = 0; one.n < 20; one.n += 1) yield one;
      })(),
    );
    expect((await stored(run)).map(({ text }) => JSON.parse(String(text)).n)).toEqual([...Array(20).keys()]);
    expect(receipts).toHaveLength(20);
  });

  test("every message of a list has the call's headers and its own key, and each receipt names its message", async () => {
    const run = stage.run();
    const receipts = await stage.post.sendMany(
      PileByKey,
      [
        { run, n: 1 },
        { run, n: 2 },
      ],
      { headers: { trace: "t" } },
    );
    const rows = await stored(run);
    expect(rows.map(({ headers }) => headers)).toEqual(['{"trace":"t"}', '{"trace":"t"}']);
    expect(rows.map(({ id }) => id)).toEqual(receipts.map(({ id }) => id));
    expect(rows.map(({ key }) => key)).toEqual(["key-1", "key-2"]);
  });

  test("publishMany stores in the order of the payloads, in one transaction", async () => {
    const run = stage.run();
    await stage.post.publishMany(
      ThingHappened,
      [3, 1, 2].map((n) => ({ run, n })),
    );
    const rows = await stored(run);
    expect(rows.map(({ text }) => JSON.parse(String(text)).n)).toEqual([3, 1, 2]);
    expect(new Set(rows.map(({ xid }) => xid)).size).toBe(1);
  });

  test("more than fit into one statement are one transaction all the same: all, or none", async () => {
    const run = stage.run();
    const payloads = Array.from({ length: 10_500 }, (_, n) => ({ run, n }));
    const receipts = await stage.post.sendMany(PileUp, payloads);
    const [found] = await stage.rows(
      "select count(distinct xid)::int as transactions, count(*)::int as messages, bool_and(n::int = position) as ordered from (select xid, payload ->> 'n' as n, row_number() over (order by id) - 1 as position from posthorn.message_1 where payload ->> 'run' = $1) m",
      [run],
    );
    expect(found).toEqual({ transactions: 1, messages: 10_500, ordered: true });
    expect(new Set(receipts.map(({ id }) => id)).size).toBe(10_500);
    // The last statement of a second call fails in the database.
    await stage.rows("alter table posthorn.message_1 add constraint bomb check (payload ->> 'n' <> '-5') not valid");
    const failing = [...payloads.map(({ n }) => ({ run: `${run}-x`, n })), { run: `${run}-x`, n: -5 }];
    try {
      await expect(stage.post.sendMany(PileUp, failing)).rejects.toMatchObject({ code: "23514" });
    } finally {
      await stage.rows("alter table posthorn.message_1 drop constraint bomb");
    }
    expect(await stage.stored(`${run}-x`)).toBe(0);
  });

  test("one payload that does not fit keeps the others of the call from being written", async () => {
    const run = stage.run();
    const error = await rejected(stage.post.sendMany(PileUp, [{ run }, { run, n: "2" as unknown as number }, { run }]));
    expect(error.code).toBe("PH_PAYLOAD_INVALID");
    const late = await rejected(stage.post.sendMany(DoLate, [{ run }, { run, n: -1 }]));
    expect(late.code).toBe("PH_PAYLOAD_INVALID");
    expect(await stage.stored(run)).toBe(0);
  });

  test("an empty list says nothing, and its contract and options are checked all the same", async () => {
    expect(await stage.post.sendMany(PileUp, [])).toEqual([]);
    expect(await stage.post.publishMany(ThingHappened, new Set<never>())).toBeUndefined();
    const wrong: AnyContract = ThingHappened;
    await expect(stage.post.sendMany(wrong as typeof PileUp, [])).rejects.toThrow(WrongKindError);
    const unknown: object = { soon: true };
    expect((await rejected(stage.post.sendMany(PileUp, [], unknown))).code).toBe("PH_OPTION_UNKNOWN");
  });

  test("what an iterable of payloads throws reaches the caller, and nothing is written", async () => {
    const run = stage.run();
    const mine = new RangeError("mine");
    const failing = (function* () {
      yield { run };
      throw mine;
    })();
    expect(await stage.post.sendMany(PileUp, failing).catch((error: unknown) => error)).toBe(mine);
    expect(await stage.stored(run)).toBe(0);
  });

  test("transforms and defaults: the input is stored, and handler and key get the output", async () => {
    const run = stage.run();
    const at = "2026-01-02T03:04:05Z";
    const receipt = await stage.post.send(DoShape, { run, at });
    await receipt.settled({ withinMs: 60_000 });
    expect(await stored(run)).toEqual([
      expect.objectContaining({ text: `{"run":"${run}","at":"${at}"}`, key: "2026-7" }),
    ]);
    expect(stage.delivered(run)[0]?.payload).toEqual({ run, at: new Date(at), n: 7 });
    expect(stage.delivered(run)[0]?.context.message.key).toBe("2026-7");
  });

  test("what no longer fits on arrival is invalid: with issues and payload, without a run, a retry or a dead letter", async () => {
    const run = stage.run();
    spoiled.delete(run);
    const receipt = await stage.post.transaction(async ({ send }) => {
      const sent = send(DoSpoil, { run, n: 3 });
      spoiled.add(run);
      return sent;
    });
    expect(await receipt.settled({ withinMs: 60_000 })).toMatchObject({ state: "invalid", history: [] });
    const listed = await stage.rows(
      "select subscription, contract, payload::text as payload, issues from posthorn.invalid_messages where message = $1",
      [receipt.id],
    );
    expect(listed).toEqual([
      {
        subscription: "calls",
        contract: "DoSpoil",
        payload: `{"run":"${run}","n":3}`,
        issues: [{ path: "run", message: "has gone bad" }],
      },
    ]);
    expect(stage.delivered(run)).toEqual([]);
    const elsewhere = await stage.rows(
      "select (select count(*) from posthorn.deferred where payload ->> 'run' = $1)::int + (select count(*) from posthorn.dead_letter where payload ->> 'run' = $1)::int as n",
      [run],
    );
    expect(elsewhere).toEqual([{ n: 0 }]);
  });

  test("the status follows a command from queued over running and retrying to its end", async () => {
    const run = stage.run();
    const unattended = await stage.post.send(PileUp, { run });
    expect(await unattended.status()).toEqual({ state: "queued", attempt: 0, history: [] });
    expect(await unattended.settled({ withinMs: 0 })).toMatchObject({ state: "queued" });

    let finish: (outcome: "fine" | "broken") => void = () => undefined;
    const slow = stage.run(async () => {
      const outcome = await new Promise<"fine" | "broken">((resolve) => {
        finish = resolve;
      });
      if (outcome === "broken") throw new TypeError("it broke");
    });
    const receipt = await stage.post.send(DoCall, { run: slow });
    await stage.begun(slow, 1);
    expect(await receipt.status()).toMatchObject({ state: "running" });
    finish("broken");
    await stage.begun(slow, 2);
    expect(await receipt.status()).toMatchObject({
      state: "running",
      attempt: 1,
      history: [{ attempt: 1, outcome: "failed", error: { name: "TypeError", message: "it broke" } }],
    });
    finish("fine");
    expect(await receipt.settled({ withinMs: 60_000 })).toMatchObject({ state: "succeeded" });
    expect(await stage.post.statusOf(receipt.id)).toMatchObject([{ subscription: "calls", state: "succeeded" }]);

    const hopeless = stage.run(() => {
      throw new Error("never");
    });
    const dead = await stage.post.send(DoCall, { run: hopeless });
    expect(await dead.settled({ withinMs: 60_000 })).toMatchObject({
      state: "dead",
      attempt: 3,
      reason: "failed 3 times",
    });
    expect((await dead.status()).history.map(({ attempt }) => attempt)).toEqual([1, 2, 3]);
  });

  test("a message that waits for its next attempt is retrying, with the time when it is due", async () => {
    const run = stage.run(() => {
      throw new Error("once");
    });
    const receipt = await stage.post.send(DoCall, { run });
    // The retry comes within a millisecond, so it is held where it waits: planted, not hit by luck.
    await stage.begun(run, 3);
    await receipt.settled({ withinMs: 60_000 });
    await stage.rows(
      "with d as (delete from posthorn.dead_letter where payload ->> 'run' = $1 returning *) insert into posthorn.deferred (subscription, due_at, delivery, attempts, crashes, reason, message, nonce, channel, lane, contract, key, payload, headers, published_at, history) select subscription, now() + interval '1 hour', 9, 2, 1, 'failed', message, nonce, channel, lane, contract, key, payload, headers, published_at, history from d",
      [run],
    );
    const status = await receipt.status();
    expect(status).toMatchObject({ state: "retrying", attempt: 2 });
    expect(Number(status.dueAt)).toBeGreaterThan(Date.now() + 3_000_000);
    await stage.rows("delete from posthorn.deferred where payload ->> 'run' = $1", [run]);
  });

  test("at most once: a run that fails is a dead letter at once and is not repeated", async () => {
    const run = stage.run(() => {
      throw new Error("half done");
    });
    const receipt = await stage.post.send(DoOnce, { run });
    expect(await receipt.settled({ withinMs: 60_000 })).toMatchObject({ state: "dead", attempt: 1 });
    expect(stage.delivered(run)).toHaveLength(1);
  });

  test("the idempotency key is the same for every attempt, and differs by effect, receiver and message", async () => {
    const failing = stage.run(({ context }) => {
      if (context.attempt < 3) throw new Error("again");
    });
    await stage.post.publish(ThingHappened, { run: failing });
    const found = await stage.begun(failing, 6);
    const keys = (receiver: string, effect?: string) =>
      new Set(found.filter((one) => one.receiver === receiver).map(({ context }) => context.idempotencyKey(effect)));
    expect([keys("alpha").size, keys("books").size, keys("alpha", "charge").size]).toEqual([1, 1, 1]);
    expect(found.map(({ context }) => context.attempt).sort()).toEqual([1, 1, 2, 2, 3, 3]);
    const other = stage.run();
    await stage.post.publish(ThingHappened, { run: other });
    const [elsewhere] = await stage.begun(other, 2);
    const all = [...keys("alpha"), ...keys("books"), ...keys("alpha", "charge"), ...keys("alpha", "mail")];
    expect(new Set([...all, elsewhere?.context.idempotencyKey()]).size).toBe(5);
    for (const key of all) expect(key).toMatch(/^[0-9a-z]{16,64}$/);
  });

  test("transaction mode: the effects and the end commit together, and a failed attempt leaves no effect", async () => {
    const run = stage.run(async ({ context }) => {
      const { tx, attempt } = context;
      await tx?.query("insert into note values ($1, $2)", [run, attempt]);
      if (attempt === 1) throw new Error("after the effect");
    });
    const receipt = await stage.post.send(DoEffect, { run });
    expect(await receipt.settled({ withinMs: 60_000 })).toMatchObject({ state: "succeeded" });
    expect(await stage.rows("select n from note where run = $1", [run])).toEqual([{ n: 2 }]);
  });

  test.each([
    ["handler", DoCall],
    ["transaction", DoEffect],
    ["at-most-once", DoOnce],
  ] as const)(
    "mode %s: what a handler says goes out with its success, once, and nothing of a failed attempt",
    async (mode, contract) => {
      const said = stage.run();
      const run = stage.run(({ context: { send, publish, attempt } }) => {
        send(PileUp, { run: said, n: attempt });
        publish(ThingHappened, { run: said, n: attempt });
        if (attempt === 1 && mode !== "at-most-once") throw new Error("after it was said");
      });
      const receipt = await stage.post.send(contract, { run });
      await receipt.settled({ withinMs: 60_000 });
      const winner = mode === "at-most-once" ? 1 : 2;
      const sent = await eventually(async () => {
        const rows = await stored(said);
        return rows.length === 2 ? rows : undefined;
      });
      expect(sent.map(({ text }) => JSON.parse(String(text)).n)).toEqual([winner, winner]);
    },
  );

  test("a receipt of a handler has an id once the handler's end is settled, and says why not before", async () => {
    let kept: { readonly id: string } | undefined;
    let early: unknown;
    const run = stage.run(({ context: { send } }) => {
      kept = send(PileUp, { run });
      try {
        early = kept.id;
      } catch (error) {
        early = error;
      }
    });
    const receipt = await stage.post.send(DoCall, { run });
    await receipt.settled({ withinMs: 60_000 });
    expect(early).toMatchObject({ code: "PH_NOT_COMMITTED", name: "NotCommittedError" });
    expect(early).toBeInstanceOf(PosthornError);
    const id = await eventually(() => kept?.id);
    expect(await stage.post.statusOf(id)).toMatchObject([{ subscription: "pile", state: "queued" }]);
  });

  test("an asynchronous schema that refuses what a handler said fails the attempt, and nothing goes out", async () => {
    const run = stage.run(({ context: { send, attempt } }) => {
      send(PileByKey, { run, n: attempt });
      if (attempt < 3) send(DoLate, { run: `${run}-late`, n: -1 });
    });
    const receipt = await stage.post.send(DoCall, { run });
    expect(await receipt.settled({ withinMs: 60_000 })).toMatchObject({ state: "succeeded" });
    expect(stage.delivered(run).map(({ context }) => context.attempt)).toEqual([1, 2, 3]);
    const piled = (await stored(run)).filter(({ key }) => key !== null);
    expect(piled.map(({ key }) => key)).toEqual(["key-3"]);
    expect(await stage.stored(`${run}-late`)).toBe(0);
  });
});
