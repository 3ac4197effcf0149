/** What becomes of the same request, by mode; on a server and on PGlite. Races are in test/sql/dedupe.test.ts. */
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { openSession } from "../sql/engine.js";
import { eventually } from "../support/eventually.js";
import { Act, Effect, openTimed, Patient, Step, type Timed } from "./timed.js";

const soon = { withinMs: 60_000 };
const minute = 60_000;

function gate() {
  let open: () => void = () => undefined;
  const opened = new Promise<void>((resolve) => {
    open = resolve;
  });
  return { open, opened };
}

/**
 * Goal: a producer that keeps its transaction open does not take the worker down whose handler said the same key.
 * Method: the producer holds the key until a settlement has given up waiting and another statement of the worker's session went through.
 */
test("a handler that says a key which an open transaction holds is settled after that has ended, and its worker beats meanwhile", async () => {
  const timed = await openTimed("server");
  const producer = await openSession(timed.url ?? "");
  const watcher = await openSession(timed.url ?? "");
  try {
    const said = timed.run();
    const dedupe = { key: said, mode: "drop", windowMs: minute } as const;
    const run = timed.run((_begun, _tx, send) => send(Act, { run: said, n: 2 }, { dedupe }));
    await timed.post.send(Act, { run: timed.run() });
    await producer.rows("begin");
    const options = JSON.stringify({ dedupe });
    const id = await producer.value("select posthorn.send('DoAct', $1::json, options => $2::json)", [
      JSON.stringify({ run: said, n: 1 }),
      options,
    ]);
    const receipt = await timed.post.send(Act, { run });
    await timed.begins(run, 1);
    const beats = async () =>
      Number(await watcher.value("select extract(epoch from max(heartbeat_at)) from posthorn.worker"));
    const before = await beats();
    await eventually(async () => (await beats()) > before, { withinMs: 60_000 });
    expect(await receipt.status()).toMatchObject({ state: "running" });
    await producer.rows("commit");
    expect(await receipt.settled(soon)).toMatchObject({ state: "succeeded" });
    expect(timed.begun(run)).toHaveLength(1);
    await timed.begins(said, 1);
    expect(timed.begun(said).map(({ n }) => n)).toEqual([1]);
    expect(String(id)).toMatch(/^\d+-/);
  } finally {
    await Promise.all([producer.close(), watcher.close()]);
    await timed.close();
  }
});

describe.each(["server", "pglite"] as const)("on %s", (kind) => {
  let timed: Timed;
  beforeAll(async () => {
    timed = await openTimed(kind);
  });
  afterAll(() => timed.close());

  /** As if its time had come. */
  const makeDue = (run: string) =>
    timed.rows("update posthorn.deferred set due_at = clock_timestamp() where payload ->> 'run' = $1", [run]);

  test("drop: a repetition within the window is dropped and gets the receipt of the first, also after that has ended", async () => {
    const run = timed.run();
    const dedupe = { key: run, mode: "drop", windowMs: minute } as const;
    const first = await timed.post.send(Act, { run, n: 1 }, { dedupe });
    const second = await timed.post.send(Act, { run, n: 2 }, { dedupe });
    expect(second.id).toBe(first.id);
    await first.settled(soon);
    const third = await timed.post.transaction(async ({ send }) => send(Act, { run, n: 3 }, { dedupe }));
    expect(third.id).toBe(first.id);
    await timed.post.untilIdle();
    expect(timed.begun(run).map(({ n }) => n)).toEqual([1]);
    // Another key, and the same key of another contract, are other requests.
    expect((await timed.post.send(Act, { run }, { dedupe: { ...dedupe, key: `${run}-b` } })).id).not.toBe(first.id);
    expect((await timed.post.send(Effect, { run }, { dedupe })).id).not.toBe(first.id);
    await timed.rows("update posthorn.dedupe set until = clock_timestamp() where key = $1", [run]);
    expect((await timed.post.send(Act, { run, n: 4 }, { dedupe })).id).not.toBe(first.id);
  });

  test("drop: a handler that says the same in each attempt says it once", async () => {
    const said = timed.run();
    const run = timed.run();
    const dedupe = { key: said, mode: "drop", windowMs: minute } as const;
    for (const n of [1, 2]) {
      await timed.post.transaction(async ({ send }) => {
        send(Act, { run: said, n }, { dedupe });
        send(Act, { run, n });
      });
    }
    await timed.begins(run, 2);
    await timed.post.untilIdle();
    expect(timed.begun(said).map(({ n }) => n)).toEqual([1]);
  });

  test("drop: a list is right in itself: of each key the first is kept, and receipts come in the order of the payloads", async () => {
    const run = timed.run();
    const payloads = [3, 2, 5, 1, 4].map((n) => ({ run, n }));
    const receipts = await timed.post.sendMany(Act, payloads, {
      dedupe: { key: ({ n = 0 }) => `${run}-${n % 2}`, mode: "drop", windowMs: minute },
    });
    const [odd, even, ...more] = receipts.map(({ id }) => id);
    expect(odd).not.toBe(even);
    expect(more).toEqual([odd, odd, even]);
    await Promise.all(receipts.map((receipt) => receipt.settled(soon)));
    expect(
      timed
        .begun(run)
        .map(({ n }) => n)
        .sort(),
    ).toEqual([2, 3]);
  });

  test("drop: a window that is over before the last attempt can be is refused, with both numbers", async () => {
    const run = timed.run();
    const refused = timed.post.send(Patient, { run }, { dedupe: { key: run, mode: "drop", windowMs: minute } });
    await expect(refused).rejects.toMatchObject({ code: "PH_OPTION_INVALID" });
    // Three runs of ten seconds and two waits of an hour.
    await expect(refused).rejects.toThrow(
      /window of 60000 ms is shorter than the 7230000 ms in which the queue "patient" may run a message again/,
    );
    await timed.post.send(Patient, { run }, { dedupe: { key: run, mode: "drop", windowMs: 7_230_000 } });
  });

  test("a rollback takes the request with it: the next one is the first", async () => {
    const run = timed.run();
    const dedupe = { key: run, mode: "drop", windowMs: minute } as const;
    const failed = timed.post.transaction(async ({ tx }) => {
      await timed.post.in(tx).send(Act, { run, n: 1 }, { dedupe });
      throw new Error("no");
    });
    await expect(failed).rejects.toThrow("no");
    const receipt = await timed.post.send(Act, { run, n: 2 }, { dedupe });
    await receipt.settled(soon);
    expect(timed.begun(run).map(({ n }) => n)).toEqual([2]);
  });

  test("throttle: the first runs at once, and what follows is one with the latest payload at the end of the window", async () => {
    const run = timed.run();
    const dedupe = { key: run, mode: "throttle", windowMs: minute } as const;
    const untilOf = async () =>
      (await timed.rows("select until::text as until from posthorn.dedupe where key = $1", [run]))[0]?.until;
    const first = await timed.post.send(Act, { run, n: 1 }, { dedupe });
    expect(await first.settled(soon)).toMatchObject({ state: "succeeded" });
    const until = await untilOf();
    const second = await timed.post.send(Act, { run, n: 2 }, { dedupe });
    const third = await timed.post.send(Act, { run, n: 3 }, { dedupe });
    expect([second.id === first.id, third.id === second.id]).toEqual([false, true]);
    const waiting = "select due_at::text as until from posthorn.deferred where payload ->> 'run' = $1";
    expect(await timed.rows(waiting, [run])).toEqual([{ until }]);
    // A window of its own follows the one that waits.
    expect(Date.parse(String(await untilOf())) - Date.parse(String(until))).toBe(minute);
    await makeDue(run);
    expect(await third.settled(soon)).toMatchObject({ state: "succeeded" });
    expect(timed.begun(run).map(({ n }) => n)).toEqual([1, 3]);
  });

  test("throttle: after a quiet window the next one runs at once again", async () => {
    const run = timed.run();
    const dedupe = { key: run, mode: "throttle", windowMs: minute } as const;
    await (await timed.post.send(Act, { run, n: 1 }, { dedupe })).settled(soon);
    await timed.rows("update posthorn.dedupe set until = clock_timestamp() where key = $1", [run]);
    expect(await (await timed.post.send(Act, { run, n: 2 }, { dedupe })).settled(soon)).toMatchObject({
      state: "succeeded",
    });
  });

  test("debounce: it runs after the last request with its payload, and all receipts are of that one", async () => {
    const run = timed.run();
    const dedupe = { key: run, mode: "debounce", windowMs: minute } as const;
    const receipts = [];
    const dues = [];
    for (const n of [1, 2, 3]) {
      receipts.push(await timed.post.send(Act, { run, n }, { dedupe }));
      dues.push((await receipts[0]?.status())?.dueAt?.getTime() ?? 0);
    }
    expect(new Set(receipts.map(({ id }) => id)).size).toBe(1);
    expect(dues).toEqual([...dues].sort((a, b) => a - b));
    expect(new Set(dues).size).toBe(3);
    await makeDue(run);
    await receipts[0]?.settled(soon);
    expect(timed.begun(run).map(({ n }) => n)).toEqual([3]);
    const next = await timed.post.send(Act, { run, n: 4 }, { dedupe });
    expect(next.id).not.toBe(receipts[0]?.id);
  });

  test("debounce: a steady stream is run after the longest wait", async () => {
    const run = timed.run();
    const dedupe = { key: run, mode: "debounce", windowMs: 60_000, maxWaitMs: 120_000 } as const;
    const receipt = await timed.post.send(Act, { run, n: 1 }, { dedupe });
    await timed.rows("update posthorn.dedupe set since = since - interval '119 s' where key = $1", [run]);
    await timed.post.send(Act, { run, n: 2 }, { dedupe });
    expect(await receipt.settled(soon)).toMatchObject({ state: "succeeded" });
    expect(timed.begun(run).map(({ n }) => n)).toEqual([2]);
  });

  test("replace: the one that waits gets the new payload and time; once it runs, a new one is accepted", async () => {
    const { open, opened } = gate();
    const run = timed.run(() => opened);
    const dedupe = { key: run, mode: "replace" } as const;
    const first = await timed.post.send(Act, { run, n: 1 }, { dedupe, delayMs: 3_600_000 });
    const second = await timed.post.send(Act, { run, n: 2 }, { dedupe, delayMs: 1 });
    expect(second.id).toBe(first.id);
    expect((await timed.begins(run, 1)).map(({ n }) => n)).toEqual([2]);
    const third = await timed.post.send(Act, { run, n: 3 }, { dedupe });
    expect(third.id).not.toBe(first.id);
    open();
    await Promise.all([first.settled(soon), third.settled(soon)]);
    expect(timed.begun(run).map(({ n }) => n)).toEqual([2, 3]);
  });

  test("replace: a retry that waits gets the new payload, keeps its attempts, and is not hastened", async () => {
    const run = timed.run(() => Promise.reject(new Error("no")));
    const dedupe = { key: run, mode: "replace" } as const;
    const first = await timed.post.send(Patient, { run, n: 1 }, { dedupe });
    await timed.begins(run, 1);
    await eventually(async () => (await first.status()).state === "retrying");
    const due = (await first.status()).dueAt;
    const second = await timed.post.send(Patient, { run, n: 2 }, { dedupe });
    expect(second.id).toBe(first.id);
    expect(await first.status()).toMatchObject({ state: "retrying", attempt: 1, dueAt: due });
    expect(
      await timed.rows("select payload ->> 'n' as n from posthorn.deferred where payload ->> 'run' = $1", [run]),
    ).toEqual([{ n: "2" }]);
  });

  test.each([Act, Effect])(
    "once more: while a $name runs exactly one more is kept, which runs after it",
    async (contract) => {
      const { open, opened } = gate();
      let running = 0;
      let together = 0;
      const run = timed.run(async ({ n }) => {
        running += 1;
        together = Math.max(together, running);
        if (n === 1 && kind === "server") await opened;
        running -= 1;
      });
      const dedupe = { key: run, mode: "once-more" } as const;
      const first = await timed.post.send(contract, { run, n: 1 }, { dedupe });
      await timed.begins(run, 1);
      if (kind === "pglite") await first.settled(soon);
      const second = await timed.post.send(contract, { run, n: 2 }, { dedupe });
      const third = await timed.post.send(contract, { run, n: 3 }, { dedupe });
      expect(second.id).not.toBe(first.id);
      if (kind === "server") {
        expect(third.id).toBe(second.id);
        expect(await second.status()).toMatchObject({ state: "scheduled" });
        expect((await second.status()).dueAt).toBeUndefined();
      }
      open();
      expect(await first.settled(soon)).toMatchObject({ state: "succeeded" });
      expect(await third.settled(soon)).toMatchObject({ state: "succeeded" });
      expect(together).toBe(1);
      if (kind === "server") expect(timed.begun(run).map(({ n }) => n)).toEqual([1, 2]);
    },
  );

  test("once more: the one that waits runs when the running one has failed and waits, too", async () => {
    const { open, opened } = gate();
    const run = timed.run(async ({ n }) => {
      if (n !== 1) return;
      await opened;
      throw new Error("no");
    });
    const dedupe = { key: run, mode: "once-more" } as const;
    await timed.post.send(Patient, { run, n: 1 }, { dedupe });
    await timed.begins(run, 1);
    const second = await timed.post.send(Patient, { run, n: 2 }, { dedupe });
    open();
    expect(await second.settled(soon)).toMatchObject({ state: "succeeded" });
  });

  test("a command that counts as the same may wait for nobody's slot: of a busy queue one is kept", async () => {
    const { open, opened } = gate();
    const run = timed.run(({ n }) => (n === 0 ? opened : undefined));
    await timed.post.send(Step, { run, n: 0 });
    await timed.begins(run, 1);
    const dedupe = { key: run, mode: "once-more" } as const;
    const ids = new Set<string>();
    for (const n of [1, 2, 3]) ids.add((await timed.post.send(Step, { run, n }, { dedupe })).id);
    expect(ids.size).toBe(1);
    open();
    await timed.begins(run, 2);
    await timed.post.untilIdle();
    expect(timed.begun(run).map(({ n }) => n)).toEqual([0, 1]);
  });

  test("keys are forgotten when their window is over and their message neither waits nor runs", async () => {
    const [ended, waiting] = [timed.run(), timed.run()];
    await (await timed.post.send(Act, { run: ended }, { dedupe: { key: ended, mode: "once-more" } })).settled(soon);
    await timed.post.send(Act, { run: waiting }, { delayMs: 3_600_000, dedupe: { key: waiting, mode: "replace" } });
    await timed.rows(
      "update posthorn.dedupe set look_at = clock_timestamp() - interval '1 s' where key = any ($1::text::text[])",
      [`{${ended},${waiting}}`],
    );
    // Once where another pass holds the lock just now.
    await eventually(async () => {
      await timed.rows("select posthorn.tidy_dedupe(1000)");
      const left = await timed.rows("select key from posthorn.dedupe where key = any ($1::text::text[])", [
        `{${ended},${waiting}}`,
      ]);
      return JSON.stringify(left) === JSON.stringify([{ key: waiting }]);
    });
  });
});
