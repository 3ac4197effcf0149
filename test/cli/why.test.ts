/**
 * Goal: each sentence of `posthorn why` about a message that has not ended is produced by its real cause and says what is true.
 * Method: real instances on a real server bring one message into each state; the built program is asked about it. What a clock
 * decides (a due time, a rate) is planted in the tables.
 */
import { command, retry, type } from "posthorn";
import { expect, test } from "vitest";
import { eventually } from "../support/eventually.js";
import { spawnFixture } from "../support/processes.js";
import {
  at,
  becomes,
  database,
  forever,
  fresh,
  instance,
  messageOf,
  rows,
  since,
  why,
  work,
  working,
} from "./asking.js";

/** Waits until it waits apart: whoever took it has handed it back, or was rescued. */
async function deferred(id: string): Promise<void> {
  await eventually(
    async () => (await rows("select from posthorn.deferred where message = $1", [messageOf(id)])).length === 1,
  );
}

test("a message behind others says how many come before it, and nothing about time while nothing has been settled", async () => {
  const queue = fresh("email");
  const Work = work(queue);
  let started = 0;
  const post = await working(
    Work,
    () => {
      started += 1;
      return forever();
    },
    { concurrency: 1 },
  );
  await post.send(Work, { n: 0 });
  await eventually(() => started === 1);
  await post.sendMany(
    Work,
    Array.from({ length: 1_204 }, (_, n) => ({ n })),
  );
  const last = await post.send(Work, { n: 1 });
  expect(await why(last.id)).toBe(`waits for its turn in '${queue}': 1,204 before it`);
});

test("a message behind others says about how long it will take, from what was settled in the last minute", async () => {
  const queue = fresh("email");
  const Work = work(queue);
  let hang = false;
  const post = await working(Work, () => (hang ? forever() : undefined), { concurrency: 10 });
  await post.sendMany(
    Work,
    Array.from({ length: 10 }, (_, n) => ({ n })),
  );
  await post.untilIdle();
  hang = true;
  await post.sendMany(
    Work,
    Array.from({ length: 10 }, (_, n) => ({ n })),
  );
  await eventually(async () => (await post.backlog()).find(({ name }) => name === queue)?.running === 10);
  await post.sendMany(
    Work,
    Array.from({ length: 40 }, (_, n) => ({ n })),
  );
  const last = await post.send(Work, { n: 1 });
  // Ten messages left in the forty seconds in which anybody worked; ten are running since. Some seconds more until it is asked change nothing.
  await rows(
    `update posthorn.claim_1 c set at = clock_timestamp() - interval '40 seconds' from posthorn.subscription s
    where s.id = c.subscription and s.name = $1 and not exists (select from posthorn.settlement_1 t where t.claim = c.id)`,
    [queue],
  );
  expect(await why(last.id)).toMatch(new RegExp(`^waits for its turn in '${queue}': 40 before it, about 3 min$`));
});

test("a message of a queue that nobody ever worked on says so", async () => {
  const queue = fresh("email");
  const post = instance();
  const { id } = await post.send(work(queue), { n: 1 });
  expect(await why(id)).toBe(`no worker has ever worked on '${queue}'`);
});

test("a message of a queue whose worker has left says when the last one was seen", async () => {
  const queue = fresh("email");
  const Work = work(queue);
  const post = await working(Work, () => undefined);
  await post.stop();
  const { id } = await instance().send(Work, { n: 1 });
  expect(await why(id)).toMatch(new RegExp(`^no worker works on '${queue}'; the last was seen ${at}$`));
});

test("a command of a version that no worker has a handler for says which versions they have, also once it was handed back", async () => {
  const queue = fresh("email");
  const [One, Two] = [work(queue, 1), work(queue, 2)];
  const block = { concurrency: 1 };
  const service = fresh("mailers");
  for (const _ of [1, 2]) await working(One, () => undefined, block, service);
  const { id } = await instance().send(Two, { n: 1 });
  await deferred(id);
  expect(await why(id)).toBe(`no worker has a handler for ${Two.name} version 2; two workers have version 1`);
});

test("a command of another contract than the workers of its queue handle says that they have other handlers", async () => {
  const queue = fresh("email");
  const Work = work(queue);
  await working(Work, () => undefined);
  const Other = command("DoSomethingElse", { queue, schema: type<{ n: number }>() });
  const { id } = await instance().send(Other, { n: 1 });
  await deferred(id);
  expect(await why(id)).toBe(
    `no worker has a handler for DoSomethingElse version 1; one worker has handlers for other messages of '${queue}'`,
  );
});

test("a message that a stopping worker handed back waits for its turn again, and says so", async () => {
  const queue = fresh("email");
  const Work = work(queue);
  let hangs = 0;
  const hang = () => {
    hangs += 1;
    return forever();
  };
  const first = await working(Work, hang, { concurrency: 1 });
  const { id } = await first.send(Work, { n: 1 });
  await eventually(() => hangs === 1);
  await first.stop({ graceMs: 0 });
  const second = await working(Work, hang, { concurrency: 1 });
  await becomes(second, id, "running");
  const third = await second.send(Work, { n: 2 });
  await rows(
    "update posthorn.deferred set token = null, worker = null, due_at = clock_timestamp() + interval '1 hour' where message = $1",
    [messageOf(id)],
  );
  expect(await why(id)).toBe(`was handed back and waits for its turn in '${queue}': none before it`);
  expect(await why(third.id)).toBe(`waits for its turn in '${queue}': none before it`);
});

test("a running message says on which worker, since when and in which attempt", async () => {
  const queue = fresh("email");
  const Work = work(queue);
  const post = await working(Work, () => forever());
  const { id } = await post.send(Work, { n: 1 });
  await becomes(post, id, "running");
  expect(await why(id)).toMatch(
    new RegExp(`^runs since ${since} on worker \\d+ \\(${post.service}, pid ${process.pid} on .+\\), first attempt$`),
  );
});

test("a message that failed says when its next attempt is, and after which error", async () => {
  const queue = fresh("email");
  const Work = work(queue);
  const refused = Object.assign(new Error("connect ECONNREFUSED 127.0.0.1:25\nand more"), { code: "ECONNREFUSED" });
  const post = await working(Work, () => Promise.reject(refused), {
    retry: retry.fixed({ attempts: 5, delayMs: 3_600_000 }),
  });
  const { id } = await post.send(Work, { n: 1 });
  await becomes(post, id, "retrying");
  expect(await why(id)).toMatch(
    new RegExp(`^second attempt ${at}, after ECONNREFUSED: connect ECONNREFUSED 127\\.0\\.0\\.1:25 and more$`),
  );
  await post.stop();
  await rows(
    "update posthorn.deferred set due_at = clock_timestamp() - interval '1 second', attempts = 2 where message = $1",
    [messageOf(id)],
  );
  expect(await why(id)).toMatch(
    new RegExp(
      `^third attempt is due since ${since}, after ECONNREFUSED: .+; no worker works on '${queue}'; the last was seen ${at}$`,
    ),
  );
});

test("a retry that is due while every slot is taken waits for a free one", async () => {
  const queue = fresh("email");
  const Work = work(queue);
  let runs = 0;
  const failThenHang = () => {
    runs += 1;
    if (runs === 1) throw new Error("not yet");
    return forever();
  };
  const post = await working(Work, failThenHang, { concurrency: 1 });
  const { id } = await post.send(Work, { n: 1 });
  await becomes(post, id, "retrying");
  await post.send(Work, { n: 2 });
  await eventually(() => runs === 2);
  await rows("update posthorn.deferred set due_at = clock_timestamp() - interval '1 second' where message = $1", [
    messageOf(id),
  ]);
  expect(await why(id)).toMatch(
    new RegExp(
      `^second attempt is due since ${since}, after Error: not yet; waits for a free slot in '${queue}': none before it$`,
    ),
  );
});

test("a message of a killed worker says that its worker died; once another has freed it, that a worker died under it", async () => {
  const app = await spawnFixture("test/cli/fixtures/app.ts", {
    args: [JSON.stringify({ url: database.url, service: fresh("shop"), suffix: "1" })],
  });
  await app.line("works", { withinMs: 60_000 });
  app.say("send hang");
  const id = (await app.line(/^id /)).slice(3);
  await app.line("hangs");
  app.kill();
  await app.exited;
  // Nobody else works in this database, so nobody has freed it.
  await eventually(async () => /its worker died/.test(await why(id)));
  expect(await why(id)).toMatch(
    new RegExp(
      `^its worker died in the first attempt, which began ${at}: worker \\d+ \\(shop-\\d+, pid ${app.pid} on .+\\), session ended; the next worker that looks frees it$`,
    ),
  );
  // A dead worker is nobody, also while its name is still on the door.
  const [sent] = await rows<{ id: string }>("select posthorn.send('SendEmail1', '{\"do\":\"succeed\"}') as id");
  expect(await why(sent?.id ?? "")).toMatch(new RegExp(`^no worker works on 'email1'; the last was seen ${at}$`));
  const Other = work(fresh("other"));
  await working(Other, () => undefined);
  await deferred(id);
  expect(await why(id)).toMatch(
    new RegExp(
      `^first attempt is due since ${since}, because a worker died under it; no worker works on 'email1'; the last was seen ${at}$`,
    ),
  );
});
