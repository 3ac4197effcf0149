/**
 * Goal: each sentence of `posthorn why` about a message that its handler put off or rejected, or that an open circuit keeps waiting, is produced
 * by its real cause and says what is true.
 * Method: as in why.test.ts; times are written into the tables where one would have to be waited for.
 */
import { OpenCircuit, Reject, RetryLater, retry } from "posthorn";
import { expect, test } from "vitest";
import { eventually } from "../support/eventually.js";
import { at, becomes, database, decisions, fresh, messageOf, rows, since, why, work, working } from "./asking.js";
import { posthornCommand } from "./command.js";

const hour = 3_600_000;
const circuitBreaker = { failures: 2, windowMs: hour, openMs: hour };
const until = at.replace("at ", "");

async function postponed(id: string, times: number): Promise<void> {
  await eventually(
    async () =>
      (
        await rows(
          "select from posthorn.deferred where message = $1 and token is null and coalesce((history -> -1 ->> 'times')::int, 1) = $2",
          [messageOf(id), times],
        )
      ).length === 1,
  );
}
const due = (id: string) =>
  rows("update posthorn.deferred set due_at = clock_timestamp() where message = $1", [messageOf(id)]);

test("a message that its handler put off says until when, why, and how often in a row", async () => {
  const Work = work(fresh("email"));
  const post = await working(Work, () =>
    Promise.reject(new RetryLater(hour, "the answer 429 asks to come back later")),
  );
  const { id } = await post.send(Work, { n: 1 });
  await postponed(id, 1);
  expect(await why(id)).toMatch(
    new RegExp(`^put off by the handler until ${until}: the answer 429 asks to come back later$`),
  );
  await due(id);
  await postponed(id, 2);
  expect(await why(id)).toMatch(
    new RegExp(`^put off by the handler until ${until}, for the second time: the answer 429 `),
  );
});

test("a message whose time has come, and that nobody can take, says that it was put off, and what keeps it", async () => {
  const queue = fresh("email");
  const Work = work(queue);
  const post = await working(Work, () => Promise.reject(new RetryLater(hour, "busy")));
  const { id } = await post.send(Work, { n: 1 });
  await postponed(id, 1);
  await post.stop();
  await due(id);
  expect(await why(id)).toMatch(
    new RegExp(
      `^was put off by the handler until ${until}: busy; no worker works on '${queue}'; the last was seen ${at}$`,
    ),
  );
});

test("a rejected message says with what reason, and how to redrive it", async () => {
  const Work = work(fresh("email"));
  const post = await working(Work, () => Promise.reject(new Reject("no such\naddress")));
  const { id } = await post.send(Work, { n: 1 });
  await becomes(post, id, "dead");
  expect(await why(id)).toMatch(
    new RegExp(
      `^dead since ${since}, rejected: no such.*address; redrive it with \`posthorn dead-letters redrive ${id}\`$`,
    ),
  );
});

test("messages behind an open circuit say since when, after how many failures, and when the next one is tried; status says it as well", async () => {
  const queue = fresh("email");
  const Work = work(queue);
  const ran: number[] = [];
  const act = async () => {
    ran.push(1);
    if (ran.length <= 3) throw new Error("the mail server is away");
    await new Promise(() => undefined);
  };
  const policy = { circuitBreaker, concurrency: 1, retry: retry.fixed({ attempts: 9, delayMs: 1 }) };
  const post = await working(Work, act, policy);
  const first = await post.send(Work, { n: 1 });
  const isOpen = async () =>
    (await rows("select from posthorn.circuits where subscription = $1 and state = 'open'", [queue])).length === 1;
  await eventually(isOpen);
  const { id } = await post.send(Work, { n: 2 });
  const open = `the circuit of '${queue}' is open since ${since} after 2 failures; next probe ${at}`;
  expect(await why(id)).toMatch(new RegExp(`^${open}$`));
  await post.untilIdle();
  expect(await why(first.id)).toMatch(
    new RegExp(`^third attempt is due since ${since}, after Error: the mail server is away; ${open}$`),
  );
  const status = await posthornCommand(["status", "--database", database.url]);
  expect(status.out).toMatch(
    new RegExp(
      `\\nThe circuit of ${queue} is open since ${since} after 2 failures\\. Nobody takes a message before ${since}\\.\\n`,
    ),
  );

  // The first trial fails, the second one hangs.
  const tryIt = () => rows("update posthorn.circuit set probe_at = clock_timestamp() where state = 'open'");
  await tryIt();
  await eventually(async () => ran.length === 3 && (await isOpen()));
  const again = `the circuit of '${queue}' is open since ${since} after 2 failures, 1 probe failed since, the newest answer ${at}: Error: the mail server is away; `;
  const waiting = ran.length === 3 ? [first.id, id] : [];
  const said = await Promise.all(waiting.map(why));
  expect(said.some((one) => new RegExp(`${again}next probe ${at}$`).test(one))).toBe(true);
  await post.stop({ graceMs: 0 });
  await tryIt();
  const idle = await working(Work, act, policy);
  await eventually(() => ran.length === 4);
  const last = await Promise.all(waiting.map(why));
  expect(last.filter((one) => new RegExp(`${again}one message is tried since ${until}$`).test(one))).toHaveLength(1);
  expect(last.filter((one) => /^runs since/.test(one))).toHaveLength(1);
  await idle.stop({ graceMs: 0 });
});

test("a circuit that a handler opened says what the handler said", async () => {
  const queue = fresh("email");
  const Work = work(queue);
  const post = await working(Work, () => Promise.reject(new OpenCircuit(hour, "quota spent")), {
    circuitBreaker,
    concurrency: 1,
  });
  const first = await post.send(Work, { n: 1 });
  await postponed(first.id, 1);
  await eventually(
    async () =>
      (await rows("select from posthorn.circuits where subscription = $1 and state = 'open'", [queue])).length === 1,
  );
  const { id } = await post.send(Work, { n: 2 });
  expect(await why(id)).toMatch(
    new RegExp(`^the circuit of '${queue}' is open since ${since}, as a handler said: quota spent; next probe ${at}$`),
  );
});

test("a retry function is described as one by the command line, from the database as well", async () => {
  const queue = fresh("email");
  const Work = work(queue);
  await working(Work, () => undefined, { ...decisions, retry: retry.custom({ attempts: 7, delayMs: () => 1 }) });
  const asked = await posthornCommand(["policy", queue, "--database", database.url]);
  expect(asked.out).toContain("\n  tried 7 times in all, each time after a wait that a function of its code tells\n");
  const { out } = await posthornCommand(["policy", queue, "--database", database.url, "--json"]);
  expect(JSON.parse(out)).toMatchObject({
    policy: { retry: { kind: "custom", attempts: 7, delayMs: "function" } },
    description: { attempts: 7, triedAtMs: [0], givesUpAfterMs: null },
  });
});
