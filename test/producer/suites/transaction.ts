/** post.transaction: business rows and messages in one commit, or neither. */
import { AsyncResource } from "node:async_hooks";
import { inspect } from "node:util";
import { TransactionEndedError } from "posthorn";
import { beforeAll, describe, expect, test } from "vitest";
import { rejected } from "../../core/thrown.js";
import { homes } from "../homes.js";
import { DoCall, DoEffect, DoLate, PileByKey, PileUp, type Stage, SumOf, stageOn, ThingHappened } from "../stage.js";

/** Runs in an asynchronous context that began outside of every transaction, as another request would. */
const outside = AsyncResource.bind(<T>(work: () => T): T => work()) as <T>(work: () => T) => T;

describe.each(homes)("a transaction on $name", (kind) => {
  let stage: Stage;
  beforeAll(async () => {
    stage = await stageOn(kind);
  });

  /** A second transaction would wait for the first. */
  const lone = kind.single || kind.name === "a pool of 1";
  const note = "insert into note values ($1, $2)";
  const notes = async (run: string) =>
    (await stage.rows("select n from note where run = $1 order by n", [run])).map(({ n }) => n);
  const code = (work: () => unknown): unknown => {
    try {
      return work();
    } catch (error) {
      return (error as { code?: unknown }).code;
    }
  };

  test("rows and messages are committed together; what the function returns comes back, and receipts have ids", async () => {
    const run = stage.run();
    let early: unknown;
    let shown: unknown;
    const receipt = await stage.post.transaction(async ({ tx, send, publish }) => {
      await tx.query(note, [run, 1]);
      const sent = send(DoCall, { run, n: 1 });
      early = code(() => sent.id);
      // Whoever logs it too early sees that it has none, and gets no error.
      shown = [JSON.stringify(sent), inspect(sent)];
      expect(publish(ThingHappened, { run, n: 2 }, { headers: { a: "b" } })).toBeUndefined();
      send(DoLate, { run, n: 3 });
      return sent;
    });
    expect(early).toBe("PH_NOT_COMMITTED");
    expect(shown).toEqual(['{"id":null,"contract":"DoCall"}', 'Receipt {"id":null,"contract":"DoCall"}']);
    expect(JSON.parse(JSON.stringify(receipt))).toEqual({ id: receipt.id, contract: "DoCall" });
    expect(await receipt.settled({ withinMs: 60_000 })).toMatchObject({ state: "succeeded" });
    expect(await notes(run)).toEqual([1]);
    const rows = await stage.rows(
      "select payload ->> 'n' as n, xid::text as xid, posthorn.public_id(id, nonce) as id from posthorn.message_1 m where payload ->> 'run' = $1 order by m.id",
      [run],
    );
    expect(rows.map(({ n }) => n)).toEqual(["1", "2", "3"]);
    expect(new Set(rows.map(({ xid }) => xid)).size).toBe(1);
    expect(rows[0]?.id).toBe(receipt.id);
    await stage.begun(run, 4);
  });

  test("an error of the function comes back as it is; no row, no message, and a receipt that says so", async () => {
    const run = stage.run();
    const mine = new RangeError("mine");
    let receipt: { readonly id: string } | undefined;
    const outcome = await stage.post
      .transaction(async ({ tx, send, publish }) => {
        receipt = send(PileUp, { run });
        publish(ThingHappened, { run });
        await tx.query(note, [run, 1]);
        throw mine;
      })
      .catch((error: unknown) => error);
    expect(outcome).toBe(mine);
    expect([await notes(run), await stage.stored(run)]).toEqual([[], 0]);
    expect(() => receipt?.id).toThrow(/did not commit, and the message was never sent/);
  });

  test("a function that throws before its first await, or returns no promise, is the same", async () => {
    const run = stage.run();
    const outcome = await stage.post
      .transaction(() => {
        throw new RangeError("at once");
      })
      .catch((error: unknown) => error);
    expect(outcome).toBeInstanceOf(RangeError);
    const plain = ({ send }: { send: typeof stage.post.send }) => send(PileUp, { run });
    await stage.post.transaction(plain as unknown as () => Promise<void>);
    expect(await stage.stored(run)).toBe(1);
  });

  test("a statement whose error was swallowed leaves nothing, and the caller is told that nothing was stored", async () => {
    const run = stage.run();
    const error = await rejected(
      stage.post.transaction(async ({ tx, send }) => {
        await tx.query(note, [run, 1]);
        send(PileUp, { run });
        await tx.query("select 1 / 0").catch(() => undefined);
      }),
    );
    expect([error.code, error.name, error.retryable]).toEqual([
      "PH_TRANSACTION_ABORTED",
      "TransactionEndedError",
      true,
    ]);
    expect(error.message).toMatch(/swallowed/);
    expect([await notes(run), await stage.stored(run)]).toEqual([[], 0]);
  });

  test("the same without a message, and with an error that only COMMIT finds", async () => {
    const run = stage.run();
    const silent = await rejected(
      stage.post.transaction(async ({ tx }) => {
        await tx.query(note, [run, 1]);
        await tx.query("select 1 / 0").catch(() => undefined);
      }),
    );
    expect(silent.code).toBe("PH_TRANSACTION_ABORTED");
    await stage.rows("create table if not exists twice (n int unique deferrable initially deferred)");
    const late = await stage.post
      .transaction(async ({ tx, send }) => {
        send(PileUp, { run });
        await tx.query("insert into twice values (1), (1)");
      })
      .catch((error: unknown) => error);
    expect(late).toMatchObject({ code: "23505" });
    expect([await notes(run), await stage.stored(run)]).toEqual([[], 0]);
  });

  test("a statement that was not awaited is refused, and nothing is committed", async () => {
    const run = stage.run();
    let stray: Promise<unknown> | undefined;
    const error = await rejected(
      stage.post.transaction(async ({ tx, send }) => {
        send(PileUp, { run });
        stray = tx.query("insert into note select $1, n from generate_series(1, 1000) n", [run]).catch(() => undefined);
      }),
    );
    await stray;
    expect(error.code).toBe("PH_STATEMENT_NOT_AWAITED");
    expect(error).toBeInstanceOf(TransactionEndedError);
    expect([await notes(run), await stage.stored(run)]).toEqual([[], 0]);
  });

  test("tx, send and publish refuse every use after the end, after a commit and after a rollback", async () => {
    const run = stage.run();
    for (const commits of [true, false]) {
      let kept: Parameters<Parameters<typeof stage.post.transaction>[0]>[0] | undefined;
      await stage.post
        .transaction(async (context) => {
          kept = context;
          if (!commits) throw new Error("no");
        })
        .catch(() => undefined);
      await expect(kept?.tx.query(note, [run, 1])).rejects.toMatchObject({ code: "PH_TRANSACTION_ENDED" });
      expect(code(() => kept?.send(PileUp, { run }))).toBe("PH_SAY_AFTER_END");
      expect(code(() => kept?.publish(ThingHappened, { run }))).toBe("PH_SAY_AFTER_END");
      expect(() => kept?.send(PileUp, { run })).toThrow(
        /send\(\) was called after the transaction had ended; .* not written/,
      );
    }
    expect([await notes(run), await stage.stored(run)]).toEqual([[], 0]);
  });

  test.each(["commit", "rollback", "begin", "end"])(
    "%s is refused in it, and the transaction goes on",
    async (statement) => {
      const run = stage.run();
      await stage.post.transaction(async ({ tx, send }) => {
        await expect(tx.query(statement)).rejects.toMatchObject({ code: "PH_TRANSACTION_ENDED" });
        send(PileUp, { run });
      });
      expect(await stage.stored(run)).toBe(1);
    },
  );

  test("what was said since a savepoint goes with the rollback to it, also in nested ones and with a schema that would refuse", async () => {
    const run = stage.run();
    const receipts: Record<string, { readonly id: string }> = {};
    await stage.post.transaction(async ({ tx, send }) => {
      send(PileUp, { run, n: 1 });
      await tx.query("savepoint outer_one");
      receipts.outer = send(PileUp, { run, n: 2 });
      await tx.query("savepoint inner_one");
      send(PileUp, { run, n: 3 });
      send(DoLate, { run, n: -1 });
      await tx.query("rollback to savepoint inner_one");
      receipts.kept = send(PileUp, { run, n: 4 });
      await tx.query("release savepoint inner_one");
      await tx.query("savepoint last_one");
      receipts.dropped = send(PileUp, { run, n: 5 });
      await tx.query("select 1 / 0").catch(() => undefined);
      await tx.query("rollback to last_one");
      send(PileByKey, { run, n: 6 });
    });
    const rows = await stage.rows(
      "select payload ->> 'n' as n from posthorn.message_1 where payload ->> 'run' = $1 order by id",
      [run],
    );
    expect(rows.map(({ n }) => n)).toEqual(["1", "2", "4", "6"]);
    expect(receipts.outer?.id).toMatch(/^\d+-[0-9a-f]{16}$/);
    expect(code(() => receipts.dropped?.id)).toBe("PH_NOT_COMMITTED");
    const gone = stage.run();
    await stage.post.transaction(async ({ tx, send }) => {
      await tx.query("savepoint a");
      send(PileUp, { run: gone });
      await tx.query("savepoint b");
      send(PileUp, { run: gone });
      await tx.query("rollback to a");
    });
    expect(await stage.stored(gone)).toBe(0);
  });

  test("an asynchronous schema that refuses rejects the transaction and rolls it back", async () => {
    const run = stage.run();
    let receipt: { readonly id: string } | undefined;
    const error = await rejected(
      stage.post.transaction(async ({ tx, send }) => {
        await tx.query(note, [run, 1]);
        receipt = send(PileUp, { run });
        send(DoLate, { run, n: -1 });
      }),
    );
    expect([error.code, error.facts.issues]).toEqual(["PH_PAYLOAD_INVALID", [{ path: "n", message: "n is negative" }]]);
    expect([await notes(run), await stage.stored(run)]).toEqual([[], 0]);
    expect(code(() => receipt?.id)).toBe("PH_NOT_COMMITTED");
  });

  test("a refusal of send is thrown to the function, which may go on", async () => {
    const run = stage.run();
    await stage.post.transaction(async ({ send }) => {
      expect(code(() => send(PileUp, { run, n: "x" as unknown as number }))).toBe("PH_PAYLOAD_INVALID");
      send(PileUp, { run });
    });
    expect(await stage.stored(run)).toBe(1);
  });

  test("code that a transaction started and did not await cannot say anything once it has ended", async () => {
    const run = stage.run();
    let later: Promise<unknown> = Promise.resolve();
    await stage.post.transaction(async ({ send }) => {
      // Refused, or in time and stored; never silently dropped.
      later = new Promise((resolve) => setImmediate(resolve))
        .then(() => send(PileUp, { run }))
        .then(
          () => 1,
          (error: { code?: unknown }) => (error.code === "PH_SAY_AFTER_END" ? 0 : error),
        );
    });
    const said = await later;
    expect(await stage.stored(run)).toBe(said);
  });

  test.skipIf(kind.single)(
    "a verb of the instance inside a transaction commits on its own, and is warned of once for each contract",
    async () => {
      const [run, { post }] = [stage.run(), stage];
      const before = stage.warnings.length;
      const failing = post.transaction(async ({ send }) => {
        send(PileUp, { run });
        await post.send(PileUp, { run });
        await post.send(PileUp, { run });
        await post.publishMany(ThingHappened, [{ run }]);
        throw new Error("the business says no");
      });
      await expect(failing).rejects.toThrow("the business says no");
      await post.send(PileUp, { run });
      expect(await stage.stored(run)).toBe(4);
      const told = stage.warnings.slice(before).filter((text) => text.includes("is no part of it"));
      expect(told.map((text) => text.split(" ")[0])).toEqual(["send(PileUp)", "publishMany(ThingHappened)"]);
      expect(told.map((text) => /Call (.+), or/.exec(text)?.[1])).toEqual([
        "send of the context that the function is given",
        "publish of the context that the function is given, for each payload",
      ]);
    },
  );

  test.skipIf(lone)(
    "a verb that writes nothing is not warned of, nor one on the transaction, beside it, after it, or in the answer to a query",
    async () => {
      const { post } = stage;
      const run: string = stage.run(undefined, async () => {
        await post.send(DoCall, { run });
        await post.transaction(async ({ send }) => send(DoCall, { run }));
        return { sum: 1 };
      });
      const before = stage.warnings.length;
      let later: Promise<unknown> = Promise.resolve();
      await Promise.all([
        post.transaction(async ({ tx, send }) => {
          send(DoCall, { run });
          await post.in(tx).send(DoCall, { run });
          expect(await post.sendMany(DoCall, [])).toEqual([]);
          expect(await post.sendMany(DoCall, [], { delayMs: 1 })).toEqual([]);
          expect((await rejected(post.send(DoCall, { run, n: "x" as unknown as number }))).code).toBe(
            "PH_PAYLOAD_INVALID",
          );
          later = outside(async () => post.send(DoCall, { run }));
          await later;
        }),
        post.send(DoCall, { run }),
      ]);
      // Called in the context of a transaction that has ended.
      let end = (): void => undefined;
      const ended = new Promise<void>((resolve) => {
        end = resolve;
      });
      await post.transaction(async ({ tx }) => {
        await tx.query("select 1");
        later = ended.then(() => post.send(DoCall, { run }));
      });
      end();
      await later;
      expect(await post.ask(SumOf, { run })).toEqual({ sum: 1 });
      expect(stage.warnings.slice(before).filter((text) => text.includes("called inside a transaction"))).toEqual([]);
      await stage.begun(run, 7);
    },
  );

  test.skipIf(lone)("a transaction inside a transaction commits on its own, and is warned of once", async () => {
    const run = stage.run();
    const before = stage.warnings.length;
    const inner = () => stage.post.transaction(async ({ send }) => send(PileUp, { run }));
    const failing = stage.post.transaction(async () => {
      await inner();
      await inner();
      throw new Error("the business says no");
    });
    await expect(failing).rejects.toThrow("the business says no");
    await inner();
    expect(await stage.stored(run)).toBe(3);
    const told = stage.warnings.slice(before).filter((text) => text.includes("is one of its own"));
    expect(told).toEqual([expect.stringMatching(/^transaction\(\) was called inside a transaction/)]);
  });

  test.runIf(kind.single)(
    "on one connection a call that would wait for the transaction is refused at once",
    async () => {
      const run = stage.run();
      const before = await stage.post.send(PileUp, { run: stage.run() });
      const { post } = stage;
      await post.transaction(async ({ send }) => {
        send(PileUp, { run });
        const calls: readonly (() => Promise<unknown>)[] = [
          () => post.send(PileUp, { run }),
          () => post.sendMany(PileUp, [{ run }, { run }]),
          () => post.publish(ThingHappened, { run }),
          () => post.publishMany(ThingHappened, [{ run }]),
          () => post.transaction(async () => undefined),
          () => post.statusOf(before.id),
          () => post.backlog(),
          () => post.untilIdle(),
          () => before.status(),
          () => before.settled({ withinMs: 1_000 }),
        ];
        for (const call of calls) {
          const error = await rejected(call());
          expect([error.code, error.name]).toEqual(["PH_WOULD_DEADLOCK", "WouldDeadlockError"]);
          expect(error.message).toMatch(/would wait for the transaction/);
        }
      });
      expect(await stage.stored(run)).toBe(1);
    },
  );

  test.runIf(kind.single)("the same inside a transaction handler, which goes on and settles", async () => {
    const { post } = stage;
    const before = await post.send(PileUp, { run: stage.run() });
    const codes: unknown[] = [];
    const run: string = stage.run(async ({ context }) => {
      for (const call of [
        () => post.send(PileUp, { run }),
        () => post.publish(ThingHappened, { run }),
        () => post.transaction(async () => undefined),
        () => post.ask(SumOf, { run }),
        () => post.statusOf(before.id),
        () => post.backlog(),
        () => post.untilIdle(),
        () => before.status(),
      ]) {
        codes.push((await rejected(call())).code);
      }
      context.send(PileUp, { run });
    });
    const receipt = await post.send(DoEffect, { run });
    expect(await receipt.settled({ withinMs: 60_000 })).toMatchObject({ state: "succeeded" });
    expect(codes).toEqual(Array(8).fill("PH_WOULD_DEADLOCK"));
    expect(await stage.stored(run)).toBe(2);
  });

  test.runIf(kind.single)("a call of another request meanwhile is not refused: it waits for its turn", async () => {
    const run = stage.run();
    let other: Promise<unknown> = Promise.resolve();
    await stage.post.transaction(async ({ tx }) => {
      other = outside(() => stage.post.send(PileUp, { run }));
      await tx.query("select 1");
      expect(await Promise.race([other.then(() => "sent"), tx.query("select 1").then(() => "waits")])).toBe("waits");
    });
    await other;
    expect(await stage.stored(run)).toBe(1);
  });

  test.runIf(!kind.single)(
    "on a server a call inside it is a transaction of its own, also on a pool of one",
    async () => {
      const run = stage.run();
      const mine = new Error("mine");
      const outcome = await stage.post
        .transaction(async ({ send }) => {
          send(PileUp, { run });
          const receipt = await stage.post.send(PileUp, { run, n: 1 });
          expect(await receipt.status()).toMatchObject({ state: "queued" });
          throw mine;
        })
        .catch((error: unknown) => error);
      expect(outcome).toBe(mine);
      expect(await stage.stored(run)).toBe(1);
    },
  );
});
