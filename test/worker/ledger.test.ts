import fc from "fast-check";
import { expect, test } from "vitest";
import type { Batch } from "../../src/producer/buffer.js";
import type { Delivery, Part } from "../../src/store/work.js";
import { type Flush, Ledger, without } from "../../src/worker/ledger.js";

const nothing: Batch = { messages: [], channels: new Set(), committed: () => undefined };

function claimed(claim: string, ids: readonly string[]): Delivery[] {
  return ids.map((id) => ({
    subscription: 1,
    id,
    nonce: "7",
    contract: 1,
    key: null,
    payload: {},
    headers: null,
    publishedAt: 0,
    delivery: 1,
    attempts: 0,
    crashes: 0,
    hold: { from: "log", claim, token: "9", claimSlot: 1, messageSlot: 1 },
  }));
}

function taken(deferred: string, id: string): Delivery {
  const [delivery] = claimed("0", [id]);
  if (delivery === undefined) throw new Error("no delivery");
  return { ...delivery, delivery: 2, attempts: 1, hold: { from: "deferred", deferred, token: "5" } };
}

const failed = (delivery: Delivery, ends = false) => ({
  delivery,
  outcome: "failed" as const,
  next: { defer: { delayMs: 1, attempts: 1, crashes: 0 } },
  ends,
});

/** What the parts of a claim say ended; a part without messages means all of it. */
function endedBy(parts: readonly Part[], claim: string, all: readonly string[]): string[] {
  return parts.filter((part) => part.claim === claim).flatMap((part) => part.messages ?? all);
}

test("whatever order messages of claims end in and whenever it is flushed, parts have no gaps, each message is in one, and the last closes", () => {
  const step = fc.record({ claim: fc.nat(3), how: fc.nat(2), flush: fc.boolean() });
  fc.assert(
    fc.property(
      fc.array(fc.integer({ min: 1, max: 6 }), { minLength: 4, maxLength: 4 }),
      fc.array(step),
      (sizes, steps) => {
        const ledger = new Ledger(false);
        const claims = sizes.map((size, c) => {
          const ids = Array.from({ length: size }, (_, i) => `${c}${i}`);
          const deliveries = claimed(String(c + 1), ids);
          ledger.opened(deliveries);
          return { claim: String(c + 1), ids, left: [...deliveries] };
        });
        const flushes: Flush[] = [];
        const end = (delivery: Delivery | undefined, how: number): void => {
          if (delivery === undefined) return;
          if (how === 0) ledger.succeeded(delivery, nothing);
          else if (how === 1) ledger.skipped(delivery);
          else ledger.ended(failed(delivery));
        };
        for (const { claim, how, flush } of steps) {
          end(claims[claim]?.left.shift(), how);
          if (flush) flushes.push(ledger.drain());
        }
        for (const { left } of claims) for (const delivery of left) end(delivery, 0);
        flushes.push(ledger.drain());
        const parts = flushes.flatMap((flush) => flush.parts);
        for (const { claim, ids } of claims) {
          const own = parts.filter((part) => part.claim === claim);
          expect(own.map(({ part }) => part)).toEqual(own.map((_, i) => i + 1));
          expect(endedBy(parts, claim, ids).sort()).toEqual([...ids].sort());
          expect(own.map(({ closes }) => closes)).toEqual(own.map((_, i) => i === own.length - 1));
        }
        expect(ledger.idle).toBe(true);
      },
    ),
  );
});

test("a claim that succeeded as a whole is one part without a list", () => {
  const ledger = new Ledger(false);
  const deliveries = claimed("4", ["1", "2"]);
  ledger.opened(deliveries);
  for (const delivery of deliveries) ledger.succeeded(delivery, nothing);
  expect(ledger.drain().parts).toEqual([
    { claim: "4", token: "9", slot: 1, part: 1, outcome: "succeeded", closes: true },
  ]);
});

test("the part that says runs begin is the first, and a part that ends all of the claim after it has no list", () => {
  const ledger = new Ledger(false);
  const deliveries = claimed("4", ["1", "2"]);
  ledger.opened(deliveries);
  expect(ledger.begun(deliveries)).toMatchObject({ part: 1, outcome: "begun", closes: false });
  for (const delivery of deliveries) ledger.succeeded(delivery, nothing);
  expect(ledger.drain().parts).toMatchObject([{ part: 2, outcome: "succeeded", closes: true }]);
});

test("in transaction mode a claim is closed by a part that ends nothing, once each of its messages has ended by itself", () => {
  const ledger = new Ledger(true);
  const [one, two] = claimed("4", ["1", "2"]);
  if (one === undefined || two === undefined) throw new Error("no deliveries");
  ledger.opened([one, two]);
  ledger.endedElsewhere(one);
  expect(ledger.drain().parts).toEqual([]);
  ledger.ended(failed(two, true));
  const flush = ledger.drain();
  expect(flush.ends).toHaveLength(1);
  expect(flush.parts).toEqual([
    { claim: "4", token: "9", slot: 1, part: 1, outcome: null, closes: true, messages: [] },
  ]);
});

test("a delivery that was taken from the waiting ones ends by itself and touches no claim", () => {
  const ledger = new Ledger(false);
  ledger.succeeded(taken("11", "1"), nothing);
  const flush = ledger.drain();
  expect(flush.parts).toEqual([]);
  expect(flush.ends).toMatchObject([{ outcome: "succeeded", next: null }]);
});

test("the oldest open claim is the first that is not closed, and the newest there has been is remembered", () => {
  const ledger = new Ledger(false);
  expect(ledger.highest).toBeUndefined();
  const first = claimed("10", ["1"]);
  ledger.opened(first);
  ledger.opened(claimed("12", ["2"]));
  expect(ledger.firstOpen).toBe(10n);
  for (const delivery of first) ledger.succeeded(delivery, nothing);
  expect(ledger.firstOpen).toBe(10n); // not settled before it is written
  ledger.drain();
  expect(ledger.firstOpen).toBe(12n);
  expect(ledger.highest).toBe(12n);
});

test("what is lost is taken out of a flush with all that belongs to it, and what is not lost stays", () => {
  const ledger = new Ledger(false);
  const mine = claimed("10", ["1", "2"]);
  const theirs = claimed("12", ["3"]);
  ledger.opened(mine);
  ledger.opened(theirs);
  for (const delivery of mine) ledger.succeeded(delivery, nothing);
  for (const delivery of theirs) ledger.ended(failed(delivery));
  const left = without(ledger.drain(), { claims: ["12"] });
  expect(left?.parts.map(({ claim }) => claim)).toEqual(["10"]);
  expect(left?.ends).toEqual([]);
});

test("a flush from which nothing can be taken is not tried again", () => {
  const ledger = new Ledger(false);
  const deliveries = claimed("10", ["1"]);
  ledger.opened(deliveries);
  for (const delivery of deliveries) ledger.succeeded(delivery, nothing);
  expect(without(ledger.drain(), { claims: ["999"] })).toBeNull();
  expect(without(ledger.drain(), {})).toBeNull();
});

test("messages of a claim that was lost end in nothing", () => {
  const ledger = new Ledger(false);
  const deliveries = claimed("10", ["1", "2", "3"]);
  ledger.opened(deliveries);
  ledger.lost(["10"]);
  const dropped: unknown[] = [];
  const spoken: Batch = {
    messages: [{ contract: 1, channel: 1, key: null, json: "{}", headers: null }],
    channels: new Set([1]),
    committed: () => dropped.push(1),
  };
  const [one, two, three] = deliveries;
  if (one === undefined || two === undefined || three === undefined) throw new Error("no deliveries");
  ledger.succeeded(one, spoken);
  ledger.succeeded(two, nothing, { text: "1", keepMs: 1 });
  // It would have been written without a part beside it, and so without a fence: the message may be running elsewhere.
  ledger.ended(failed(three));
  expect(ledger.drain()).toEqual({ parts: [], ends: [], says: [] });
  expect([dropped, ledger.idle]).toEqual([[], true]);
});
