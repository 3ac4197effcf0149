/** `posthorn cancel`, and what `why` says of messages that were cancelled or that tell how far they are. */
import { event, retry, type } from "posthorn";
import { expect, test } from "vitest";
import { gate } from "../instance/company.js";
import { eventually } from "../support/eventually.js";
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
  since,
  why,
  work,
  working,
} from "./asking.js";
import { posthornCommand } from "./command.js";

const cancel = (id: string, ...more: string[]) => posthornCommand(["cancel", id, "--database", database.url, ...more]);
const who = String.raw`\S+@\S+`;

test("cancel takes back a message that waits; why says when, by whom and that it had not begun; once more is no failure", async () => {
  const Work = work(fresh("email"));
  const post = instance();
  const { id } = await post.send(Work, { n: 1 });
  expect(await cancel(id)).toEqual({ code: 0, out: `Cancelled ${id}.\n`, err: "" });
  expect(await why(id)).toMatch(new RegExp(`^cancelled ${at} by ${who}, before it began$`));
  const again = await cancel(id, "--json");
  expect([again.code, JSON.parse(again.out)]).toEqual([0, { message: id, answer: "cancelled", state: "cancelled" }]);
});

test("cancel asks a running message to stop, why says who asked and how far it is, and then that it was cancelled while it ran", async () => {
  const Work = work(fresh("email"));
  const seen = gate();
  const post = instance();
  post.queue(Work.channel, decisions).handle(Work, async (_payload, { signal, progress }) => {
    progress(0.4);
    await new Promise((resolve) => signal.addEventListener("abort", resolve));
    await seen.opened;
    throw new Error("gives up");
  });
  await post.start();
  const { id } = await post.send(Work, { n: 1 });
  await eventually(async () => (await post.statusOf(id))[0]?.progress === 0.4);
  const { code, out } = await cancel(id);
  expect([code, out]).toEqual([0, `Asked ${id} to stop: its signal fires; it is cancelled if its run fails now.\n`]);
  expect(await why(id)).toMatch(
    new RegExp(`^runs since ${since} on worker .+, first attempt, 40 % done; asked to stop ${at} by ${who}$`),
  );
  seen.open();
  await becomes(post, id, "cancelled");
  expect(await why(id)).toMatch(new RegExp(`^cancelled ${at} by ${who}, while it ran$`));
});

test("cancel is too late for a dead message, and says what became of it", async () => {
  const Work = work(fresh("email"));
  const post = await working(Work, () => Promise.reject(new Error("full")), {
    retry: retry.fixed({ attempts: 1, delayMs: 1 }),
  });
  const { id } = await post.send(Work, { n: 1 });
  await becomes(post, id, "dead");
  const { code, out, err } = await cancel(id);
  expect([code, out]).toEqual([1, ""]);
  expect(err).toMatch(new RegExp(`^Too late to cancel ${id}: dead since ${since} after 1 attempt: Error: full`));
});

test("cancel refuses an event, an id that no command has, and what can be no id", async () => {
  const n = digits();
  const topic = fresh("topic");
  const Fact = event(`Fact${n}Stated`, { topic, schema: type<object>() });
  await instance().publish(Fact, {});
  const fact = await cancel(await idOf(Fact.name), "--json");
  expect([fact.code, JSON.parse(fact.out).error.code]).toEqual([1, "PH_WRONG_KIND"]);
  const unknown = await cancel("999999-0000000000000000");
  expect([unknown.code, unknown.err]).toEqual([1, expect.stringContaining("(PH_UNKNOWN_MESSAGE)")]);
  expect((await cancel("42")).code).toBe(2);
});

test("a message that runs and tells more than a number is quoted by why", async () => {
  const Work = work(fresh("email"));
  const post = instance();
  post.queue(Work.channel, decisions).handle(Work, (_payload, { progress }) => {
    progress({ page: 3 });
    return forever();
  });
  await post.start();
  const { id } = await post.send(Work, { n: 1 });
  await eventually(async () => (await post.statusOf(id))[0]?.progress !== undefined);
  expect(await why(id)).toMatch(/, first attempt, says \{"page":3\}$/);
});
