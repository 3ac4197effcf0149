/** The sentences of `posthorn why` about messages of an ordered queue, each produced by its real cause. */
import { command, retry, type } from "posthorn";
import { expect, test } from "vitest";
import { at, becomes, decisions, fresh, instance, since, why } from "./asking.js";

test("behind a dead message the others of its key say what they wait for, and the dead one how many wait", async () => {
  const queue = fresh("stock");
  const Move = command(`Move${queue.replace(/\D/g, "")}`, {
    queue,
    schema: type<{ sku: string; n: number }>(),
    key: ({ sku }) => sku,
  });
  const post = instance();
  post
    .queue(queue, { ...decisions, retry: retry.none, ordering: { per: "key", whenDead: "park" } })
    .handle(Move, ({ sku }) => {
      if (sku === "A1") throw new Error("no such shelf");
    });
  const receipts = await post.sendMany(
    Move,
    [1, 2, 3].map((n) => ({ sku: "A1", n })),
  );
  await post.start();
  const [first = "", second = "", third = ""] = receipts.map(({ id }) => id);
  await becomes(post, first, "dead");
  await becomes(post, third, "parked");
  expect(await why(first)).toMatch(
    new RegExp(
      `^dead since ${since} after 1 attempt: Error: no such shelf; redrive it with \`posthorn dead-letters redrive ${first}\`; 2 others of key 'A1' wait behind it$`,
    ),
  );
  expect(await why(second)).toBe(
    `waits behind 1 message of key 'A1' in '${queue}', the first of which is dead and lies in the way; see \`posthorn why ${first}\``,
  );
  expect(await why(third)).toContain("waits behind 2 messages of key 'A1'");
  const line = (await post.backlog()).find(({ name }) => name === queue);
  expect(line).toMatchObject({ backlog: 2, retrying: 0, deadLetters: 1 });
});

test("behind a message that is tried again, or runs, the others of its key say so", async () => {
  const queue = fresh("stock");
  const Move = command(`Move${queue.replace(/\D/g, "")}`, {
    queue,
    schema: type<{ sku: string }>(),
    key: ({ sku }) => sku,
  });
  const post = instance();
  let release: () => void = () => undefined;
  const held = new Promise<void>((resolve) => {
    release = resolve;
  });
  post.queue(queue, { ...decisions, ordering: { per: "key", whenDead: "park" } }).handle(Move, async ({ sku }) => {
    if (sku === "A1") throw new Error("no such shelf");
    await held;
  });
  const receipts = await post.sendMany(
    Move,
    ["A1", "A1", "B2", "B2"].map((sku) => ({ sku })),
  );
  await post.start();
  const [failing = "", behind = "", runs = "", after = ""] = receipts.map(({ id }) => id);
  await becomes(post, failing, "retrying");
  await becomes(post, behind, "parked");
  expect(await why(failing)).toMatch(/; 1 other of key 'A1' waits behind it$/);
  expect(await why(behind)).toMatch(
    new RegExp(
      `^waits behind 1 message of key 'A1' in '${queue}', the first of which is tried again ${at}; see \`posthorn why ${failing}\`$`,
    ),
  );
  // It runs for longer than a claim may stay open, so it is moved out of it, and what is behind it too.
  await becomes(post, after, "parked");
  expect(await why(runs)).toMatch(new RegExp(`^runs since ${since} on worker`));
  expect(await why(after)).toBe(`waits behind 1 message of key 'B2' in '${queue}', the first of which runs now`);
  release();
  await becomes(post, after, "succeeded");
});
