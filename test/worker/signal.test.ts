/** A signal is made when the handler reads it: it must not matter when that is. */
import { afterEach, beforeEach, expect, test } from "vitest";
import { command, days, minutes, type Policy, posthorn, query, retry, seconds, type } from "../../src/index.js";
import type { BaseContext } from "../../src/worker/context.js";
import { createDatabase, type TestDatabase } from "../support/server.js";
import { warningsOf } from "../support/warnings.js";

const Work = command("DoWork", { queue: "work", schema: type<{ n: number }>() });

const policy = (visibilityTimeoutMs: number): Policy<"handler"> => ({
  idempotency: "handler",
  retry: retry.none,
  ordering: "none",
  visibilityTimeoutMs,
  deadLetter: { keepMs: days(1) },
  alerts: { oldestAgeMs: days(1), backlog: 1_000, deadLetters: 1, noWorkerMs: minutes(1) },
});

let database: TestDatabase;
beforeEach(async () => {
  database = await createDatabase();
});
afterEach(() => database.drop());

/** Sends one message to a handler that looks and then waits, and gives its context once it has begun. */
async function begun(visibilityTimeoutMs: number, look: (context: BaseContext) => void = () => undefined) {
  const post = posthorn({ service: "signals", database: database.url, migrate: "auto" });
  let go: () => void = () => undefined;
  const waiting = new Promise<void>((resolve) => {
    go = resolve;
  });
  const given = new Promise<BaseContext>((resolve) => {
    post.queue("work", policy(visibilityTimeoutMs)).handle(Work, (_payload, context) => {
      look(context);
      resolve(context);
      return waiting;
    });
  });
  await post.start();
  const receipt = await post.send(Work, { n: 1 });
  return { post, receipt, go, context: await given };
}

test("a signal that is first read after the visibility timeout has fired, with the reason", async () => {
  const { post, receipt, go, context } = await begun(100);
  expect(await receipt.settled({ withinMs: seconds(60) })).toMatchObject({ state: "dead" });
  expect(context.signal.aborted).toBe(true);
  expect(context.signal.reason).toMatchObject({ code: "PH_DEADLINE", facts: { visibilityTimeoutMs: 100 } });
  expect(context.signal).toBe(context.signal);
  go();
  await post.stop();
});

test("a signal that is first read after the worker had to let go has fired", async () => {
  const { post, go, context } = await begun(minutes(1));
  await post.stop({ graceMs: 0 });
  expect(context.signal.reason).toMatchObject({ code: "PH_STOPPED" });
  go();
});

test("a signal that was read before fires in its time, and one that is read after a good end never does", async () => {
  const before: boolean[] = [];
  let fire: (value: unknown) => void = () => undefined;
  const fired = new Promise((resolve) => {
    fire = resolve;
  });
  // Read where the handler begins: here the time may be over already.
  const early = await begun(500, ({ signal }) => {
    before.push(signal.aborted);
    signal.addEventListener("abort", fire, { once: true });
  });
  await fired;
  expect(before).toEqual([false]);
  early.go();
  await early.post.stop();

  const fine = await begun(minutes(1));
  fine.go();
  await fine.receipt.settled({ withinMs: seconds(60) });
  await fine.post.stop({ graceMs: 0 });
  expect(fine.context.signal.aborted).toBe(false);
});

// Each further one than ten made Node warn of a leak, though a handler for many messages may well have a call for each.
test("a handler may pass its signal on to many at once without a warning of a leak: of many messages, and of a query", async () => {
  const post = posthorn({ service: "signals", database: database.url, migrate: "auto" });
  const listen = (signal: AbortSignal): void => {
    for (let n = 0; n < 50; n += 1) signal.addEventListener("abort", () => undefined);
  };
  const Sum = query("SumOf", { request: type<object>(), response: type<number>(), deadlineMs: minutes(1) });
  const Many = command("DoMany", { queue: "many", schema: type<{ n: number }>() });
  post.answer(Sum, (_request, { signal }) => {
    listen(signal);
    return 1;
  });
  post
    .queue("many", { ...policy(minutes(1)) })
    .handleMany(Many, { size: 10, maxWaitMs: 1 }, (_messages, { signal }) => listen(signal));
  const warnings = await warningsOf(async () => {
    await post.start();
    await post.send(Many, { n: 1 });
    expect(await post.ask(Sum, {})).toBe(1);
    await post.untilIdle();
  });
  expect(warnings.filter((text) => text.includes("MaxListeners"))).toEqual([]);
  await post.stop();
});
