/** Checking a list of payloads, a few at a time. */
import { expect, test, vi } from "vitest";
import { event } from "../../src/contracts/define.js";
import { type } from "../../src/contracts/standard-schema.js";
import { Checking } from "../../src/producer/checking.js";

const Noted = event("ThingNoted", { topic: "notes", schema: type<unknown>() });

function iterable(next: () => IteratorResult<unknown>) {
  const close = vi.fn(() => ({ done: true, value: undefined }) as const);
  return { close, payloads: { [Symbol.iterator]: () => ({ next, return: close }) } };
}
const checking = (payloads: Iterable<unknown>) => new Checking("event", "publishMany", Noted, payloads, undefined);

test("a list is taken in pieces, in its order, and its end is known when it is met", async () => {
  for (const payloads of [[1, 2, 3], new Set([1, 2, 3])]) {
    const all = checking(payloads);
    expect(await all.take(2)).toEqual({ count: 2, list: "[1,2]", keys: null });
    expect(all.more).toBe(true);
    expect(await all.take(2)).toEqual({ count: 1, list: "[3]", keys: null });
    expect(all.more).toBe(false);
    expect(await all.take(2)).toEqual({ count: 0, list: "[]", keys: null });
  }
});

test("an iterator that was not read to its end is closed, once; one that has ended or thrown has closed itself", async () => {
  const endless = iterable(() => ({ done: false, value: 1 }));
  const some = checking(endless.payloads);
  await some.take(2);
  some.close();
  expect(endless.close).toHaveBeenCalledTimes(1);

  const ended = iterable(() => ({ done: true, value: undefined }));
  const none = checking(ended.payloads);
  await none.take(2);
  none.close();
  expect(ended.close).not.toHaveBeenCalled();

  const failing = iterable(() => {
    throw new RangeError("mine");
  });
  const failed = checking(failing.payloads);
  await expect(failed.take(2)).rejects.toThrow("mine");
  failed.close();
  expect(failing.close).not.toHaveBeenCalled();
});
