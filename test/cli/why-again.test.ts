/**
 * Goal: each sentence of `posthorn why` about a message that comes again, or that stands behind very many, is produced by its real
 * cause and says what is true.
 * Method: as in why.test.ts; workers are killed for real, and operators use the command line.
 */
import { event, retry, type } from "posthorn";
import { expect, test } from "vitest";
import { countedUpTo } from "../../src/store/why.js";
import { schemaOf } from "../producer/stage.js";
import { eventually } from "../support/eventually.js";
import { type FixtureProcess, spawnFixture } from "../support/processes.js";
import {
  at,
  becomes,
  database,
  decisions,
  digits,
  forever,
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

async function redrive(list: "dead-letters" | "invalid", id: string): Promise<void> {
  expect(await posthornCommand([list, "redrive", id, "--database", database.url])).toMatchObject({ code: 0, err: "" });
}

/** An application on a queue of its own, whose handler hangs on what is to hang. */
async function hanging(suffix: string, policy: object = {}): Promise<FixtureProcess> {
  const setup = { url: database.url, service: `shop-${suffix}`, suffix, policy };
  const app = await spawnFixture("test/cli/fixtures/app.ts", { args: [JSON.stringify(setup)] });
  await app.line("works", { withinMs: 60_000 });
  return app;
}

async function killed(app: FixtureProcess): Promise<void> {
  app.kill();
  await app.exited;
}

test("a redriven message behind another says who redrove it, and that it waits for its turn; then that it runs", async () => {
  const queue = fresh("email");
  const Work = work(queue);
  let fails = true;
  let hangs = 0;
  let go = (): void => undefined;
  const act = async () => {
    if (fails) throw new Error("mailbox is full");
    hangs += 1;
    await new Promise<void>((resolve) => {
      go = resolve;
    });
  };
  const post = await working(Work, act, { concurrency: 1, retry: retry.none });
  const { id } = await post.send(Work, { n: 1 });
  await becomes(post, id, "dead");
  fails = false;
  await post.send(Work, { n: 2 });
  await eventually(() => hangs === 1);
  await redrive("dead-letters", id);
  expect(await why(id)).toMatch(new RegExp(`^redriven ${at} by .+; waits for its turn in '${queue}': none before it$`));
  go();
  await eventually(() => hangs === 2);
  expect(await why(id)).toMatch(new RegExp(`^runs since ${since} on worker .+, first attempt$`));
  go();
  await becomes(post, id, "succeeded");
  expect(await why(id)).toMatch(new RegExp(`^succeeded ${at}, at its second delivery$`));
});

test("a message that runs again says in which attempt, also when its worker dies in it", async () => {
  const app = await hanging("11", { retry: retry.fixed({ attempts: 5, delayMs: 1 }) });
  app.say("send fail once, then hang");
  const id = (await app.line(/^id /)).slice(3);
  await app.line("hangs");
  expect(await why(id)).toMatch(
    new RegExp(`^runs since ${since} on worker \\d+ \\(shop-11, pid ${app.pid} on .+\\), second attempt$`),
  );
  await killed(app);
  await eventually(async () => /its worker died in the second attempt/.test(await why(id)));
});

test("a message under which two workers died says how many", async () => {
  const first = await hanging("12");
  first.say("send hang");
  const id = (await first.line(/^id /)).slice(3);
  await first.line("hangs");
  await killed(first);
  // It rescues the message and hangs in it as well.
  const second = await hanging("12");
  await second.line("hangs");
  await killed(second);
  await working(work(fresh("other")), () => undefined);
  const crashed = async () =>
    (await rows("select from posthorn.deferred where message = $1 and crashes = 2", [messageOf(id)])).length === 1;
  await eventually(crashed);
  expect(await why(id)).toMatch(
    new RegExp(
      `^first attempt is due since ${since}, because two workers died under it; no worker works on 'email12'; the last was seen ${at}$`,
    ),
  );
});

test("a message whose worker is forgotten in that moment says that it has just left", async () => {
  const queue = fresh("email");
  const Work = work(queue);
  const post = await working(Work, forever);
  const { id } = await post.send(Work, { n: 1 });
  await becomes(post, id, "running");
  // Rescue frees what a worker held before it forgets it, so this state is planted.
  await rows("delete from posthorn.worker where service = $1", [post.service]);
  expect(await why(id)).toMatch(new RegExp(`^first attempt began ${at} on a worker that has just left$`));
});

test("a message behind more than are counted says more than that, and no time", async () => {
  const queue = fresh("email");
  const Work = work(queue);
  let started = 0;
  const hang = () => {
    started += 1;
    return forever();
  };
  const post = await working(Work, hang, { concurrency: 1 });
  await post.send(Work, { n: 0 });
  await eventually(() => started === 1);
  await post.send(Work, { n: 0 });
  // Planted: to say so many takes a long time.
  await rows(
    `insert into posthorn.message_1 (xid, id, nonce, published_at, channel, lane, contract, payload)
     select pg_current_xact_id(), nextval('posthorn.message_id'), n, clock_timestamp(), m.channel, m.lane, m.contract, m.payload
     from posthorn.message_1 m, generate_series(1, $1::int) n where m.id = (select max(id) from posthorn.message_1)`,
    [countedUpTo],
  );
  const { id } = await post.send(Work, { n: 1 });
  expect(await why(id)).toBe(`waits for its turn in '${queue}': more than 100,000 before it`);
});

test("an event waits for each of its subscriptions in its own way", async () => {
  const topic = fresh("orders");
  const Placed = event(`Order${digits()}Placed`, { topic, schema: type<{ n: number }>() });
  const [idle, busy] = [fresh("idle"), fresh("busy")];
  const policy = { ...decisions, topic, concurrency: 1 } as const;
  const left = instance();
  left.subscription(idle, policy).on(Placed, () => undefined);
  await left.start();
  await left.stop();
  const post = instance();
  let started = 0;
  post.subscription(busy, policy).on(Placed, () => {
    started += 1;
    return forever();
  });
  await post.start();
  await post.publish(Placed, { n: 1 });
  await eventually(() => started === 1);
  const lines = (await why(await idOf(Placed.name))).split("\n");
  expect(lines).toEqual([
    expect.stringMatching(new RegExp(`^${busy}: runs since ${since} on worker .+, first attempt$`)),
    expect.stringMatching(new RegExp(`^${idle}: no worker works on '${idle}'; the last was seen ${at}$`)),
  ]);
});

test("an invalid message whose issue is about the whole says it without a path, and of an event how to redrive it for one receiver", async () => {
  const topic = fresh("orders");
  let checks = 0;
  const issues = [{ message: "must be an order" }];
  // It fits when it is said, and on no arrival.
  const schema = schemaOf<{ n: number }>((value) => {
    checks += 1;
    return checks === 1 ? { value } : { issues };
  });
  const Placed = event(`Order${digits()}Placed`, { topic, schema });
  const [first, second] = [fresh("first"), fresh("second")];
  const post = instance();
  for (const name of [first, second]) post.subscription(name, { ...decisions, topic }).on(Placed, () => undefined);
  await post.start();
  await post.publish(Placed, { n: 1 });
  const id = await idOf(Placed.name);
  await becomes(post, id, "invalid");
  expect((await why(id)).split("\n")).toEqual(
    [first, second].map((name) =>
      expect.stringMatching(
        new RegExp(
          `^${name}: invalid since ${since}, it does not fit its schema: must be an order; after a fix, redrive it with \`posthorn invalid redrive ${id} --subscription ${name}\`$`,
        ),
      ),
    ),
  );
});
