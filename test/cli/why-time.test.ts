/** What `posthorn why` says of messages with a time, an expiry, or one that they wait behind. Method as in why.test.ts. */
import { expect, test } from "vitest";
import { at, becomes, forever, fresh, instance, messageOf, rows, since, why, work, working } from "./asking.js";

test("a scheduled message says its time; once that has passed, what keeps it from running", async () => {
  const queue = fresh("email");
  const Work = work(queue);
  const post = await working(Work, () => undefined);
  const { id } = await post.send(Work, { n: 1 }, { delayMs: 3_600_000 });
  expect(await why(id)).toMatch(new RegExp(`^scheduled for ${since}$`));
  await post.stop();
  await rows("update posthorn.deferred set due_at = clock_timestamp() - interval '1 second' where message = $1", [
    messageOf(id),
  ]);
  expect(await why(id)).toMatch(
    new RegExp(`^scheduled for ${since}, and due; no worker works on '${queue}'; the last was seen ${at}$`),
  );
});

test("a scheduled message whose time is over says that it will not run, although nobody has looked at it since", async () => {
  const queue = fresh("email");
  const Work = work(queue);
  const post = await working(Work, () => undefined);
  const { id } = await post.send(Work, { n: 1 }, { delayMs: 3_600_000, expiresInMs: 7_200_000 });
  await post.stop();
  const past = "clock_timestamp() - interval '1 second'";
  await rows(`update posthorn.deferred set due_at = ${past}, expires_at = ${past} where message = $1`, [messageOf(id)]);
  expect(await why(id)).toMatch(new RegExp(`; its time was over ${at}, so it will not run$`));
});

test("a scheduled message that is due while every slot is taken waits for a free one", async () => {
  const queue = fresh("email");
  const Work = work(queue);
  let runs = 0;
  const post = await working(
    Work,
    () => {
      runs += 1;
      return forever();
    },
    { concurrency: 1 },
  );
  const first = await post.send(Work, { n: 1 });
  await becomes(post, first.id, "running");
  const { id } = await post.send(Work, { n: 2 }, { delayMs: 3_600_000 });
  await rows("update posthorn.deferred set due_at = clock_timestamp() - interval '1 second' where message = $1", [
    messageOf(id),
  ]);
  expect(await why(id)).toMatch(
    new RegExp(`^scheduled for ${since}, and due; waits for a free slot in '${queue}': none before it$`),
  );
  expect(runs).toBe(1);
});

test("a message that is kept for once more says which one it waits for", async () => {
  const queue = fresh("email");
  const Work = work(queue);
  const post = await working(Work, forever);
  const dedupe = { key: "a", mode: "once-more" } as const;
  const first = await post.send(Work, { n: 1 }, { dedupe });
  await becomes(post, first.id, "running");
  const second = await post.send(Work, { n: 2 }, { dedupe });
  expect(await why(second.id)).toBe(
    `runs once more when ${first.id}, which asked for the same and runs now, has ended`,
  );
});

test("an expired message says when it expired, and that nothing more comes of it", async () => {
  const queue = fresh("email");
  const Work = work(queue);
  const early = instance();
  const { id } = await early.send(Work, { n: 1 }, { expiresInMs: 1 });
  const post = await working(Work, () => undefined);
  await becomes(post, id, "expired");
  expect(await why(id)).toMatch(new RegExp(`^expired ${at}: no run had begun in time, and none will$`));
});
