/** Leave to say something in a queue with a limit, as several processes ask for it at once. */
import { afterAll, beforeAll, expect, test } from "vitest";
import { registerContract, registerSubscription } from "../../src/store/registry.js";
import { type Engine, openEngine, type Session, waitsForLock } from "./engine.js";

let engine: Engine;
beforeAll(async () => {
  engine = await openEngine();
});
afterAll(() => engine?.close());

async function narrowQueue(messages: number, on = engine, name = "narrow"): Promise<number> {
  const entry = { kind: "command", name: `Do${name}`, version: 1, channel: name, keyed: false, owner: null };
  const { channel } = await registerContract(on.db, entry, "test", false);
  const policy = JSON.stringify({ deadLetter: { keepMs: 60_000 }, backlogLimit: { messages, whenFull: "reject" } });
  const reader = { name, kind: "command", channel: name, idempotency: "handler", policy } as const;
  await registerSubscription(on.db, reader, "test");
  return channel;
}

const ask = async (session: Pick<Session, "value">, channel: number): Promise<unknown> =>
  JSON.parse(String(await session.value("select posthorn.grant_backlog($1::int, 1, 0)::text", [channel])));

test("of two processes that ask for leave at once the second waits for the figure of the first, and none is granted the last place twice", async () => {
  const channel = await narrowQueue(2);
  const [first, second] = [await engine.session(), await engine.session()];
  await first.rows("begin");
  expect(await ask(first, channel)).toEqual({ granted: 1 });
  const asking = ask(second, channel);
  await waitsForLock(engine, second);
  await first.rows("commit");
  expect(await asking).toEqual({ granted: 1 });
  // As if it had been counted just now: otherwise it is counted anew where this is slow, and nothing was said.
  const fresh = "select posthorn.set_backlog($1::int, (posthorn.backlog_known($1::int)).backlog) as counted offset 0";
  const answer = `select posthorn.grant_backlog($1::int, 1, 0)::text from (${fresh}) f`;
  expect(JSON.parse(String(await first.value(answer, [channel])))).toMatchObject({ backlog: 2, limit: 2 });
});

test("what is said while somebody counts what waits is not forgotten with the count", async () => {
  // Method: in a database of its own the count is made to wait at its beginning.
  const own = await openEngine();
  try {
    const channel = await narrowQueue(5, own);
    await own.admin.rows("alter function posthorn.waiting_in_log(int, int) rename to waiting_in_log_at_once");
    await own.admin.rows(`create function posthorn.waiting_in_log(p_subscription int, p_limit int, out messages bigint, out oldest timestamptz)
      language plpgsql as $$
      begin
        perform pg_advisory_xact_lock_shared(4711);
        select w.messages, w.oldest into messages, oldest from posthorn.waiting_in_log_at_once(p_subscription, p_limit) w;
      end $$`);
    await own.admin.rows("select pg_advisory_lock(4711)");
    const counter = await own.session();
    const counting = counter.value(
      "select posthorn.count_backlog(l) from posthorn.backlog_limit l where l.channel = $1",
      [channel],
    );
    await waitsForLock(own, counter);
    await own.admin.rows("select posthorn.add_backlog($1::int, 3)", [channel]);
    await own.admin.rows("select pg_advisory_unlock(4711)");
    expect(await counting).toBe("3");
    expect(await own.admin.value("select (posthorn.backlog_known($1::int)).backlog", [channel])).toBe("3");
  } finally {
    await own.close();
  }
});

test("a process is granted a hundredth of the limit at most beyond what it asks for, and what it is granted counts", async () => {
  const channel = await narrowQueue(1_000, engine, "wide");
  expect([await ask(engine.admin, channel), await ask(engine.admin, channel)]).toEqual([
    { granted: 10 },
    { granted: 10 },
  ]);
  expect(await engine.admin.value("select (posthorn.backlog_known($1::int)).backlog", [channel])).toBe("20");
});

// A count of the future is older than all: otherwise a queue that was full then would be until the clock has come there again.
test("a queue that was full before the clock was put back is counted anew", async () => {
  const channel = await narrowQueue(2, engine, "earlier");
  await engine.admin.rows(
    "select setval(format('posthorn.backlog_%s', $1::int)::regclass, ((posthorn.backlog_tenths() + 36000) << 32) | 2)",
    [channel],
  );
  expect(await ask(engine.admin, channel)).toEqual({ granted: 1 });
});
