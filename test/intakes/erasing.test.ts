/** What came from a broker and fitted nothing is erased with its key, as everything else that was said under it. */
import { expect, test } from "vitest";
import { readAgain } from "../../src/store/intake.js";
import { beginErase } from "../../src/store/operations.js";
import { eventually } from "../support/eventually.js";
import { type Carried, carried, cloudEvent, MemoryBroker } from "./memory-broker.js";
import {
  asExecutor,
  fresh,
  instance,
  intakeRow,
  OrderPlaced,
  onServer,
  rows,
  session,
  stored,
  unfit,
} from "./stage.js";

onServer();

const keyed = (key: string, payload: object, type = "com.shop.OrderPlaced") =>
  carried(cloudEvent(type, payload, { extensions: { partitionkey: key } }));

/** An intake whose list has an entry for each. */
async function listed(...messages: readonly Carried[]) {
  const broker = new MemoryBroker();
  const name = fresh("erased");
  const post = instance();
  post.intake(name, { from: broker, into: [OrderPlaced], typePrefix: "com.shop." });
  broker.put(...messages);
  await post.start();
  await eventually(() => broker.left === 0);
  expect(await unfit(name)).toHaveLength(messages.length);
  return { broker, name, post };
}

test("what fits nothing is erased by the key that the event says or the broker has, and is not taken in when it comes again", async () => {
  const said = keyed("ada", { name: "Ada" });
  const other = keyed("bob", { name: "Bob" });
  const foreign = { headers: {}, contentType: "application/json", body: Buffer.from('{"name":"Ada"}'), key: "ada" };
  const { broker, name, post } = await listed(said, other, foreign);
  const ended = await post.operate.erase("ada", { by: "ann", confirm: "ada" });
  expect(ended).toMatchObject({ done: 2, found: 2 });
  expect((await unfit(name)).map(({ body }) => body.toString())).toEqual(['{"name":"Bob"}']);
  broker.put(said);
  await eventually(() => broker.left === 0);
  expect(await unfit(name)).toHaveLength(1);
});

test("with a contract only what says that it is of that contract is erased", async () => {
  const { name, post } = await listed(
    keyed("cleo", { n: 1 }),
    keyed("cleo", { n: 2 }, "com.shop.OtherOrderPlaced"),
    keyed("cleo", { n: 3 }, "OrderPlaced"),
    { headers: {}, contentType: "application/json", body: Buffer.from("4"), key: "cleo" },
  );
  await post.operate.erase("cleo", { by: "ann", confirm: "cleo", contract: "OrderPlaced" });
  expect((await unfit(name)).map(({ body }) => body.toString())).toEqual(['{"n":2}', "4"]);
});

test("an entry that is redriven in the moment of the erasure is erased from the log", async () => {
  const { name } = await listed(keyed("dora", { n: 1 }));
  const { id: intake, worker } = await intakeRow(name);
  const [entry] = await unfit(name);
  const [contract] = await rows<{ id: number; channel: number }>(
    "select id, channel from posthorn.contract where name = 'OrderPlaced'",
  );
  const message = {
    mark: "d".repeat(32),
    contract: contract?.id ?? 0,
    channel: contract?.channel ?? 0,
    key: "dora",
    json: '{"orderId":"dora","cents":1}',
    headers: null,
  };
  const [redriving, erasing] = [await session(), await session()];
  await redriving.query("begin");
  await readAgain(asExecutor(redriving), { intake, worker: worker ?? "" }, [{ id: entry?.id ?? "", message }], []);
  const begun = beginErase(asExecutor(erasing), "dora", {}, { by: "ann" }, "dora");
  const [{ pid } = { pid: 0 }] = (await redriving.query("select pg_backend_pid() as pid")).rows as { pid: number }[];
  await eventually(
    async () =>
      (await rows("select 1 from pg_stat_activity where $1::int = any (pg_blocking_pids(pid))", [pid])).length > 0,
  );
  await redriving.query("commit");
  expect(await unfit(name)).toEqual([]);
  const { operation } = await begun;
  await rows(`call posthorn.run(${Number(operation)})`);
  expect((await stored("OrderPlaced")).filter(({ key }) => key === "dora").map(({ text }) => text)).toEqual([
    '{"~posthorn":"erased"}',
  ]);
});
