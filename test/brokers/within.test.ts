import { once } from "node:events";
import { setTimeout as wait } from "node:timers/promises";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { expect, test } from "vitest";
import { within } from "../../src/brokers/within.js";

// Of AbortSignal.any with AbortSignal.timeout none fired on Node 20 after its garbage was collected: a silent broker was waited for without end.
test("the signal of a limit fires when its time is over, also where garbage was collected meanwhile", async () => {
  setFlagsFromString("--expose-gc");
  const collect: () => void = runInNewContext("gc");
  const never = new AbortController();
  const signals = Array.from({ length: 20 }, () => within(300, never.signal));
  const fired = Promise.all(signals.map((signal) => once(signal, "abort")));
  await wait(20);
  collect();
  await wait(20);
  collect();
  await fired;
  expect(signals.map(({ reason }) => reason.name)).toEqual(Array(20).fill("TimeoutError"));
}, 20_000);

test("it fires with the other signal before", () => {
  const stop = new AbortController();
  const signal = within(60_000, stop.signal);
  stop.abort(new Error("stopped"));
  expect(signal).toMatchObject({ aborted: true, reason: { message: "stopped" } });
});
