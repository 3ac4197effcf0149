/** What a handler decides by what it throws: to run later, to give up, to open the circuit; and a retry function of one's own. */
import {
  type BacklogLine,
  type Context,
  command,
  type Idempotency,
  limits,
  OpenCircuit,
  type Policy,
  type Post,
  posthorn,
  type Receipt,
  Reject,
  RetryLater,
  retry,
  type Sql,
  type Status,
  type,
} from "posthorn";
import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";
import { type Home, twoHomes } from "../producer/homes.js";
import { serviceName } from "../producer/stage.js";
import { eventually } from "../support/eventually.js";

const hour = 3_600_000;
const patience = { withinMs: 60_000 };
const decisions = {
  retry: retry.fixed({ attempts: 5, delayMs: 1 }),
  ordering: "none",
  visibilityTimeoutMs: 60_000,
  deadLetter: { keepMs: hour },
  alerts: { oldestAgeMs: hour, backlog: 1_000, deadLetters: 1_000, noWorkerMs: hour },
} as const;

interface Given {
  readonly run: number;
  readonly attempt: number;
  readonly tx: Sql | undefined;
  readonly send: (n: number) => void;
}
type Handler = (given: Given) => unknown;

let names = 0;

describe.each(twoHomes)("on $name", (kind) => {
  let home: Home;
  const open: Post<unknown>[] = [];
  beforeAll(async () => {
    home = await kind.open();
    const post = posthorn({ service: serviceName(), database: home.input, migrate: "auto" });
    await post.migrate();
    await post.stop();
    await rows("create table effect (name text not null, run int not null)");
  });
  afterAll(async () => {
    await Promise.all(open.map((post) => post.stop({ graceMs: 0 })));
    await home?.close();
  });
  const rows = async (sql: string, values: readonly unknown[] = []) => (await home.rows?.(sql, values)) ?? [];

  /** A queue of its own with one handler; what is logged is kept. */
  async function working<I extends Idempotency>(idempotency: I, handler: Handler, change: Partial<Policy<I>> = {}) {
    names += 1;
    const [queue, echoes] = [`queue-${names}`, `echoes-${names}`];
    const Work = command(`Work${names}`, { queue, schema: type<{ n: number }>() });
    const Echo = command(`Echo${names}`, { queue: echoes, schema: type<{ n: number }>() });
    const log: string[] = [];
    const keep = (level: string) => (message: string) => void log.push(`${level} ${message}`);
    const logger = { info: keep("info"), warn: keep("warn"), error: keep("error") };
    const post = posthorn({ service: serviceName(), database: home.input, logger });
    open.push(post);
    let runs = 0;
    const echoed: number[] = [];
    const policy = { ...decisions, ...(idempotency === "at-most-once" ? { retry: retry.none } : {}), ...change };
    const declared = post.queue(queue, { ...policy, idempotency } as Policy<"handler">);
    declared.handle(Work, async (_payload, context: Context<"handler", unknown> & { readonly tx?: Sql }) => {
      runs += 1;
      await handler({
        run: runs,
        attempt: context.attempt,
        tx: context.tx,
        send: (n) => void context.send(Echo, { n }),
      });
    });
    post.queue(echoes, { ...decisions, idempotency: "handler" }).handle(Echo, ({ n }) => void echoed.push(n));
    await post.start();
    const due = () => rows("update posthorn.deferred set due_at = clock_timestamp() where reason = 'postponed'");
    const line = async (): Promise<BacklogLine | undefined> =>
      (await post.backlog()).find(({ name }) => name === queue);
    // Of the fleet's alerts any worker tells that looks just then, also those of other queues.
    const told = () => log.filter((one) => !/^\w+ (alert|resolved): /.test(one));
    const send = (n = 1) => post.send(Work, { n });
    return { post, Work, queue, told, echoed, due, line, runs: () => runs, send };
  }

  async function until(receipt: Receipt, fits: (status: Status) => boolean): Promise<Status> {
    return eventually(async () => {
      const status = await receipt.status();
      return fits(status) ? status : undefined;
    }, patience);
  }

  describe.each(["handler", "transaction"] as const)("in %s mode", (idempotency) => {
    test("a message that is put off runs again after its time, burns no attempt however often, and leaves no effect but its last run's", async () => {
      const seen: number[] = [];
      const app = await working(idempotency, async ({ run, attempt, tx, send }) => {
        seen.push(attempt);
        await tx?.query("insert into effect (name, run) values ($1, $2)", [idempotency, run]);
        send(run);
        if (run <= 7) throw new RetryLater(1, "the printer is warming up");
      });
      const receipt = await app.send();
      expect(await receipt.settled(patience)).toMatchObject({ state: "succeeded" });
      await app.post.untilIdle();
      expect({ seen, echoed: app.echoed }).toEqual({ seen: Array(8).fill(1), echoed: [8] });
      if (idempotency === "transaction") {
        expect(await rows("select run from effect where name = 'transaction'")).toEqual([{ run: 8 }]);
      }
      expect(app.told()[0]).toBe(
        `info ${app.Work.name} in "${app.queue}" is put off by its handler for 1 ms: the printer is warming up`,
      );
    });

    test("a message that is put off again and again has one entry for it, which counts the times and keeps the failures before it", async () => {
      const app = await working(idempotency, ({ run }) => {
        if (run === 1) throw new Error("it fails first");
        throw new RetryLater(hour, `not now ${run}`, { cause: new Error("quota spent") });
      });
      const receipt = await app.send();
      for (let run = 2; run <= 4; run += 1) {
        await until(receipt, ({ history }) => history.at(-1)?.note?.startsWith(`not now ${run}`) === true);
        await app.due();
      }
      const { history, ...status } = await until(receipt, ({ history }) => history.at(-1)?.times === 4);
      expect(status).toMatchObject({ state: "retrying", attempt: 1, reason: "postponed" });
      expect(history).toMatchObject([
        { attempt: 1, outcome: "failed", error: { message: "it fails first" } },
        { attempt: 2, outcome: "postponed", note: "not now 5 (quota spent)", times: 4 },
      ]);
      expect(Date.parse(history[1]?.firstAt ?? "")).toBeLessThanOrEqual(Date.parse(history[1]?.endedAt ?? ""));
      expect(history[1]).not.toHaveProperty("error");
      expect(Number(status.dueAt)).toBeGreaterThan(Date.now() + hour - 60_000);
    });

    test("a rejected message is a dead letter after that run with the reason that was given, whatever attempts are left", async () => {
      const app = await working(idempotency, async ({ tx, send }) => {
        await tx?.query("insert into effect (name, run) values ('rejected', 1)");
        send(1);
        throw new Reject("no such address", { cause: new Error("550") });
      });
      const status = await (await app.send()).settled(patience);
      expect(status).toMatchObject({ state: "dead", attempt: 1, reason: "rejected: no such address" });
      expect(status.history).toMatchObject([
        { outcome: "rejected", error: { name: "Reject", message: "no such address" } },
      ]);
      await app.post.untilIdle();
      expect({ echoed: app.echoed, runs: app.runs() }).toEqual({ echoed: [], runs: 1 });
      expect(await rows("select from effect where name = 'rejected'")).toEqual([]);
      expect(app.told()).toEqual([
        expect.stringMatching(/^error Work\d+ in "queue-\d+" was rejected and is a dead letter now: no such address$/),
      ]);
    });

    test("a circuit opens for the fleet after so many failed runs, nothing is taken while it is open, and one success lets everything through", async () => {
      let down = true;
      const circuitBreaker = { failures: 3, windowMs: hour, openMs: hour };
      const handler = async ({ tx, run }: Given) => {
        await tx?.query("insert into effect (name, run) values ('circuit', $1)", [run]);
        if (down) throw new Error("the mail server is away");
      };
      const change = { circuitBreaker, concurrency: 1, retry: retry.fixed({ attempts: 5, delayMs: hour }) };
      const app = await working(idempotency, handler, change);
      const receipts: Receipt[] = [];
      for (let n = 0; n < 9; n += 1) receipts.push(await app.send(n));
      await eventually(async () => (await app.line())?.circuit?.state === "open", patience);
      // It is idle, as with retries that are not due: what waits is not to be taken now.
      await app.post.untilIdle();
      expect(app.runs()).toBeLessThanOrEqual(4);
      const failed = app.runs();
      await app.post.send(app.Work, { n: 9 });
      await app.post.untilIdle();
      expect(app.runs()).toBe(failed);
      expect((await app.line())?.circuit).toMatchObject({ state: "open", failures: 3, probes: 0 });
      expect(await app.post.statusOf(receipts.at(-1)?.id ?? "")).toMatchObject([{ state: "queued", delivery: 1 }]);

      down = false;
      await rows("update posthorn.circuit set probe_at = clock_timestamp() where state = 'open'");
      await eventually(async () => (await app.line())?.circuit?.state === "closed", patience);
      await eventually(() => app.runs() === 10, patience);
      await rows("update posthorn.deferred set due_at = clock_timestamp()");
      for (const receipt of receipts) expect(await receipt.settled(patience)).toMatchObject({ state: "succeeded" });
      expect(app.told().filter((one) => /circuit/.test(one))).toEqual([
        `error the circuit of "${app.queue}" is open for ${hour} ms: 3 runs failed within ${hour} ms in the fleet`,
        expect.stringMatching(
          `^info the circuit of "${app.queue}" is closed again after [\\d.]+ m?s; \\d+ messages? waits?$`,
        ),
      ]);
    });

    test("a handler opens the circuit at once, without a failure, and its message burns no attempt", async () => {
      let full = true;
      const circuitBreaker = { failures: 100, windowMs: hour, openMs: hour };
      const app = await working(
        idempotency,
        () => {
          if (full) throw new OpenCircuit(2 * hour, "quota spent");
        },
        { circuitBreaker, retry: retry.none, concurrency: 1 },
      );
      const receipt = await app.send();
      await eventually(async () => (await app.line())?.circuit?.state === "open", patience);
      // The circuit is told in a statement of its own, before the end of the run.
      await eventually(async () => (await receipt.status()).state === "retrying", patience);
      const circuit = (await app.line())?.circuit;
      expect(circuit).toMatchObject({ state: "open", reason: "quota spent" });
      expect(Date.parse(circuit?.probeAt ?? "")).toBeGreaterThan(Date.now() + hour);
      expect(await receipt.status()).toMatchObject({ state: "retrying", attempt: 0, reason: "postponed" });
      full = false;
      await app.due();
      await rows("update posthorn.circuit set probe_at = clock_timestamp() where state = 'open'");
      expect(await receipt.settled(patience)).toMatchObject({ state: "succeeded" });
      await eventually(async () => (await app.line())?.circuit?.state === "closed", patience);
    });

    test("where no breaker is declared, a handler that opens the circuit has failed, and its error says why", async () => {
      const app = await working(idempotency, () => {
        throw new OpenCircuit();
      });
      const status = await (await app.send()).settled(patience);
      expect(status).toMatchObject({ state: "dead", attempt: 5 });
      expect(status.history.at(-1)?.error).toMatchObject({
        code: "PH_OPTION_MISSING",
        message: expect.stringMatching(/declares no circuitBreaker: it counts as a failure/),
      });
    });
  });

  test("at most once a message cannot be put off: it is a dead letter that says so, and ran once", async () => {
    for (const thrown of [new RetryLater(1), new OpenCircuit(1)]) {
      const circuitBreaker = { failures: 3, windowMs: hour, openMs: hour };
      const app = await working("at-most-once", () => Promise.reject(thrown), { circuitBreaker });
      const status = await (await app.send()).settled(patience);
      expect(status).toMatchObject({
        state: "dead",
        attempt: 1,
        reason: "asked for another run, which at-most-once rules out",
        history: [{ outcome: "failed", error: { name: thrown.name } }],
      });
      expect(app.runs()).toBe(1);
    }
  });

  test("at most once a message can be rejected", async () => {
    const app = await working("at-most-once", () => Promise.reject(new Reject("unknown customer")));
    expect(await (await app.send()).settled(patience)).toMatchObject({
      state: "dead",
      attempt: 1,
      reason: "rejected: unknown customer",
    });
  });

  test("what another copy of the package throws is understood", async () => {
    vi.resetModules();
    const other: typeof import("../../src/policies/verdicts.js") = await import("../../src/policies/verdicts.js");
    expect(other.Reject).not.toBe(Reject);
    const app = await working("handler", ({ run }) => {
      throw run === 1 ? new other.RetryLater(1) : new other.Reject("no");
    });
    expect(await (await app.send()).settled(patience)).toMatchObject({
      state: "dead",
      attempt: 1,
      reason: "rejected: no",
    });
  });

  test("an error that only has a verdict as its cause, and one that forges a verdict, are failures", async () => {
    const forged = (verdict: unknown) => Object.assign(new Error("forged"), { "~posthorn": { version: 1, verdict } });
    const thrown = [
      new Error("wrapped", { cause: new Reject("no") }),
      forged({ kind: "later", delayMs: Number.NaN }),
      forged({ kind: "later", delayMs: -1 }),
      forged({ kind: "reject", reason: 5 }),
      forged(null),
    ];
    const app = await working("handler", ({ run }) => Promise.reject(thrown[run - 1]));
    expect(await (await app.send()).settled(patience)).toMatchObject({ state: "dead", reason: "failed 5 times" });
  });

  test("a time that nobody can mean is refused where it is thrown, so that the run fails by the policy", async () => {
    const app = await working("handler", ({ run }) => {
      throw new RetryLater([Number.NaN, -1, Number.POSITIVE_INFINITY, limits.durationMs + 1, 0][run - 1] ?? 0);
    });
    const status = await (await app.send()).settled(patience);
    expect(status).toMatchObject({ state: "dead", attempt: 5 });
    expect(new Set(status.history.map(({ error }) => error?.code))).toEqual(new Set(["PH_OPTION_INVALID"]));
  });

  test("a handler that only ever puts its message off is told of by the alert about the oldest message", async () => {
    const alerts = { ...decisions.alerts, oldestAgeMs: 1 };
    const app = await working("handler", () => Promise.reject(new RetryLater(hour)), { alerts });
    await until(await app.send(), ({ reason }) => reason === "postponed");
    const raised = async () => {
      await rows("update posthorn.maintenance set ran_at = '-infinity'");
      await rows("select posthorn.watch(0)");
      return rows("select alert from posthorn.alerts where subscription = $1 and resolved_at is null", [app.queue]);
    };
    await eventually(async () => (await raised()).some(({ alert }) => alert === "oldestAgeMs"), patience);
  });

  test("a retry function that throws or returns nonsense does not lose its message: it waits a minute, and history and log say why", async () => {
    const nonsense: (() => unknown)[] = [
      () => {
        throw new Error("in the function");
      },
      () => Number.NaN,
      () => "soon",
      () => Promise.reject(new Error("nobody waits for this")),
    ];
    for (const delayMs of nonsense) {
      const app = await working("handler", () => Promise.reject(new Error("it fails")), {
        retry: retry.custom({ attempts: 2, delayMs: delayMs as () => number }),
      });
      const receipt = await app.send();
      const { history, dueAt } = await until(receipt, ({ state }) => state === "retrying");
      const left = Number(dueAt) - Date.parse(history[0]?.endedAt ?? "");
      expect(Math.abs(left - limits.retryFallbackMs)).toBeLessThan(30_000);
      expect(history[0]).toMatchObject({
        error: { message: "it fails" },
        note: expect.stringMatching(/^retry\.custom: delayMs (threw|returned) .*, so the wait is 60000 ms$/),
      });
      expect(app.told().some((one) => one.includes("retry.custom: delayMs"))).toBe(true);
      await rows("update posthorn.deferred set due_at = clock_timestamp()");
      expect(await receipt.settled(patience)).toMatchObject({ state: "dead", attempt: 2 });
    }
  });

  test("a retry function gets the number of failures and the error itself, and retries without a wait come at once", async () => {
    const asked: unknown[] = [];
    const custom = retry.custom({
      attempts: 3,
      delayMs: (attempt, error) => {
        asked.push([attempt, error]);
        return 0;
      },
    });
    const errors = [new TypeError("first"), "second", new Error("third")];
    const app = await working("handler", ({ run }) => Promise.reject(errors[run - 1]), { retry: custom });
    expect(await (await app.send()).settled(patience)).toMatchObject({ state: "dead", attempt: 3 });
    expect(asked).toEqual([
      [1, errors[0]],
      [2, errors[1]],
    ]);
    const atOnce = await working("handler", () => Promise.reject(new Error("no")), {
      retry: retry.exponential({ attempts: 5, firstMs: hour, maxMs: hour, immediate: 3 }),
    });
    const receipt = await atOnce.send();
    await until(receipt, ({ attempt }) => attempt === 4);
    expect(Number((await receipt.status()).dueAt)).toBeGreaterThan(Date.now() + hour / 3);
    const listed = await working("handler", () => Promise.reject(new Error("no")), { retry: retry.delays([0, 1, 0]) });
    expect(await (await listed.send()).settled(patience)).toMatchObject({ state: "dead", attempt: 4 });
  });
});
