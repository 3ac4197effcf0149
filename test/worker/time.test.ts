/** When a command begins: delay, time, expiry, priority; on a server and on PGlite. */
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { Receipt } from "../../src/index.js";
import { eventually } from "../support/eventually.js";
import { Act, Effect, Once, openTimed, Patient, Step, type Timed } from "./timed.js";

const soon = { withinMs: 60_000 };

describe.each(["server", "pglite"] as const)("on %s", (kind) => {
  let timed: Timed;
  beforeAll(async () => {
    timed = await openTimed(kind);
  });
  afterAll(() => timed.close());

  /** For what waits of a run. */
  const hourPasses = (run: string) =>
    timed.rows(
      `update posthorn.deferred set due_at = due_at - interval '1 hour', expires_at = expires_at - interval '1 hour'
         where payload ->> 'run' = $1`,
      [run],
    );

  test.each([Act, Effect, Once])(
    "a delayed $name is scheduled until its time, begins no earlier, and once",
    async (contract) => {
      const run = timed.run();
      const from = Date.now();
      const receipt = await timed.post.send(contract, { run }, { delayMs: 1_000 });
      const later = await timed.post.send(contract, { run }, { delayMs: 3_600_000 });
      expect(await receipt.settled(soon)).toMatchObject({ state: "succeeded" });
      expect(timed.begun(run)).toHaveLength(1);
      // The clocks of both are one clock here; a Date counts whole milliseconds.
      expect(timed.begun(run)[0]?.at).toBeGreaterThanOrEqual(from + 1_000 - 2);
      const status = await later.status();
      expect(status).toMatchObject({ state: "scheduled", attempt: 0 });
      expect(status.dueAt?.getTime()).toBeGreaterThanOrEqual(from + 3_600_000 - 2);
    },
  );

  test("a command begins at its time, and at once when that has passed", async () => {
    const run = timed.run();
    const far = new Date(Date.now() + 3_600_000);
    const never = await timed.post.send(Act, { run, n: 0 }, { runAt: far });
    expect(await never.status()).toMatchObject({ state: "scheduled", dueAt: far });
    const past = await timed.post.send(Act, { run, n: 1 }, { runAt: new Date(0) });
    expect(await past.settled(soon)).toMatchObject({ state: "succeeded" });
    const at = new Date(Date.now() + 1_000);
    await (await timed.post.send(Act, { run, n: 2 }, { runAt: at })).settled(soon);
    expect(timed.begun(run).map(({ n }) => n)).toEqual([1, 2]);
    expect(timed.begun(run)[1]?.at).toBeGreaterThanOrEqual(at.getTime() - 2);
  });

  test("a delay holds in every way to say something, and goes with a rollback", async () => {
    const run = timed.run();
    const handing = timed.run(() => undefined);
    const receipts = await timed.post.sendMany(
      Act,
      [1, 2].map((n) => ({ run, n })),
      { delayMs: 3_600_000 },
    );
    await timed.post.transaction(async ({ send, tx }) => {
      send(Act, { run, n: 3 }, { delayMs: 3_600_000 });
      receipts.push(await timed.post.in(tx).send(Act, { run, n: 4 }, { delayMs: 3_600_000 }));
    });
    await expect(
      timed.post.transaction(async ({ send }) => {
        send(Act, { run, n: 5 }, { delayMs: 1 });
        throw new Error("no");
      }),
    ).rejects.toThrow("no");
    expect(new Set(await Promise.all(receipts.map(async (one) => (await one.status()).state)))).toEqual(
      new Set(["scheduled"]),
    );
    await hourPasses(run);
    expect((await timed.begins(run, 4)).map(({ n }) => n).sort()).toEqual([1, 2, 3, 4]);
    expect(timed.begun(handing)).toEqual([]);
    await timed.post.untilIdle();
    expect(timed.begun(run)).toHaveLength(4);
  });

  test("what a failed run of a delayed command leaves is a retry, then a dead letter that can be redriven", async () => {
    const run = timed.run(() => Promise.reject(new Error("never")));
    const receipt = await timed.post.send(Act, { run }, { delayMs: 1, priority: 1 });
    expect(await receipt.settled(soon)).toMatchObject({ state: "dead", attempt: 3 });
    expect(timed.begun(run).map(({ attempt }) => attempt)).toEqual([1, 2, 3]);
    await timed.rows(
      "select posthorn.redrive(json_build_object('list', 'dead-letters', 'message', $1::text), 'me', 10)",
      [receipt.id],
    );
    await timed.begins(run, 6);
    expect(await receipt.settled(soon)).toMatchObject({ state: "dead" });
  });

  test.each([Act, Effect, Once])(
    "a $name whose time is over before a run begins is expired for good, and no dead letter",
    async (contract) => {
      const run = timed.run();
      const blocked = timed.run(() => new Promise((resolve) => setTimeout(resolve, 10)));
      await timed.post.send(contract, { run: blocked });
      // It expires on its way: a window of one millisecond is over when it is claimed.
      const receipt = await timed.post.transaction(async ({ tx, send }) => {
        const said = await timed.post.in(tx).send(contract, { run }, { expiresInMs: 1 });
        await tx.query("select pg_sleep(0.05)");
        send(contract, { run: blocked });
        return said;
      });
      expect(await receipt.settled(soon)).toMatchObject({ state: "expired" });
      expect(timed.begun(run)).toEqual([]);
      expect(await timed.rows("select from posthorn.dead_letter where payload ->> 'run' = $1", [run])).toEqual([]);
      expect(
        timed.logged.filter((message) => message.includes(contract.name) && /expired before a run/.test(message)),
      ).toHaveLength(1);
    },
  );

  test("a retry that would begin after the expiry does not: the message ends when it expires", async () => {
    const run = timed.run(() => Promise.reject(new Error("no")));
    // Its retry would be due in an hour, a second later.
    const receipt = await timed.post.send(Patient, { run }, { expiresInMs: 3_599_000 });
    const sentAt = Date.now();
    await timed.begins(run, 1);
    await eventually(async () => (await receipt.status()).state === "retrying");
    expect(Number((await receipt.status()).dueAt)).toBeLessThan(sentAt + 3_599_500);
    await hourPasses(run);
    expect(await receipt.settled(soon)).toMatchObject({ state: "expired" });
    expect(timed.begun(run)).toHaveLength(1);
  });

  test("a run that has begun is not stopped by its expiry", async () => {
    let open: () => void = () => undefined;
    const gate = new Promise<void>((resolve) => {
      open = resolve;
    });
    // On a machine that is busy it may expire before it begins: then another one is sent, with more time.
    const begunOf = async (expiresInMs: number): Promise<{ readonly run: string; readonly receipt: Receipt }> => {
      const run = timed.run(() => gate);
      const receipt = await timed.post.send(Act, { run }, { expiresInMs });
      await eventually(async () => timed.begun(run).length > 0 || (await receipt.status()).state === "expired");
      return timed.begun(run).length > 0 ? { run, receipt } : begunOf(2 * expiresInMs);
    };
    const { run, receipt } = await begunOf(1_500);
    await eventually(async () => {
      const left = "select from posthorn.message_1 where payload ->> 'run' = $1 and expires_at < clock_timestamp()";
      return (await timed.rows(left, [run])).length === 1;
    });
    open();
    expect(await receipt.settled(soon)).toMatchObject({ state: "succeeded" });
  });

  test("a command of a higher priority overtakes what waits", async () => {
    let open: () => void = () => undefined;
    const gate = new Promise<void>((resolve) => {
      open = resolve;
    });
    const run = timed.run((begun) => (begun.n === 0 ? gate : undefined));
    await timed.post.send(Step, { run, n: 0 });
    await timed.begins(run, 1);
    const sent = [];
    for (const [n, priority] of [
      [1, 0],
      [2, -2],
      [3, 2],
      [4, 1],
      [5, -1],
      [6, 2],
    ] as const) {
      sent.push(await timed.post.send(Step, { run, n }, { priority }));
    }
    open();
    for (const receipt of sent) expect(await receipt.settled(soon)).toMatchObject({ state: "succeeded" });
    expect(timed.begun(run).map(({ n }) => n)).toEqual([0, 3, 6, 4, 1, 5, 2]);
    const lanes = await timed.rows(
      "select count(*)::int as n from posthorn.lane l join posthorn.subscription s on s.id = l.subscription where s.name = 'steps'",
    );
    expect(lanes).toEqual([{ n: 5 }]);
  });

  test.runIf(kind === "server")(
    "the first use of a priority in an open transaction holds nobody up, and its rollback takes no lane",
    async () => {
      const run = timed.run();
      const opened = timed.post.transaction(async ({ tx }) => {
        await timed.post.in(tx).send(Patient, { run, n: 1 }, { priority: 2 });
        // Another connection, while this one is open.
        await timed.post.send(Patient, { run, n: 2 }, { priority: 2 });
        throw new Error("no");
      });
      await expect(opened).rejects.toThrow("no");
      await timed.begins(run, 1);
      await timed.post.untilIdle();
      expect(timed.begun(run).map(({ n }) => n)).toEqual([2]);
    },
  );

  test("of two scheduled commands that are due the one of higher priority begins first", async () => {
    let open: () => void = () => undefined;
    const gate = new Promise<void>((resolve) => {
      open = resolve;
    });
    const run = timed.run((begun) => (begun.n === 0 ? gate : undefined));
    await timed.post.send(Step, { run, n: 0 });
    await timed.begins(run, 1);
    const low = await timed.post.send(Step, { run, n: 1 }, { delayMs: 1 });
    const high = await timed.post.send(Step, { run, n: 2 }, { delayMs: 2, priority: 2 });
    await eventually(
      async () =>
        (await high.status()).dueAt !== undefined && ((await high.status()).dueAt?.getTime() ?? 0) < Date.now(),
    );
    open();
    await Promise.all([low.settled(soon), high.settled(soon)]);
    expect(timed.begun(run).map(({ n }) => n)).toEqual([0, 2, 1]);
  });

  test("waiting makes urgent: the lowest priority comes before the highest once it has waited two minutes longer", async () => {
    let open: () => void = () => undefined;
    const gate = new Promise<void>((resolve) => {
      open = resolve;
    });
    const run = timed.run((begun) => (begun.n === 0 ? gate : undefined));
    await timed.post.send(Step, { run, n: 0 });
    await timed.begins(run, 1);
    const low = await timed.post.send(Step, { run, n: 1 }, { priority: -2 });
    await timed.rows(
      "update posthorn.message_1 set published_at = published_at - interval '121 s' where payload ->> 'run' = $1 and payload ->> 'n' = '1'",
      [run],
    );
    const high = await timed.post.send(Step, { run, n: 2 }, { priority: 2 });
    open();
    await Promise.all([low.settled(soon), high.settled(soon)]);
    expect(timed.begun(run).map(({ n }) => n)).toEqual([0, 1, 2]);
  });

  test("a scheduled command is no backlog before its time, and does not age", async () => {
    const run = timed.run();
    const receipt = await timed.post.send(Step, { run }, { delayMs: 3_600_000 });
    await timed.rows(
      "update posthorn.deferred set published_at = published_at - interval '1 hour' where payload ->> 'run' = $1",
      [run],
    );
    const line = (await timed.post.backlog()).find(({ name }) => name === "steps");
    expect(line).toMatchObject({ backlog: 0, retrying: 0, ageMs: 0 });
    await timed.rows("update posthorn.deferred set due_at = clock_timestamp() where payload ->> 'run' = $1", [run]);
    expect(await receipt.settled(soon)).toMatchObject({ state: "succeeded" });
  });
});
