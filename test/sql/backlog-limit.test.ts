/** Leave to say something in a queue with a limit, as several processes ask for it at once. */
import { afterAll, beforeAll, expect, test } from "vitest";
import { registerContract, registerSubscription } from "../../src/store/registry.js";
import { type Engine, openEngine, type Session, waitsForLock } from "./engine.js";

let engine: Engine;
beforeAll(async () => {
  engine = await openEngine();
});
afterAll(() => engine?.close());

async function narrowQueue(messages: number): Promise<number> {
  const entry = { kind: "command", name: "DoNarrow", version: 1, channel: "narrow", keyed: false, owner: null };
  const { channel } = await registerContract(engine.db, entry, "test", false);
  const policy = JSON.stringify({ deadLetter: { keepMs: 60_000 }, backlogLimit: { messages, whenFull: "reject" } });
  const reader = { name: "narrow", kind: "command", channel: "narrow", idempotency: "handler", policy } as const;
  await registerSubscription(engine.db, reader, "test");
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
  expect(await ask(first, channel)).toMatchObject({ backlog: 2, limit: 2 });
});
