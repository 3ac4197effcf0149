/**
 * Goal: each sentence of `posthorn why` about a message that has ended, and about none, is produced by its real cause and says what is true.
 * Method: real instances on a real server bring one message into each state; the built program is asked about it. What a clock
 * decides (a due time, a rate) is planted in the tables.
 */
import { command, event, retry, type } from "posthorn";
import { expect, test } from "vitest";
import { schemaOf } from "../producer/stage.js";
import { eventually } from "../support/eventually.js";
import { spawnFixture } from "../support/processes.js";
import {
  at,
  becomes,
  database,
  decisions,
  digits,
  fresh,
  idOf,
  instance,
  messageOf,
  rows,
  since,
  why,
  work,
  working,
} from "./asking.js";
import { posthornCommand } from "./command.js";

test("a dead message says since when, after how many attempts, the last error, and how to redrive it; then who redrove it", async () => {
  const queue = fresh("email");
  const Work = work(queue);
  const post = await working(Work, () => Promise.reject(new Error("mailbox is full")), {
    retry: retry.fixed({ attempts: 2, delayMs: 1 }),
  });
  const { id } = await post.send(Work, { n: 1 });
  await becomes(post, id, "dead");
  expect(await why(id)).toMatch(
    new RegExp(
      `^dead since ${since} after 2 attempts: Error: mailbox is full; redrive it with \`posthorn dead-letters redrive ${id}\`$`,
    ),
  );
  await post.stop();
  const { code } = await posthornCommand(["dead-letters", "redrive", id, "--database", database.url]);
  expect(code).toBe(0);
  expect(await why(id)).toMatch(
    new RegExp(`^redriven ${at} by .+; no worker works on '${queue}'; the last was seen ${at}$`),
  );
});

test("a message whose only attempt died with its worker says that its outcome is unknown", async () => {
  const url = database.url;
  const policy = { idempotency: "at-most-once", retry: retry.none };
  const app = await spawnFixture("test/cli/fixtures/app.ts", {
    args: [JSON.stringify({ url, service: fresh("shop"), suffix: "2", policy })],
  });
  await app.line("works", { withinMs: 60_000 });
  app.say("send hang");
  const id = (await app.line(/^id /)).slice(3);
  await app.line("hangs");
  app.kill();
  await app.exited;
  const Other = work(fresh("other"));
  const post = await working(Other, () => undefined);
  await becomes(post, id, "dead");
  expect(await why(id)).toMatch(
    new RegExp(
      `^dead since ${since}: its worker died in the only attempt, and whether it took effect is unknown; if it did not, redrive it with \`posthorn dead-letters redrive ${id}\`$`,
    ),
  );
});

test("a message that killed its workers says how many", async () => {
  const url = database.url;
  const service = fresh("shop");
  let id = "";
  for (let killed = 0; killed < 5; killed += 1) {
    const app = await spawnFixture("test/cli/fixtures/app.ts", {
      args: [JSON.stringify({ url, service, suffix: "3" })],
    });
    await app.line("works", { withinMs: 60_000 });
    if (id === "") {
      app.say("send hang");
      id = (await app.line(/^id /)).slice(3);
    }
    await app.line("hangs");
    app.kill();
    await app.exited;
  }
  const Other = work(fresh("other"));
  const post = await working(Other, () => undefined);
  await becomes(post, id, "dead");
  expect(await why(id)).toMatch(new RegExp(`^dead since ${since}: 5 workers died under it; redrive it with `));
});

test("an invalid message says its first issue and how to redrive it", async () => {
  const queue = fresh("email");
  let spoiled = false;
  const issues = [
    { message: "must be an address", path: ["to"] },
    { message: "is missing", path: ["name"] },
  ];
  const Work = command(`Spoil${digits()}`, {
    queue,
    schema: schemaOf<{ n: number }>((value) => (spoiled ? { issues } : { value })),
  });
  const post = await working(Work, () => undefined);
  const receipt = post.send(Work, { n: 1 });
  const { id } = await receipt;
  await post.untilIdle();
  spoiled = true;
  await post.stop();
  const later = instance();
  spoiled = false;
  const second = await later.send(Work, { n: 2 });
  spoiled = true;
  later.queue(queue, decisions).handle(Work, () => undefined);
  await later.start();
  await becomes(later, second.id, "invalid");
  expect(await why(second.id)).toMatch(
    new RegExp(
      `^invalid since ${since}, it does not fit its schema: to: must be an address \\(and 1 more\\); after a fix, redrive it with \`posthorn invalid redrive ${second.id}\`$`,
    ),
  );
  expect(await why(id)).toMatch(new RegExp(`^succeeded ${at}, at the first attempt$`));
});

test("a message that was handled says when, and at which delivery", async () => {
  const queue = fresh("email");
  const Work = work(queue);
  let runs = 0;
  const notYet = () => {
    runs += 1;
    if (runs < 3) throw new Error("not yet");
  };
  const post = await working(Work, notYet, {
    retry: retry.fixed({ attempts: 5, delayMs: 1 }),
  });
  const { id } = await post.send(Work, { n: 1 });
  await becomes(post, id, "succeeded");
  expect(await why(id)).toMatch(new RegExp(`^succeeded ${at}, at its third delivery$`));
});

test("a message that was handled in transaction mode says when", async () => {
  const queue = fresh("email");
  const Work = work(queue);
  const post = instance();
  post.queue(queue, { ...decisions, idempotency: "transaction" }).handle(Work, () => undefined);
  await post.start();
  const { id } = await post.send(Work, { n: 1 });
  await post.untilIdle();
  expect(await why(id)).toMatch(new RegExp(`^succeeded ${at}, at the first attempt$`));
});

test("a discarded message says when, by whom and why, also to its receipt", async () => {
  const queue = fresh("email");
  const Work = work(queue);
  const post = await working(Work, () => Promise.reject(new Error("no")), {
    retry: retry.none,
  });
  const { id } = await post.send(Work, { n: 1 });
  await becomes(post, id, "dead");
  const args = ["dead-letters", "discard", id, "--reason", "the customer has left", "--database", database.url];
  expect((await posthornCommand(args)).code).toBe(0);
  expect(await why(id)).toMatch(new RegExp(`^discarded ${at} by .+@.+: the customer has left$`));
  expect(await post.statusOf(id)).toMatchObject([{ state: "discarded", reason: "the customer has left" }]);
});

test("a dead letter that was kept for its time says that it is gone", async () => {
  const queue = fresh("email");
  const Work = work(queue);
  const post = await working(Work, () => Promise.reject(new Error("no")), {
    retry: retry.none,
  });
  const { id } = await post.send(Work, { n: 1 });
  await becomes(post, id, "dead");
  // What the fleet does every few seconds removes it, once the time it is kept for is over.
  await rows("update posthorn.dead_letter set keep_until = clock_timestamp() where message = $1", [messageOf(id)]);
  await eventually(async () => {
    await rows("select posthorn.watch(0)");
    return (await rows("select from posthorn.dead_letter where message = $1", [messageOf(id)])).length === 0;
  });
  expect(await why(id)).toMatch(
    new RegExp(
      `^ended ${at} \\(failed\\); what was kept about it has passed its time and is gone, so it cannot be redriven$`,
    ),
  );
  // It was "running" for ever.
  expect(await post.statusOf(id)).toMatchObject([{ subscription: queue, state: "dead", reason: "failed" }]);
});

test("an event gets one sentence for each receiver: handled, skipped, dead with its own redrive, and begun after it", async () => {
  const topic = fresh("orders");
  const Placed = event(`Order${digits()}Placed`, { topic, schema: type<{ n: number }>() });
  const Other = event(`Order${digits()}Cancelled`, { topic, schema: type<{ n: number }>() });
  const [handles, skips, fails, late] = ["handles", "skips", "fails", "late"].map(fresh);
  const post = instance();
  const policy = { ...decisions, topic, retry: retry.none } as const;
  post.subscription(`${handles}`, policy).on(Placed, () => undefined);
  post.subscription(`${skips}`, policy).on(Other, () => undefined);
  post.subscription(`${fails}`, policy).on(Placed, () => Promise.reject(new Error("no stock")));
  await post.start();
  await post.publish(Placed, { n: 1 });
  const id = await idOf(Placed.name);
  await post.untilIdle();
  const second = instance();
  second.subscription(`${late}`, policy).on(Placed, () => undefined);
  await second.start();
  // For the one that began after it, it was "queued" for ever.
  expect((await post.statusOf(id)).map(({ subscription, state }) => ({ subscription, state }))).toEqual([
    { subscription: fails, state: "dead" },
    { subscription: handles, state: "succeeded" },
    { subscription: skips, state: "succeeded" },
  ]);
  const lines = (await why(id)).split("\n");
  expect(lines).toEqual([
    expect.stringMatching(
      new RegExp(
        `^${fails}: dead since ${since} after 1 attempt: Error: no stock; redrive it with \`posthorn dead-letters redrive ${id} --subscription ${fails}\`$`,
      ),
    ),
    expect.stringMatching(new RegExp(`^${handles}: succeeded ${at}, at the first attempt$`)),
    expect.stringMatching(
      new RegExp(`^${late}: '${late}' began ${at}, after this event was published, and does not get it$`),
    ),
    expect.stringMatching(
      new RegExp(`^${skips}: skipped ${at}: no worker on '${skips}' had a handler for ${Placed.name}$`),
    ),
  ]);
});

test("an event that nobody subscribes to says so", async () => {
  const topic = fresh("orders");
  const Lost = event(`Order${digits()}Lost`, { topic, schema: type<{ n: number }>() });
  await instance().publish(Lost, { n: 1 });
  const id = await idOf(Lost.name);
  expect(await why(id)).toBe(`nobody subscribes to '${topic}', so nobody gets this ${Lost.name}`);
});

test("an id that no message has is refused with 1, and one that can be no id with 2", async () => {
  const unknown = await posthornCommand(["why", "999999-00c0ffee00c0ffee", "--database", database.url]);
  expect(unknown).toMatchObject({ code: 1, out: "" });
  expect(unknown.err).toMatch(/No message has the id 999999-00c0ffee00c0ffee.*PH_UNKNOWN_MESSAGE/);
  const malformed = await posthornCommand(["why", "42", "--database", database.url, "--json"]);
  expect(malformed.code).toBe(2);
  expect(JSON.parse(malformed.out)).toMatchObject({
    error: { code: "PH_ARGUMENT_INVALID", message: expect.stringContaining("42-00c0ffee00c0ffee") },
  });
});

test("with the right number and another nonce no message is found: an id cannot be guessed", async () => {
  const queue = fresh("email");
  const { id } = await instance().send(work(queue), { n: 1 });
  const other = `${messageOf(id)}-${"0".repeat(16)}`;
  expect((await posthornCommand(["why", other, "--database", database.url])).code).toBe(1);
});
