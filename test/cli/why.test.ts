/**
 * Goal: each sentence of `posthorn why` is produced by its real cause and says what is true.
 * Method: real instances on a real server bring one message into each state; the built program is asked about it. What a clock
 * decides (a due time, a rate) is planted in the tables.
 */

import { Client } from "pg";
import { type Command, command, event, type Policy, type Post, posthorn, retry, type Sql, type } from "posthorn";
import { afterAll, beforeAll, expect, onTestFinished, test } from "vitest";
import { silentLogger } from "../../src/core/logger.js";
import { schemaOf } from "../producer/stage.js";
import { eventually } from "../support/eventually.js";
import { spawnFixture } from "../support/processes.js";
import { createDatabase, type TestDatabase } from "../support/server.js";
import { posthornCommand } from "./command.js";

let database: TestDatabase;
let eye: Client;
let names = 0;
const open: Post<Sql>[] = [];

beforeAll(async () => {
  database = await createDatabase();
  eye = new Client({ connectionString: database.url });
  await eye.connect();
});
afterAll(async () => {
  await Promise.all(open.map((post) => post.stop({ graceMs: 0 })));
  await eye.end();
  await database.drop();
});

const decisions: Policy<"handler"> = {
  retry: retry.fixed({ attempts: 2, delayMs: 3_600_000 }),
  idempotency: "handler",
  ordering: "none",
  visibilityTimeoutMs: 600_000,
  deadLetter: { keepMs: 86_400_000 },
  alerts: { oldestAgeMs: 600_000, backlog: 1_000, deadLetters: 100, noWorkerMs: 600_000 },
};

/** A service of its own, which ends with the test. */
function instance(): Post<Sql> {
  const service = fresh("service");
  const post = posthorn({ service, database: database.url, migrate: "auto", logger: silentLogger });
  open.push(post);
  onTestFinished(() => post.stop({ graceMs: 0 }));
  return post;
}

/** A queue name of its own. */
function fresh(name: string): string {
  names += 1;
  return `${name}-${names}`;
}
const work = (queue: string, version = 1) =>
  command(`Work${queue.replace(/\D/g, "")}`, { queue, version, schema: type<{ n: number }>() });

async function why(id: string): Promise<string> {
  const { code, out, err } = await posthornCommand(["why", id, "--database", database.url]);
  expect({ code, err }).toEqual({ code: 0, err: "" });
  return out.trimEnd();
}

const rows = async <Row>(sql: string, values: readonly unknown[] = []): Promise<Row[]> =>
  (await eye.query(sql, [...values])).rows as Row[];
/** Of the only message of a contract: publishing returns nothing. */
async function idOf(contract: string): Promise<string> {
  const [row] = await rows<{ id: string }>(
    "select posthorn.public_id(m.id, m.nonce) as id from posthorn.message_1 m join posthorn.contract c on c.id = m.contract where c.name = $1",
    [contract],
  );
  return row?.id ?? "";
}
const messageOf = (id: string): string => id.split("-")[0] ?? "";
const at = String.raw`at (\d{4}-\d\d-\d\d )?\d\d:\d\d:\d\d`;
const since = at.replace("at ", "");

/** Waits until the message is in a state. */
async function becomes(post: Post<Sql>, id: string, state: string): Promise<void> {
  await eventually(async () => (await post.statusOf(id)).every((one) => one.state === state));
}

/** An instance that works on the queue of a contract. */
async function working(
  contract: Command<string, string, { n: number }, { n: number }>,
  handler: () => unknown,
  policy: Partial<Policy<"handler">> = {},
): Promise<Post<Sql>> {
  const post = instance();
  post.queue(contract.channel, { ...decisions, ...policy }).handle(contract, async () => {
    await handler();
  });
  await post.start();
  return post;
}

const forever = (): Promise<void> => new Promise(() => undefined);

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
  // Ten messages left in the ten seconds in which anybody worked; ten are running since.
  await rows(
    `update posthorn.claim_1 c set at = clock_timestamp() - interval '10 seconds' from posthorn.subscription s
    where s.id = c.subscription and s.name = $1 and not exists (select from posthorn.settlement_1 t where t.claim = c.id)`,
    [queue],
  );
  expect(await why(last.id)).toMatch(new RegExp(`^waits for its turn in '${queue}': 40 before it, about 4\\d s$`));
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
  for (const _ of [1, 2]) await working(One, () => undefined, block);
  const { id } = await instance().send(Two, { n: 1 });
  await eventually(
    async () => (await rows("select from posthorn.deferred where message = $1", [messageOf(id)])).length === 1,
  );
  expect(await why(id)).toBe(`no worker has a handler for ${Two.name} version 2; two workers have version 1`);
});

test("a command of another contract than the workers of its queue handle says that they have other handlers", async () => {
  const queue = fresh("email");
  const Work = work(queue);
  await working(Work, () => undefined);
  const Other = command("DoSomethingElse", { queue, schema: type<{ n: number }>() });
  const { id } = await instance().send(Other, { n: 1 });
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
  const Other = work(fresh("other"));
  await working(Other, () => undefined);
  await eventually(
    async () => (await rows("select from posthorn.deferred where message = $1", [messageOf(id)])).length === 1,
  );
  expect(await why(id)).toMatch(
    new RegExp(
      `^first attempt is due since ${since}, because a worker died under it; no worker works on 'email1'; the last was seen ${at}$`,
    ),
  );
});

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
}, 120_000);

test("an invalid message says its first issue and how to redrive it", async () => {
  const queue = fresh("email");
  let spoiled = false;
  const issues = [
    { message: "must be an address", path: ["to"] },
    { message: "is missing", path: ["name"] },
  ];
  const Work = command(`Spoil${names}`, {
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
  await rows("delete from posthorn.dead_letter where message = $1", [messageOf(id)]);
  expect(await why(id)).toMatch(
    new RegExp(`^ended as failed ${at}; what was kept about it has passed its time and is gone$`),
  );
});

test("an event gets one sentence for each receiver: handled, skipped, dead with its own redrive, and begun after it", async () => {
  const topic = fresh("orders");
  const Placed = event(`Order${names}Placed`, { topic, schema: type<{ n: number }>() });
  const Other = event(`Order${names}Cancelled`, { topic, schema: type<{ n: number }>() });
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
  const Lost = event(`Order${names}Lost`, { topic, schema: type<{ n: number }>() });
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
