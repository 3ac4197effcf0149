/** post.in(tx): written at once in the caller's own transaction; delivered after its commit, and nothing after its rollback. */

import pg from "pg";
import { type Post, posthorn } from "posthorn";
import { beforeAll, describe, expect, test } from "vitest";
import { rejected } from "../../core/thrown.js";
import { homes, type OwnTransaction, twoHomes } from "../homes.js";
import { DoCall, PileUp, type Stage, serviceName, stageOn, ThingHappened } from "../stage.js";

describe.each(homes.filter(({ shared }) => shared))("in(tx) on $name", (kind) => {
  let stage: Stage;
  beforeAll(async () => {
    stage = await stageOn(kind);
  });

  const transaction = <T>(work: (tx: OwnTransaction) => Promise<T>): Promise<T> => {
    if (stage.home.transaction === undefined) throw new Error("this home has no transactions of its own");
    return stage.home.transaction(work);
  };
  const inside = async (tx: OwnTransaction, run: string) =>
    (await tx.query("select id from posthorn.message_1 where payload ->> 'run' = $1 order by id", [run])).rows.length;

  test("every verb writes at once, in the caller's transaction, and is delivered after its commit", async () => {
    const run = stage.run();
    const receipt = await transaction(async (tx) => {
      await tx.query("insert into note values ($1, 1)", [run]);
      const { send, sendMany, publish, publishMany } = stage.post.in(tx);
      const sent = await send(DoCall, { run });
      expect(sent.id).toMatch(/^\d+-[0-9a-f]{16}$/);
      const many = await sendMany(DoCall, [{ run }, { run }]);
      expect(many).toHaveLength(2);
      await publish(ThingHappened, { run }, { headers: { a: "1" } });
      await publishMany(ThingHappened, [{ run }]);
      expect(await inside(tx, run)).toBe(5);
      expect(stage.delivered(run)).toEqual([]);
      return sent;
    });
    const delivered = await stage.begun(run, 7);
    await stage.post.untilIdle();
    expect(delivered.map(({ receiver }) => receiver).sort()).toEqual([
      "alpha",
      "alpha",
      "books",
      "books",
      "calls",
      "calls",
      "calls",
    ]);
    expect(await receipt.settled({ withinMs: 60_000 })).toMatchObject({ state: "succeeded" });
  });

  test("a rollback leaves neither the row nor the message, and nothing is delivered", async () => {
    const run = stage.run();
    let id = "";
    await transaction(async (tx) => {
      await tx.query("insert into note values ($1, 1)", [run]);
      id = (await stage.post.in(tx).send(DoCall, { run })).id;
      throw new Error("no");
    }).catch(() => undefined);
    await stage.post.untilIdle();
    expect([await stage.stored(run), stage.delivered(run)]).toEqual([0, []]);
    expect((await rejected(stage.post.statusOf(id))).code).toBe("PH_UNKNOWN_MESSAGE");
  });

  test("what was said since a savepoint of the caller goes with the rollback to it", async () => {
    const run = stage.run();
    await transaction(async (tx) => {
      await stage.post.in(tx).send(PileUp, { run, n: 1 });
      await tx.query("savepoint a");
      await stage.post.in(tx).send(PileUp, { run, n: 2 });
      await tx.query("rollback to savepoint a");
      await stage.post.in(tx).send(PileUp, { run, n: 3 });
    });
    const rows = await stage.rows(
      "select payload ->> 'n' as n from posthorn.message_1 where payload ->> 'run' = $1 order by id",
      [run],
    );
    expect(rows.map(({ n }) => n)).toEqual(["1", "3"]);
  });

  test("the tx of post.transaction and of a transaction handler is taken as well, until it has ended", async () => {
    const run = stage.run();
    let kept: unknown;
    await stage.post.transaction(async ({ tx }) => {
      kept = tx;
      await stage.post.in(tx).send(PileUp, { run });
      expect(await inside(tx as unknown as OwnTransaction, run)).toBe(1);
    });
    expect(await stage.stored(run)).toBe(1);
    expect((await rejected(stage.post.in(kept).send(PileUp, { run }))).code).toBe("PH_TRANSACTION_ENDED");
    expect(await stage.stored(run)).toBe(1);
  });

  test("a transaction that has failed already is refused, and nothing of it is written", async () => {
    const run = stage.run();
    const outcome = await transaction(async (tx) => {
      await stage.post.in(tx).send(PileUp, { run });
      await tx.query("select 1 / 0").catch(() => undefined);
      return stage.post.in(tx).send(PileUp, { run });
    }).catch((error: unknown) => error);
    // PGlite does not show the state of its transaction; the first statement finds it.
    expect(outcome).toMatchObject({ code: kind.single ? "PH_TRANSACTION_ABORTED" : "PH_TRANSACTION_REQUIRED" });
    expect(await stage.stored(run)).toBe(0);
  });

  test("a payload that is refused does not fail the caller's transaction", async () => {
    const run = stage.run();
    await transaction(async (tx) => {
      const wrong = stage.post.in(tx).send(PileUp, { run, n: 1n as unknown as number });
      expect((await rejected(wrong)).code).toBe("PH_PAYLOAD_NOT_JSON");
      await stage.post.in(tx).send(PileUp, { run, n: 1 });
    });
    expect(await stage.stored(run)).toBe(1);
  });

  test("it works as the first call of a process, although the caller's transaction holds the last connection", async () => {
    const run = stage.run();
    const other: Post<unknown> = posthorn({ service: serviceName(), database: stage.home.input });
    await transaction(async (tx) => {
      await other.in(tx).send(PileUp, { run });
      await other.in(tx).send(PileUp, { run });
    });
    expect(await stage.stored(run)).toBe(2);
    await other.send(PileUp, { run });
    expect(await stage.stored(run)).toBe(3);
    await other.stop();
  });

  test.each([
    ["undefined", undefined],
    ["null", null],
    ["a text", "begin"],
    ["a symbol", Symbol("tx")],
    ["an empty object", {}],
    ["a look-alike with query()", { query: async () => ({ rows: [] }) }],
  ])("%s is refused as no known transaction", async (_what, value) => {
    const error = await rejected(stage.post.in(value).send(PileUp, { run: stage.run() }));
    expect([error.code, error.name]).toEqual(["PH_TRANSACTION_UNKNOWN", "TransactionRequiredError"]);
    expect(error.message).toMatch(/^post\.in\(\) was given .*Accepted are a pg client with an open transaction/);
  });

  test.runIf(!kind.single)(
    "a pool, a client without BEGIN, one that has committed and one that was released are refused",
    async () => {
      const run = stage.run();
      const pool = new pg.Pool({ connectionString: stage.home.url, max: 1 });
      const refused = async (value: unknown) => {
        const error = await rejected(stage.post.in(value).send(PileUp, { run }));
        expect([error.code, error.name]).toEqual(["PH_TRANSACTION_REQUIRED", "TransactionRequiredError"]);
        return error.message;
      };
      expect(await refused(pool)).toMatch(/a pg pool.*pool\.connect\(\).*BEGIN/);
      const client = await pool.connect();
      expect(await refused(client)).toMatch(/no open transaction.*committed at once, apart from your rows/);
      await client.query("begin");
      await stage.post.in(client).send(PileUp, { run });
      await client.query("commit");
      await refused(client);
      client.release();
      await refused(client);
      await pool.end();
      expect(await stage.stored(run)).toBe(1);
    },
  );

  // On one server and on PGlite: each needs a database more.
  test.runIf(twoHomes.includes(kind))(
    "a transaction of another database than the instance's is refused, and nothing is written to either",
    async () => {
      const run = stage.run();
      await stage.post.send(PileUp, { run });
      // Made by itself: copies of one database have its identity.
      const elsewhere = await kind.open({ anew: true });
      const foreign = async () => {
        const inForeign = (tx: OwnTransaction) => stage.post.in(tx).send(PileUp, { run });
        const error = await rejected(elsewhere.transaction?.(inForeign));
        expect([error.code, error.name]).toEqual(["PH_TRANSACTION_UNKNOWN", "TransactionRequiredError"]);
        expect(error.message).toMatch(/of another database than this instance's\. Nothing was written/);
      };
      try {
        await foreign();
        const theirs = posthorn({ service: serviceName(), database: elsewhere.input, migrate: "auto" });
        await theirs.migrate();
        await foreign();
        expect(await elsewhere.rows?.("select id from posthorn.message_1")).toEqual([]);
        await theirs.stop();
      } finally {
        await elsewhere.close();
      }
      expect(await stage.stored(run)).toBe(1);
    },
  );

  test.runIf(kind.single)("PGlite itself, and a transaction of it that has ended, are refused", async () => {
    const run = stage.run();
    const itself = await rejected(stage.post.in(stage.home.input).send(PileUp, { run }));
    expect([itself.code, itself.message]).toEqual([
      "PH_TRANSACTION_REQUIRED",
      expect.stringMatching(/a PGlite instance, not a transaction/),
    ]);
    const ended = await transaction(async (tx) => tx);
    expect((await rejected(stage.post.in(ended).send(PileUp, { run }))).code).toBe("PH_TRANSACTION_REQUIRED");
    expect(await stage.stored(run)).toBe(0);
  });
});
