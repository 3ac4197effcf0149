/** What operators order reaches messages in every slot of the ring, and in every lane of a queue with priorities. */
import { afterAll, beforeAll, beforeEach, expect, test } from "vitest";
import { drive } from "../../src/maintenance/operation.js";
import { beginErase, beginPurge, beginReplay, isDrained, unsettled } from "../../src/store/operations.js";
import { writeMessages } from "../../src/store/publish.js";
import { settle, takeDue, work } from "../../src/store/work.js";
import {
  claim,
  type Engine,
  end,
  type Idempotency,
  makeQueue,
  makeWorker,
  numberOf,
  openEngine,
  outgoing,
  part,
  type Reader,
  upTo,
} from "./engine.js";

let engine: Engine;
beforeAll(async () => {
  engine = await openEngine();
});
afterAll(() => engine.close());
beforeEach(async () => {
  await engine.admin.rows("update posthorn.ring set slots = '{1}', slot = 1");
});
const ann = { by: "ann" };

const openSlot = (slot: number) =>
  engine.admin.rows("update posthorn.ring set slots = slots || $1::smallint, slot = $1::smallint", [slot]);

const sayKeyed = (reader: Reader, key: string, numbers: readonly number[]) =>
  writeMessages(
    engine.db,
    numbers.map((m) => ({ ...outgoing(reader), key, json: JSON.stringify({ m, name: "Xanthippe" }) })),
  );

/** Ten messages on either side of an edge between two slots, of which three are held. */
async function acrossTheEdge(name: string, mode: Idempotency) {
  const reader = await makeQueue(engine, name, mode);
  const worker = await makeWorker(engine, [reader]);
  await sayKeyed(reader, "customer", upTo(10));
  const held = await claim(engine.db, reader, worker, 3);
  await openSlot(2);
  await sayKeyed(reader, "customer", upTo(10, 11));
  const finish = (): Promise<unknown> =>
    mode === "transaction"
      ? settle(
          engine.db,
          [],
          held.map((one) => end(one, "succeeded", null, true)),
          null,
        )
      : settle(engine.db, [part(held, 1, "succeeded", true)], [], null);
  return { reader, worker, finish };
}

test.each(["handler", "transaction"] as const)("in mode %s a purge takes what waits from two slots", async (mode) => {
  const name = `purged-${mode}`;
  const { finish } = await acrossTheEdge(name, mode);
  expect(await drive(engine.db, await beginPurge(engine.db, name, ann, ["queued"], name))).toMatchObject({
    done: 17,
    state: "done",
  });
  expect(await unsettled(engine.db, name)).toMatchObject({ waiting: 0, running: 3 });
  await finish();
  if (mode === "handler") expect(await isDrained(engine.db, name)).toBe(true);
});

test.each(["handler", "transaction"] as const)(
  "in mode %s a replay takes what was handled from two slots, in the order in which it was said",
  async (mode) => {
    const name = `replayed-${mode}`;
    const { reader, worker, finish } = await acrossTheEdge(name, mode);
    await finish();
    for (;;) {
      const { deliveries } = await work(engine.db, reader.subscription, worker, 4, []);
      if (deliveries.length === 0) break;
      if (mode === "transaction")
        await settle(
          engine.db,
          [],
          deliveries.map((one) => end(one, "succeeded", null, true)),
          null,
        );
      else await settle(engine.db, [part(deliveries, 1, "succeeded", true)], [], null);
    }
    const from = String(await engine.admin.value("select posthorn.oldest_kept($1::int)::text", [reader.channel]));
    for (const delivery of [2, 3]) {
      const replayed = await drive(engine.db, await beginReplay(engine.db, name, { from }, ann, name));
      expect(replayed).toMatchObject({ found: 20, done: 20, passed: { waiting: 0, ended: 0, unhandled: 0 } });
      const { deliveries } = await takeDue(engine.db, reader.subscription, worker, [reader.contract], 50);
      expect(deliveries.map(numberOf)).toEqual(upTo(20));
      expect(new Set(deliveries.map((one) => one.delivery))).toEqual(new Set([delivery]));
      await settle(
        engine.db,
        [],
        deliveries.map((one) => end(one, "succeeded", null)),
        null,
      );
    }
  },
);

test("erasing overwrites a key's messages in every slot", async () => {
  const { reader, finish } = await acrossTheEdge("erased", "handler");
  await sayKeyed(reader, "other", [21]);
  await finish();
  expect(
    await drive(engine.db, await beginErase(engine.db, "customer", { channel: "erased" }, ann, "customer")),
  ).toMatchObject({ done: 20, state: "done" });
  const left = "select count(*)::int from posthorn.message_%s where channel = $1 and payload::text like '%Xanthippe%'";
  expect(await engine.admin.value(left.replace("%s", "1"), [reader.channel])).toBe(0);
  expect(await engine.admin.value(left.replace("%s", "2"), [reader.channel])).toBe(1);
});

test("a purge takes what waits in the lanes of all priorities", async () => {
  const reader = await makeQueue(engine, "urgent");
  const worker = await makeWorker(engine, [reader]);
  for (const priority of [-2, 0, 2])
    await engine.admin.rows(
      "select posthorn.send('Dourgent', '{\"m\":1}'::json, options => json_build_object('priority', $1::int)) from generate_series(1, 5)",
      [priority],
    );
  const held = await claim(engine.db, reader, worker, 2);
  expect(await drive(engine.db, await beginPurge(engine.db, "urgent", ann, ["queued"], "urgent"))).toMatchObject({
    found: 13,
    done: 13,
  });
  await settle(engine.db, [part(held, 1, "succeeded", true)], [], null);
  expect(await isDrained(engine.db, "urgent")).toBe(true);
});
