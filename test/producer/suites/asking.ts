/** Queries: an answer, or an error by the deadline; never a write, and never a connection that stays away. */
import { DeadlineError, query } from "posthorn";
import { beforeAll, describe, expect, test } from "vitest";
import { rejected } from "../../core/thrown.js";
import { eventually } from "../../support/eventually.js";
import { homes } from "../homes.js";
import { PileUp, type Stage, SumOf, schemaOf, stageOn } from "../stage.js";

const NeverChecked = query("CheckForEver", {
  request: schemaOf<{ run: string }>(() => new Promise(() => undefined)),
  response: schemaOf<unknown>((value) => ({ value })),
  deadlineMs: 60_000,
});

describe.each(homes)("a query on $name", (kind) => {
  let stage: Stage;
  beforeAll(async () => {
    stage = await stageOn(kind);
    stage.post.answer(NeverChecked, () => 1);
  });

  test("the answer function gets the output of the request's schema and a transaction, and its answer comes back", async () => {
    const run = stage.run(undefined, async ({ text }, { tx, signal }) => {
      const { rows } = await tx.query<{ sum: number }>("select ($1::int + 1)::int as sum", [text]);
      return { sum: signal.aborted ? -1 : rows[0]?.sum };
    });
    expect(await stage.post.ask(SumOf, { run, text: "41" })).toEqual({ sum: 42 });
  });

  test.each([
    ["insert into note values ($1, 1)"],
    ["select posthorn.send('PileUp', '{}'::json)"],
    ["create table stray (n int)"],
    ["select nextval('posthorn.message_id')"],
  ])("the transaction is read-only: %s", async (sql) => {
    const run = stage.run(undefined, async (request, { tx }) => {
      await tx.query(sql, sql.includes("$1") ? [request.run] : []);
      return { sum: 0 };
    });
    await expect(stage.post.ask(SumOf, { run })).rejects.toMatchObject({ code: "25006" });
    expect(await stage.rows("select * from note where run = $1", [run])).toEqual([]);
  });

  test.each(["set transaction read write", "set local transaction_read_only = off", "commit"])(
    "the answer function cannot leave it: %s",
    async (statement) => {
      const run = stage.run(undefined, async (request, { tx }) => {
        await tx.query(statement).catch(() => undefined);
        await tx.query("insert into note values ($1, 1)", [request.run]);
        return { sum: 0 };
      });
      await expect(stage.post.ask(SumOf, { run })).rejects.toMatchObject({
        code: expect.stringMatching(/25006|25P02/),
      });
      expect(await stage.rows("select * from note where run = $1", [run])).toEqual([]);
    },
  );

  test("an error of the answer function reaches the caller as it is", async () => {
    const mine = new RangeError("mine");
    const run = stage.run(undefined, () => {
      throw mine;
    });
    expect(await stage.post.ask(SumOf, { run }).catch((error: unknown) => error)).toBe(mine);
  });

  test("an answer that does not fit its schema is refused and named", async () => {
    const run = stage.run(undefined, () => ({ sum: "1" }));
    const error = await rejected(stage.post.ask(SumOf, { run }));
    expect([error.code, error.message]).toEqual([
      "PH_PAYLOAD_INVALID",
      expect.stringMatching(/^The answer of SumOf does not fit its schema: sum:/),
    ]);
  });

  test("an answer function that never returns is an error by the deadline, and its connection is free again", async () => {
    let begun = 0;
    const run = stage.run(undefined, async (_request, { tx }) => {
      await tx.query("select 1");
      begun += 1;
      await new Promise(() => undefined);
    });
    // On a machine that is busy the time may be over before any has begun: then they are asked again.
    while (begun === 0) {
      // One more than any pool here has connections.
      const asked = Array.from({ length: kind.single ? 2 : 11 }, () =>
        rejected(stage.post.ask(SumOf, { run }, { deadlineMs: 400 })),
      );
      for (const error of await Promise.all(asked)) {
        expect([error.code, error.name, error.retryable]).toEqual(["PH_DEADLINE", "DeadlineError", true]);
        expect(error.message).toMatch(/^SumOf was not answered within 400 ms/);
      }
    }
    const after = stage.run();
    await stage.post.transaction(async ({ send }) => send(PileUp, { run: after }));
    expect(await stage.stored(after)).toBe(1);
  });

  test.runIf(!kind.single)("at the deadline a statement that still runs on the server is cancelled", async () => {
    const run = stage.run(undefined, async (_request, { tx }) => ({
      sum: (await tx.query("select pg_sleep(3600)")).rows.length,
    }));
    const error = await rejected(stage.post.ask(SumOf, { run }, { deadlineMs: 1_000 }));
    expect(error.code).toBe("PH_DEADLINE");
    const asleep =
      "select from pg_stat_activity where datname = current_database() and query like '%pg_sleep(3600)%' and state = 'active' and pid <> pg_backend_pid()";
    await eventually(async () => (await stage.rows(asleep)).length === 0);
  });

  test("a late answer function finds its transaction ended and its signal fired", async () => {
    let found: unknown;
    let done: () => void = () => undefined;
    const ended = new Promise<void>((resolve) => {
      done = resolve;
    });
    let begun = false;
    const run = stage.run(undefined, async (_request, { tx, signal }) => {
      begun = true;
      await new Promise((resolve) => signal.addEventListener("abort", resolve));
      found = [signal.reason, await tx.query("select 1").catch((error: unknown) => error)];
      done();
    });
    // Most often long enough for the answer function to begin, though a connection may have to be made first; else it is asked again.
    while (!begun) await rejected(stage.post.ask(SumOf, { run }, { deadlineMs: 1_000 }));
    await ended;
    expect(found).toEqual([
      expect.objectContaining({ code: "PH_DEADLINE" }),
      expect.objectContaining({ code: "PH_TRANSACTION_ENDED" }),
    ]);
  });

  test("a request schema that never answers is an error by the deadline as well", async () => {
    const error = await rejected(stage.post.ask(NeverChecked, { run: "x" }, { deadlineMs: 40 }));
    expect([error.code, error.message]).toEqual(["PH_DEADLINE", expect.stringMatching(/within 40 ms/)]);
  });

  test("a caller's signal ends the wait, before and during it, with its reason as the cause", async () => {
    const run = stage.run(undefined, () => new Promise(() => undefined));
    const reason = new Error("left the page");
    const gone = await rejected(stage.post.ask(SumOf, { run }, { signal: AbortSignal.abort(reason) }));
    expect([gone.code, gone.cause]).toEqual(["PH_ABORTED", reason]);
    const controller = new AbortController();
    const asked = rejected(stage.post.ask(SumOf, { run }, { signal: controller.signal }));
    controller.abort(reason);
    const left = await asked;
    expect([left.code, left.cause]).toEqual(["PH_ABORTED", reason]);
    expect(left).toBeInstanceOf(DeadlineError);
  });

  test("nothing is stored for a query", async () => {
    const run = stage.run(undefined, () => ({ sum: 1 }));
    await stage.post.ask(SumOf, { run });
    expect(await stage.stored(run)).toBe(0);
    expect(await stage.rows("select from posthorn.contract where name = 'SumOf'")).toEqual([]);
  });

  test.runIf(kind.single)("inside a transaction, which holds the only connection, it is refused at once", async () => {
    const run = stage.run(undefined, () => ({ sum: 1 }));
    await stage.post.transaction(async () => {
      const error = await rejected(stage.post.ask(SumOf, { run }));
      expect([error.code, error.message]).toEqual(["PH_WOULD_DEADLOCK", expect.stringContaining("ask(SumOf)")]);
    });
  });
});
