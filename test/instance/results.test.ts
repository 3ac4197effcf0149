/** Results: what handlers return, kept with the end of the message, and read through receipts, also in another process. */
import {
  command,
  event,
  limits,
  NoResultError,
  type Post,
  policies,
  type QueuePolicy,
  type Receipt,
  type ReceiptWithResult,
  retry,
  type Sql,
  type,
} from "posthorn";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { z } from "zod";
import { pruneEveryMs, prunePass } from "../../src/maintenance/prune.js";
import { rejected, thrown } from "../core/thrown.js";
import { twoHomes } from "../producer/homes.js";
import { decisions } from "../producer/stage.js";
import { eventually } from "../support/eventually.js";
import { type Company, companyIn, freshName } from "./company.js";

const soon = { withinMs: 60_000 };
const modes = [
  { ...decisions },
  { ...decisions, idempotency: "transaction" },
  { ...decisions, idempotency: "at-most-once", retry: retry.none },
] as const satisfies readonly QueuePolicy[];

describe.each(twoHomes)("results on $name", (kind) => {
  let company: Company;
  beforeAll(async () => {
    company = await companyIn(kind.open);
  });
  afterAll(() => company?.close());

  /** A command whose result has a transform, on a queue of its own. */
  const contract = () =>
    command(freshName("Count").replace("-", ""), {
      queue: freshName("counts"),
      schema: z.object({ n: z.number() }),
      result: z.object({ sum: z.number(), at: z.iso.datetime().transform((text) => new Date(text)) }),
    });
  type Count = ReturnType<typeof contract>;
  const at = "2026-01-02T03:04:05.000Z";

  async function working(Count: Count, policy: QueuePolicy, handler: (n: number) => unknown): Promise<Post<Sql>> {
    const post = company.make();
    // What JavaScript may do.
    post.queue(Count.channel, policy).handle(Count, async ({ n }) => (await handler(n)) as { sum: number; at: string });
    await post.start();
    return post;
  }

  test.each(modes)(
    "what a handler in mode $idempotency returns reaches whoever waits, as the output of the result's schema",
    async (policy) => {
      const Count = contract();
      const post = await working(Count, policy, (n) => ({ sum: n + 1, at }));
      const receipts = await post.sendMany(Count, [{ n: 1 }, { n: 2 }]);
      expect(await Promise.all(receipts.map((receipt) => receipt.result(soon)))).toEqual([
        { sum: 2, at: new Date(at) },
        { sum: 3, at: new Date(at) },
      ]);
      expect(await receipts[0]?.status()).toMatchObject({ state: "succeeded", result: { sum: 2, at: new Date(at) } });
      await post.stop();
    },
  );

  test.each(modes.slice(0, 2))(
    "a result of mode $idempotency is that of the run that succeeded, and what the handler said goes out with it",
    async (policy) => {
      const Count = contract();
      const Next = command(freshName("Follow").replace("-", ""), {
        queue: freshName("next"),
        schema: type<{ of: number }>(),
      });
      const post = company.make();
      post.queue(Count.channel, policy).handle(Count, ({ n }, { attempt, send }) => {
        send(Next, { of: n });
        if (attempt < 3) throw new Error("not yet");
        return { sum: attempt, at };
      });
      const followed: number[] = [];
      post.queue(Next.channel, decisions).handle(Next, ({ of }) => void followed.push(of));
      await post.start();
      expect(await (await post.send(Count, { n: 7 })).result(soon)).toEqual({ sum: 3, at: new Date(at) });
      await post.untilIdle();
      expect(followed).toEqual([7]);
      await post.stop();
    },
  );

  test("a result that does not fit its schema, or is no JSON, or is too large, fails the run, by the policy", async () => {
    const Count = contract();
    const wrong = [{ sum: "1", at }, undefined, { sum: 1n, at }, { sum: 1, at, more: "x".repeat(limits.payloadBytes) }];
    const post = await working(Count, { ...decisions, retry: retry.none }, (n) => wrong[n]);
    const codes = ["PH_PAYLOAD_INVALID", "PH_PAYLOAD_NOT_JSON", "PH_PAYLOAD_NOT_JSON", "PH_PAYLOAD_TOO_LARGE"];
    const receipts = await post.sendMany(
      Count,
      wrong.map((_, n) => ({ n })),
    );
    for (const [n, receipt] of receipts.entries()) {
      const error = await rejected(receipt.result(soon));
      expect([error.name, error.code]).toEqual(["NoResultError", "PH_NOT_SUCCEEDED"]);
      expect(error.facts).toMatchObject({ id: receipt.id, state: "dead", reason: "failed and is not retried" });
      expect(error.facts.history).toMatchObject([{ attempt: 1, outcome: "failed", error: { code: codes[n] } }]);
      expect(error.message).toMatch(/is dead: failed and is not retried: The result of Count/);
    }
    await post.stop();
  });

  test("result() tells how far a message is when the time has passed", async () => {
    const Count = contract();
    const receipt = await company.make().send(Count, { n: 1 });
    const error = await rejected(receipt.result({ withinMs: 1 }));
    expect([error.name, error.code, error.retryable]).toEqual(["DeadlineError", "PH_RESULT_TIMEOUT", true]);
    expect(error.facts).toMatchObject({ id: receipt.id, withinMs: 1, status: { state: "queued", attempt: 0 } });
  });

  test("a message that did not fit its schema has no result, and the error tells why", async () => {
    const queue = freshName("counts");
    const name = freshName("Count").replace("-", "");
    const Said = command(name, { queue, schema: type<unknown>(), result: type<number>() });
    const Heard = command(name, { queue, schema: z.object({ n: z.number() }), result: type<number>() });
    const post = company.make();
    post.queue(queue, decisions).handle(Heard, ({ n }) => n);
    await post.start();
    const error = await rejected((await post.send(Said, { n: "1" })).result(soon));
    expect([error.code, error.facts.state, String(error.facts.reason)]).toEqual([
      "PH_NOT_SUCCEEDED",
      "invalid",
      expect.stringContaining('"path":"n"'),
    ]);
    await post.stop();
  });

  test("null and a number with many digits come back as they were returned", async () => {
    const AnyResult = command(freshName("Try").replace("-", ""), {
      queue: freshName("tries"),
      schema: type<{ n: number }>(),
      result: type<unknown>(),
    });
    const post = company.make();
    const returned = [null, 1.5e300, 'ü " \\ }', [], { "}": "{" }];
    post.queue(AnyResult.channel, decisions).handle(AnyResult, ({ n }) => returned[n]);
    await post.start();
    const receipts = await post.sendMany(
      AnyResult,
      returned.map((_, n) => ({ n })),
    );
    expect(await Promise.all(receipts.map((receipt) => receipt.result(soon)))).toEqual(returned);
    await post.stop();
  });

  test("a result is kept for the time of the policy, and its receipt then says that it is gone; the pass removes it", async () => {
    const Count = contract();
    const policy = { ...decisions, results: { keepMs: 1 } };
    const post = await working(Count, policy, (n) => ({ sum: n, at }));
    const receipt = await post.send(Count, { n: 1 });
    await receipt.settled(soon);
    const error = await eventually(() =>
      receipt.result(soon).then(
        () => undefined,
        (gone: NoResultError) => gone,
      ),
    );
    expect([error?.name, error?.code]).toEqual(["NoResultError", "PH_RESULT_GONE"]);
    expect(await receipt.status()).not.toHaveProperty("result");
    await post.stop();
  });

  test("a receipt is rebuilt from its id by another instance, with its contract and without", async () => {
    const Count = contract();
    const post = await working(Count, decisions, (n) => ({ sum: n, at }));
    const { id } = await post.send(Count, { n: 5 });
    const other = company.make();
    const typed: ReceiptWithResult<{ sum: number; at: Date }> = other.receipt(Count, id);
    const bare: Receipt = other.receipt(id);
    expect(typed.id).toBe(id);
    expect(await typed.result(soon)).toEqual({ sum: 5, at: new Date(at) });
    expect(await bare.settled(soon)).toMatchObject({ state: "succeeded", result: { sum: 5, at } });
    const error = await rejected((bare as typeof typed).result(soon));
    expect([error.name, error.code]).toEqual(["NoResultError", "PH_NO_RESULT"]);
    expect(error.message).toMatch(/Pass the contract as well/);
    expect(error).toBeInstanceOf(NoResultError);
    await post.stop();
  });

  test("result() of a contract without one is refused, whatever became of the message", async () => {
    const Plain = command(freshName("Do").replace("-", ""), { queue: freshName("plain"), schema: type<object>() });
    const receipt = (await company.make().send(Plain, {})) as ReceiptWithResult<never>;
    const error = await rejected(receipt.result(soon));
    expect([error.code, error.facts]).toEqual(["PH_NO_RESULT", { contract: Plain.name }]);
  });

  test("a receipt of an id that is malformed, unknown, guessed, of an event or of another command is refused by a typed error", async () => {
    const Count = contract();
    const Thing = event(`${freshName("Thing").replace("-", "")}Happened`, {
      topic: freshName("things"),
      schema: type<object>(),
    });
    const post = company.make();
    for (const wrong of ["", "1", "x", "1-0", undefined, null, 7, {}, Thing]) {
      const error = thrown(() => post.receipt(wrong as string));
      expect([error.name, error.code]).toEqual(
        wrong === Thing ? ["WrongKindError", "PH_WRONG_KIND"] : ["UnknownMessageError", "PH_UNKNOWN_MESSAGE"],
      );
    }
    expect(thrown(() => post.receipt(Count, "x")).code).toBe("PH_UNKNOWN_MESSAGE");
    expect(thrown(() => post.receipt({ ...Count }, "1-0000000000000000")).code).toBe("PH_WRONG_KIND");
    const { id } = await post.send(Count, { n: 1 });
    const guess = `${id.split("-")[0]}-${"0".repeat(16)}`;
    for (const unknown of ["999999999-0000000000000000", guess]) {
      const receipt = post.receipt(Count, unknown);
      const calls = [
        () => receipt.status(),
        () => receipt.settled(soon),
        () => receipt.result(soon),
        () => receipt.cancel(),
      ];
      for (const call of calls) expect((await rejected(call())).code).toBe("PH_UNKNOWN_MESSAGE");
    }
    const mistaken = await rejected(post.receipt(contract(), id).status());
    expect([mistaken.code, mistaken.message]).toEqual([
      "PH_UNKNOWN_MESSAGE",
      expect.stringContaining(`is a ${Count.name}, not a Count`),
    ]);
  });

  test("a hundred that wait are served by few statements, and each is told in time", async () => {
    const Count = contract();
    const post = await working(Count, { ...decisions, concurrency: 100 }, (n) => ({ sum: n, at }));
    const receipts = await post.sendMany(
      Count,
      Array.from({ length: 100 }, (_, n) => ({ n })),
    );
    const sums = await Promise.all(receipts.map(async (receipt) => (await receipt.result(soon)).sum));
    expect(sums).toEqual(receipts.map((_, n) => n));
    await post.stop();
  });

  test.runIf(kind.single)(
    "what would wait for the transaction that it is called from is refused, where there is one connection",
    async () => {
      const Count = contract();
      const post = company.make();
      const receipt = await post.send(Count, { n: 1 });
      const codes = await post.transaction(async () => {
        const calls = [
          () => receipt.status(),
          () => receipt.settled(soon),
          () => receipt.result(soon),
          () => receipt.cancel(),
        ];
        return Promise.all(calls.map(async (call) => (await rejected(call())).code));
      });
      expect(codes).toEqual(Array(4).fill("PH_WOULD_DEADLOCK"));
      expect(await receipt.cancel()).toBe("cancelled");
    },
  );

  test("whoever waits is told when the instance stops", async () => {
    const Count = contract();
    const post = company.make();
    const receipt = await post.send(Count, { n: 1 });
    const waiting = rejected(receipt.settled({ withinMs: 60_000 }));
    await post.stop();
    expect((await waiting).code).toBe("PH_STOPPED");
  });

  test("results is an option of queues, not of subscriptions, and in the range of durations", () => {
    const post = company.make();
    const queue = (results: object) => thrown(() => post.queue(freshName("wrong"), { ...decisions, results })).code;
    expect([queue({ keepMs: 0 }), queue({ keepMs: "1" }), queue({ keep: 1 })]).toEqual([
      "PH_OPTION_INVALID",
      "PH_OPTION_INVALID",
      "PH_OPTION_UNKNOWN",
    ]);
    const topic = { topic: "x", ...decisions, results: { keepMs: 1 } };
    expect(thrown(() => post.subscription(freshName("wrong"), topic)).code).toBe("PH_OPTION_UNKNOWN");
    const right = post.queue(freshName("right"), { ...policies.email, results: {} });
    expect(right.policy.results).toEqual({ keepMs: 86_400_000 });
  });

  test.runIf(kind.name === "a server by URL")("results past their time are removed in pieces", async () => {
    const rows = company.home.rows ?? (async () => []);
    const Count = contract();
    const post = company.make();
    post.queue(Count.channel, decisions);
    await post.send(Count, { n: 1 });
    const plant = `insert into posthorn.result (subscription, message, nonce, ended_at, keep_until, result)
      select s.id, 1000000 + n, 1, now(), now() + n * interval '1 s', '1' from posthorn.subscription s, generate_series(-2499, 1) n where s.name = $1`;
    await rows(plant, [Count.channel]);
    await rows("update posthorn.maintenance set ran_at = '-infinity' where name = 'prune'");
    const executor = {
      query: async <Row>(sql: string, params?: readonly unknown[]) => ({ rows: (await rows(sql, params)) as Row[] }),
    };
    expect(await prunePass(executor, 0)).toBe(pruneEveryMs.idle);
    expect(await rows("select count(*)::int as n from posthorn.result where message > 900000 and nonce = 1")).toEqual([
      { n: 1 },
    ]);
  });

  test("nothing but failed runs was worth a warning", () => {
    const expected = /failed and is not retried|failed and is tried again|does not fit its schema/;
    expect(company.warnings.filter((warning) => !expected.test(warning))).toEqual([]);
  });
});
