/** What `--all` and `post.operate` reach of the invalid messages: all that `posthorn invalid list` shows, those of queues and those of intakes. */
import { command, policies } from "posthorn";
import { expect, test } from "vitest";
import { eventually } from "../support/eventually.js";
import { cloudEvent, MemoryBroker } from "./memory-broker.js";
import { cli, fresh, instance, json, listening, OrderPlaced, onServer, orderSchema, rows, unfit } from "./stage.js";

onServer();

/** Invalid messages of queues, and entries of intakes that are not to be read again. */
const lying = async () =>
  (
    await rows<{ queues: number; intakes: number }>(
      "select (select count(*) from posthorn.invalid)::int as queues, (select count(*) from posthorn.intake_invalid where redrive_at is null)::int as intakes",
    )
  )[0];

/** A queue with one invalid message, and an intake with two. */
async function bothLists() {
  const [name, queue] = [fresh("both"), fresh("packing")];
  const PackOrder = command(`Pack${queue.replace(/\W/g, "")}`, { queue, schema: orderSchema });
  const broker = new MemoryBroker();
  const { logger, told } = listening();
  const post = instance(queue, logger);
  post.intake(name, { from: broker, into: [OrderPlaced] });
  post.queue(queue, policies.email).handle(PackOrder, async () => undefined);
  await post.start();
  await rows("select posthorn.send($1, '{\"orderId\": 1}'::json)", [PackOrder.name]);
  broker.put(cloudEvent("OrderPlaced", { orderId: "secret-1" }), cloudEvent("OrderPlaced", { orderId: "secret-2" }));
  await eventually(async () => broker.left === 0 && (await lying())?.queues === 1);
  return { post, name, queue, told };
}

test("--all without an option that narrows it means all that the list shows, and tells queues and intakes apart; it left out those of intakes and said 0", async () => {
  const { name, queue } = await bothLists();
  const listed = await json("invalid", "list");
  expect([listed.total, listed.intakes.total]).toEqual([1, 2]);
  expect((await cli("invalid", "redrive", "--all")).err).toContain(
    "This would redrive 3 invalid messages, 2 of them of intakes,",
  );
  expect((await cli("invalid", "redrive", "--all", "--yes")).out).toBe(
    "redriven: 1 invalid message\nredriven: 2 invalid messages of intakes; whoever runs the intake reads them again within a second\n",
  );
  // They fit nothing still.
  await eventually(async () => JSON.stringify(await lying()) === '{"queues":1,"intakes":2}');
  // What narrows it leaves those of intakes out, and the other way round.
  expect(await json("invalid", "redrive", "--all", "--yes", "--queue", queue)).toEqual({
    redriven: 1,
    operation: expect.any(String),
  });
  await eventually(async () => (await lying())?.queues === 1);
  expect(await json("invalid", "discard", "--all", "--yes", "--reason", "tests")).toEqual({
    discarded: 1,
    operation: expect.any(String),
    intakes: { discarded: 2 },
  });
  expect(await unfit(name)).toEqual([]);
  expect((await cli("invalid", "discard", "--all", "--yes", "--reason", "tests")).out).toBe(
    "discarded: 0 invalid messages\n",
  );
});

test("where only intakes have invalid messages --all is about these", async () => {
  const { name, queue } = await bothLists();
  await cli("invalid", "discard", "--all", "--queue", queue, "--yes", "--reason", "tests");
  expect(await unfit(name)).toHaveLength(2);
  expect(await json("invalid", "redrive", "--all", "--yes")).toEqual({
    redriven: 0,
    intakes: { redriven: 2, takenIn: 0 },
  });
  expect((await cli("invalid", "discard", "--all", "--yes", "--reason", "tests")).out).toBe(
    "discarded: 2 invalid messages of intakes\n",
  );
  expect(await unfit(name)).toEqual([]);
});

test("post.operate reaches the invalid messages of intakes where nothing narrows it", async () => {
  const { post, name, queue } = await bothLists();
  const by = "anna";
  expect(await post.operate.redrive({ list: "invalid", by })).toMatchObject({ done: 1, intakes: 2 });
  await eventually(async () => (await lying())?.queues === 1);
  expect(await post.operate.redrive({ list: "dead-letters", by })).toMatchObject({ done: 0, intakes: 0 });
  const narrowed = { list: "invalid", subscription: queue, by, reason: "tests" } as const;
  expect(await post.operate.discard(narrowed)).toMatchObject({ done: 1, intakes: 0 });
  expect(await unfit(name)).toHaveLength(2);
  expect(await post.operate.discard({ list: "invalid", by, reason: "tests" })).toMatchObject({ done: 0, intakes: 2 });
  expect(await unfit(name)).toEqual([]);
});

test("the log tells what comes into the list of an intake, at once and then once a minute, with kinds and nothing of a message", async () => {
  const { post, name, told } = await bothLists();
  await post.stop();
  const lines = told.filter(({ message }) => message.includes(name) && message.includes("invalid"));
  expect(lines.map(({ level, message }) => [level, message])).toEqual([
    [
      "warn",
      `the intake "${name}" has listed an invalid message from memory/orders: not fitting OrderPlaced. To see them: posthorn invalid list --intake ${name}`,
    ],
    // At the end of the work, what was counted since.
    [
      "warn",
      expect.stringMatching(
        / has listed an invalid message from memory\/orders in .+: not fitting OrderPlaced\. To see them: /,
      ),
    ],
  ]);
  expect(lines.map(({ facts }) => facts)).toContainEqual({
    intake: name,
    where: "memory/orders",
    invalid: 1,
    kinds: { "not fitting OrderPlaced": 1 },
  });
  expect(JSON.stringify(told)).not.toContain("secret-");
});

test("what came before into the list is told once, however often it comes, and its kind holds nothing that the message says", async () => {
  const broker = new MemoryBroker();
  const name = fresh("kinds");
  const { logger, told } = listening();
  const post = instance("kinds", logger);
  const wrong = cloudEvent("SecretType", {});
  post.intake(name, {
    from: broker,
    into: [OrderPlaced],
    read: () => {
      throw new Error("secret words");
    },
  });
  broker.put(wrong, wrong, { headers: {}, contentType: "text/plain", body: Buffer.from("secret bytes"), id: "m-1" });
  await post.start();
  await eventually(() => broker.left === 0);
  broker.put(wrong);
  await eventually(() => broker.left === 0);
  await post.stop();
  const kinds = told.flatMap(({ facts }) => Object.entries(facts.kinds ?? {}));
  expect(kinds).toEqual([
    ["of a type that no contract has", 1],
    ["refused by the function `read`", 1],
  ]);
  expect(JSON.stringify(told)).not.toMatch(/secret/i);
});
