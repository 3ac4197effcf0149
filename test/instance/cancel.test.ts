/** Taking a command back: while it waits, while it runs, and when it is too late. */
import { CancelledError, type Context, command, type Post, type QueuePolicy, retry, type Sql, type } from "posthorn";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { rejected } from "../core/thrown.js";
import { homes, twoHomes } from "../producer/homes.js";
import { decisions } from "../producer/stage.js";
import { type Company, companyIn, freshName, gate } from "./company.js";

const soon = { withinMs: 60_000 };
const modes = [
  decisions,
  { ...decisions, idempotency: "transaction" },
  { ...decisions, idempotency: "at-most-once", retry: retry.none },
] as const;
type Mode = QueuePolicy;
type Given = Context<"at-most-once", Sql> & { readonly tx?: Sql };
const someHomes = homes.filter(({ name }) => /URL|in memory|folder/.test(name));

describe.each(someHomes)("cancel() on $name", (kind) => {
  let company: Company;
  beforeAll(async () => {
    company = await companyIn(kind.open);
  });
  afterAll(() => company?.close());

  function contract() {
    const queue = freshName("work");
    return command(freshName("Work").replace("-", ""), {
      queue,
      schema: type<{ n: number }>(),
      result: type<number>(),
    });
  }
  /** On the folder there is one instance. */
  let only: Post<Sql> | undefined;
  async function working(
    DoWork: ReturnType<typeof contract>,
    policy: Mode,
    handler: (n: number, given: Given) => unknown,
  ) {
    if (!kind.shared) await only?.stop({ graceMs: 0 });
    const post = company.make();
    only = post;
    post.queue(DoWork.channel, policy).handle(DoWork, async ({ n }, given) => (await handler(n, given)) as number);
    await post.start();
    return post;
  }

  test.each(modes)(
    "in mode $idempotency the signal of a running handler fires with a typed reason, and if it throws then, the message is cancelled and leaves no effect in its transaction",
    async (policy) => {
      const DoWork = contract();
      const begun = gate();
      let runs = 0;
      const post = await working(DoWork, policy, async (n, { signal, tx }) => {
        runs += 1;
        await tx?.query(`create table effect_${DoWork.name.toLowerCase()} (n int)`);
        begun.open();
        await new Promise((resolve) => signal.addEventListener("abort", resolve));
        if (signal.reason instanceof CancelledError && signal.reason.code === "PH_CANCELLED") signal.throwIfAborted();
        return n;
      });
      const receipt = await post.send(DoWork, { n: 1 });
      await begun.opened;
      if (kind.single && policy.idempotency === "transaction") {
        // The handler holds the only connection: whoever cancels waits for its end, which the visibility timeout would bring.
        await post.stop({ graceMs: 0 });
        return;
      }
      expect(await receipt.cancel()).toBe("signalled");
      const status = await receipt.settled(soon);
      expect(status).toMatchObject({ state: "cancelled", reason: `while it ran, by ${post.service}` });
      expect(status.history).toMatchObject([
        { attempt: 1, outcome: "cancelled", error: { name: "CancelledError", code: "PH_CANCELLED" } },
      ]);
      expect(await receipt.cancel()).toBe("cancelled");
      const error = await rejected(receipt.result(soon));
      expect([error.code, error.facts]).toEqual([
        "PH_NOT_SUCCEEDED",
        expect.objectContaining({ state: "cancelled", id: receipt.id }),
      ]);
      await post.untilIdle();
      expect(runs).toBe(1);
      const gone = post.transaction(({ tx }) =>
        tx.query(`select to_regclass('effect_${DoWork.name.toLowerCase()}')::text as name`),
      );
      expect((await gone).rows).toEqual([{ name: null }]);
      await post.stop();
    },
  );

  test.each(modes)(
    "in mode $idempotency a handler that finishes although it was asked to stop has succeeded",
    async (policy) => {
      if (kind.single && policy.idempotency === "transaction") return;
      const DoWork = contract();
      const [begun, seen] = [gate(), gate()];
      const post = await working(DoWork, policy, async (n, { signal }) => {
        begun.open();
        await new Promise((resolve) => signal.addEventListener("abort", resolve));
        await seen.opened;
        return n + 1;
      });
      const receipt = await post.send(DoWork, { n: 1 });
      await begun.opened;
      expect([await receipt.cancel(), (await receipt.status()).cancelRequestedAt]).toEqual([
        "signalled",
        expect.any(Date),
      ]);
      seen.open();
      expect(await receipt.result(soon)).toBe(2);
      expect(await receipt.cancel()).toBe("too-late");
      await post.stop();
    },
  );

  test("a message that waits is cancelled: in the log before it began, and between two attempts; it does not run", async () => {
    const DoWork = contract();
    const ran: number[] = [];
    const patient = { ...decisions, retry: retry.fixed({ attempts: 2, delayMs: 60_000 }) };
    const failed = gate();
    const post = await working(DoWork, patient, (n) => {
      ran.push(n);
      failed.open();
      throw new Error("not now");
    });
    const retrying = await post.send(DoWork, { n: 1 });
    await failed.opened;
    await post.untilIdle();
    expect(await retrying.status()).toMatchObject({ state: "retrying" });
    expect(await retrying.cancel()).toBe("cancelled");
    expect(await retrying.status()).toMatchObject({
      state: "cancelled",
      attempt: 1,
      reason: `between two attempts, by ${post.service}`,
    });
    // In another queue, on which nobody works.
    const Idle = contract();
    const queued = await post.send(Idle, { n: 2 });
    expect(await queued.cancel()).toBe("cancelled");
    expect(await queued.settled({ withinMs: 0 })).toMatchObject({
      state: "cancelled",
      attempt: 0,
      reason: `before it began, by ${post.service}`,
    });
    expect((await post.backlog()).find(({ name }) => name === Idle.channel)).toMatchObject({ backlog: 0 });
    expect(ran).toEqual([1]);
    await post.stop();
    const later = await working(Idle, decisions, (n) => ran.push(n));
    const next = await later.send(Idle, { n: 3 });
    await next.settled(soon);
    expect(ran).toEqual([1, 3]);
    await later.stop();
  });

  test("a dead message can be cancelled no more", async () => {
    const DoWork = contract();
    const post = await working(DoWork, { ...decisions, retry: retry.fixed({ attempts: 1, delayMs: 1 }) }, () => {
      throw new Error("never");
    });
    const receipt = await post.send(DoWork, { n: 1 });
    expect(await receipt.settled(soon)).toMatchObject({ state: "dead" });
    expect(await receipt.cancel()).toBe("too-late");
    expect(await receipt.status()).toMatchObject({ state: "dead" });
    await post.stop();
  });

  test("a handler that does not look at its signal and runs into its visibility timeout is cancelled then, not tried again", async () => {
    const DoWork = contract();
    const begun = gate();
    // On a machine that is busy a run or two may be over before somebody asks.
    const retries = retry.fixed({ attempts: 50, delayMs: 1 });
    const post = await working(DoWork, { ...decisions, retry: retries, visibilityTimeoutMs: 1_500 }, () => {
      begun.open();
      return new Promise(() => undefined);
    });
    const receipt = await post.send(DoWork, { n: 1 });
    await begun.opened;
    expect(await receipt.cancel()).toBe("signalled");
    const { state, reason, history } = await receipt.settled(soon);
    expect({ state, reason, last: history.at(-1) }).toMatchObject({
      state: "cancelled",
      reason: `while it ran, by ${post.service}`,
      last: { outcome: "cancelled", error: { code: "PH_DEADLINE" } },
    });
    await post.stop();
  });

  test.runIf(kind.shared)("another instance cancels by the id alone what runs elsewhere", async () => {
    const DoWork = contract();
    const begun = gate();
    const post = await working(DoWork, decisions, (_n, { signal }) => {
      begun.open();
      return new Promise((_resolve, reject) => signal.addEventListener("abort", () => reject(signal.reason)));
    });
    const { id } = await post.send(DoWork, { n: 1 });
    await begun.opened;
    const other = company.make().receipt(id);
    expect(await other.cancel()).toBe("signalled");
    expect(await other.settled(soon)).toMatchObject({ state: "cancelled" });
    await post.stop();
  });
});

describe.each(twoHomes)("progress() on $name", (kind) => {
  let company: Company;
  beforeAll(async () => {
    company = await companyIn(kind.open);
  });
  afterAll(() => company?.close());

  test("the last progress that a running handler told stands in its status, and is gone with its end", async () => {
    const Grind = command("Grind", { queue: "mill", schema: type<{ n: number }>() });
    const post = company.make();
    const [told, go] = [gate(), gate()];
    post.queue("mill", decisions).handle(Grind, async (_payload, { progress }) => {
      progress(0.25);
      progress({ done: 1, of: 2, at: "}" });
      told.open();
      await go.opened;
    });
    await post.start();
    const receipt = await post.send(Grind, { n: 1 });
    await told.opened;
    await expect.poll(async () => (await receipt.status()).progress).toEqual({ done: 1, of: 2, at: "}" });
    expect(await post.statusOf(receipt.id)).toMatchObject([
      { state: "running", progress: { done: 1, of: 2, at: "}" } },
    ]);
    go.open();
    expect(await receipt.settled(soon)).not.toHaveProperty("progress");
    await post.stop();
    const rows = await company
      .make()
      .transaction(({ tx }) => tx.query("select count(*)::int as n from posthorn.progress"));
    expect(rows.rows).toEqual([{ n: 0 }]);
  });

  test.runIf(!kind.single)(
    "a handler that tells its progress all the time is written about once a second",
    async () => {
      const Grind = command("GrindFinely", { queue: "fine-mill", schema: type<object>() });
      const rows = company.home.rows ?? (async () => []);
      await rows("create table written (n serial)");
      await rows(
        "create function note() returns trigger language plpgsql as 'begin insert into public.written default values; return new; end'",
      );
      await rows(
        "create trigger note after insert or update on posthorn.progress for each row execute function note()",
      );
      const written = async () => Number((await rows("select count(*)::int as n from written"))[0]?.n);
      const post = company.make();
      let told = 0;
      let enough = false;
      post.queue("fine-mill", decisions).handle(Grind, async (_payload, { progress }) => {
        for (; !enough; told += 1) {
          progress(told / (told + 1));
          await new Promise((resolve) => setImmediate(resolve));
        }
      });
      await post.start();
      const from = performance.now();
      const receipt = await post.send(Grind, {});
      await expect.poll(written).toBeGreaterThan(1);
      enough = true;
      await receipt.settled(soon);
      // Not the gaps: a statement may take its time, so that two arrive closer to each other than they were sent.
      expect(await written()).toBeLessThanOrEqual(1 + (performance.now() - from) / 1_000);
      expect(told).toBeGreaterThan(await written());
      await post.stop();
      await rows("drop trigger note on posthorn.progress");
    },
  );

  test("what is no progress is told to the logger and never fails the handler", async () => {
    const Grind = command("GrindWrongly", { queue: "wrong-mill", schema: type<object>() });
    const post = company.make();
    const cyclic: Record<string, unknown> = {};
    cyclic.self = cyclic;
    const wrong = [-0.1, 1.1, Number.NaN, 5n, undefined, cyclic, "x".repeat(3_000), () => 1] as number[];
    post.queue("wrong-mill", decisions).handle(Grind, (_payload, { progress }) => {
      for (const value of wrong) progress(value);
    });
    await post.start();
    expect(await (await post.send(Grind, {})).settled(soon)).toMatchObject({ state: "succeeded" });
    expect(company.warnings.filter((warning) => /told a progress that cannot be kept/.test(warning))).toHaveLength(
      wrong.length,
    );
    await post.stop();
  });

  test("a handler in transaction mode tells its progress outside of its transaction; on one connection it is not shown", async () => {
    const Grind = command("GrindRows", { queue: "rows-mill", schema: type<object>() });
    const post = company.make();
    const [told, go] = [gate(), gate()];
    post
      .queue("rows-mill", { ...decisions, idempotency: "transaction" })
      .handle(Grind, async (_payload, { progress, tx }) => {
        await tx.query("select 1");
        progress(0.5);
        told.open();
        await go.opened;
      });
    await post.start();
    const receipt = await post.send(Grind, {});
    await told.opened;
    if (!kind.single) await expect.poll(async () => (await receipt.status()).progress).toBe(0.5);
    go.open();
    expect(await receipt.settled(soon)).toMatchObject({ state: "succeeded" });
    await post.stop();
  });
});
