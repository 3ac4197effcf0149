import { expect, test } from "vitest";
import { Settlements } from "../../src/producer/settlements.js";
import type { ReceiverStatus } from "../../src/store/status.js";
import { gate } from "../instance/company.js";

/** States by id, changed by the test; each look is recorded. */
function world(ids: readonly string[]) {
  const states = new Map<string, ReceiverStatus["state"]>(ids.map((id) => [id, "queued"]));
  const looks: (readonly string[])[] = [];
  let stopped = false;
  const settlements = new Settlements({
    check: () => {
      if (stopped) throw new Error("stopped");
    },
    look: async (asked) => {
      looks.push(asked);
      return new Map(
        asked.map((id) => {
          const state = states.get(id);
          return [id, state === undefined ? null : [{ subscription: "q", state }]];
        }),
      );
    },
  });
  const stop = () => {
    stopped = true;
  };
  return { states, looks, settlements, stop };
}

const idOf = (n: number) => `${n}-${n.toString(16).padStart(16, "0")}`;
const many = Array.from({ length: 1_200 }, (_, n) => idOf(n + 1));

test("all that wait at once are looked at together, in statements of at most 500", async () => {
  const { looks, settlements } = world(many);
  const found = await Promise.all(many.map((id) => settlements.wait(id, 0)));
  expect(found.every((states) => states?.[0]?.state === "queued")).toBe(true);
  expect(looks.map(({ length }) => length)).toEqual([500, 500, 200]);
});

test("many who wait for one message are one look, and each has its own time", async () => {
  const { states, looks, settlements } = world([idOf(1)]);
  const patient = settlements.wait(idOf(1), 60_000);
  const hasty = settlements.wait(idOf(1), 0);
  expect((await hasty)?.[0]?.state).toBe("queued");
  expect(looks).toEqual([[idOf(1)]]);
  states.set(idOf(1), "succeeded");
  expect((await patient)?.[0]?.state).toBe("succeeded");
});

test("a run that ended here is looked at although its next look is far away", async () => {
  const { states, looks, settlements } = world([idOf(1), idOf(2)]);
  const [one, other] = [settlements.wait(idOf(1), 60_000), settlements.wait(idOf(2), 60_000)];
  await expect.poll(() => looks.length).toBeGreaterThan(6);
  states.set(idOf(1), "dead");
  settlements.near({ id: "1", nonce: "1" }, true);
  settlements.near({ id: "3", nonce: "3" }, true);
  expect((await one)?.[0]?.state).toBe("dead");
  expect(looks.flat()).not.toContain(idOf(3));
  states.set(idOf(2), "succeeded");
  await other;
});

test("an unknown message is told as such at once, and nobody looks when nobody waits", async () => {
  const { looks, settlements } = world([]);
  expect(await settlements.wait(idOf(9), 60_000)).toBeNull();
  settlements.near({ id: "9", nonce: "9" }, true);
  expect(looks).toHaveLength(1);
});

test("who waits is refused when nobody may look any more; a look that fails rejects those that it was for", async () => {
  const { settlements, stop } = world([idOf(1)]);
  const waiting = settlements.wait(idOf(1), 60_000).catch((error: unknown) => String(error));
  stop();
  expect(await waiting).toBe("Error: stopped");
  const failing = gate<never>();
  const broken = new Settlements({
    check: () => undefined,
    look: () => failing.opened.then(() => Promise.reject(new Error("away"))),
  });
  const both = [idOf(1), idOf(2)].map((id) => broken.wait(id, 60_000).catch((error: unknown) => String(error)));
  failing.open(undefined as never);
  expect(await Promise.all(both)).toEqual(["Error: away", "Error: away"]);
});
