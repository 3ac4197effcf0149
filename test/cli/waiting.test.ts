/**
 * Goal: whoever operates gets an id of what waits, so that the question why can be asked; what was said by others is shown without what a terminal would obey.
 * Method: as in why.test.ts: real causes, on a server.
 */
import { expect, test } from "vitest";
import { at, becomes, database, digits, fresh, rows, why, work, working } from "./asking.js";
import { type Ended, posthornCommand } from "./command.js";

const waiting = (...args: readonly string[]): Promise<Ended> =>
  posthornCommand(["waiting", ...args, "--database", database.url]);
const shown = async (...args: readonly string[]): Promise<string> => {
  const { code, out, err } = await waiting(...args);
  expect({ code, err }).toEqual({ code: 0, err: "" });
  return out;
};

test("what waits is listed with its id, and of each the question why is answered", async () => {
  const queue = fresh("email");
  const Work = work(queue);
  const post = await working(Work, () =>
    Promise.reject(Object.assign(new Error("no mail\nserver"), { code: "ECONN" })),
  );
  expect(await shown(queue)).toBe(
    `Nothing of '${queue}' waits or runs. What is scheduled for later is shown with --state scheduled.\n`,
  );
  const { id } = await post.send(Work, { n: 1 });
  await becomes(post, id, "retrying");
  const planned = await post.send(Work, { n: 2 }, { delayMs: 3_600_000 });
  const text = await shown(queue);
  expect(text).toMatch(
    new RegExp(
      `^Id +Contract +Key +State +Waits +Attempts +When +Why\\n${id}  ${Work.name} +-    retrying  .* 1  ${at}  ECONN: no mail server\\n`,
    ),
  );
  expect(text.endsWith("\nThese are all. Why one of them is not done: posthorn why <id>\n")).toBe(true);
  expect(await why(id)).toMatch(/^second attempt at /);
  expect(await shown(queue, "--state", "scheduled")).toContain(planned.id);
  const later = JSON.parse(await shown(queue, "--state", "scheduled", "--state", "retrying", "--limit", "1", "--json"));
  expect(later).toMatchObject({ name: queue, kind: "command", more: true, messages: [{ message: id, attempts: 1 }] });
  expect(await shown(queue, "--state", "parked")).toBe(`Nothing of '${queue}' that is parked waits or runs.\n`);
});

test("of a backlog the oldest are shown, as many as are asked for, and it is said that there are more", async () => {
  const queue = fresh("backlog");
  const Work = work(queue);
  const post = await working(Work, () => Promise.resolve());
  await posthornCommand(["pause", queue, "--database", database.url]);
  await post.sendMany(
    Work,
    Array.from({ length: 30 }, (_, n) => ({ n })),
  );
  const lines = (await shown(queue)).split("\n");
  expect(lines.filter((line) => /^\d+-[0-9a-f]{16} .* queued /.test(line))).toHaveLength(20);
  expect(lines.at(-2)).toBe("The oldest 20; --limit shows more. Why one of them is not done: posthorn why <id>");
  expect(await shown(queue, "--limit", "1000")).toContain("\nThese are all.");
});

test("a key, an error and a note of somebody hostile change neither the terminal nor the table, and JSON has them as they are", async () => {
  const [queue, hostile] = [fresh("hostile"), "k\u001b]0;owned\u0007\u202e\r\nId  Contract\u0000"];
  const Work = work(queue);
  const post = await working(Work, () => Promise.reject(new Error(`\u001b[2J${"x".repeat(5_000)}\u202e`)));
  const key = hostile.replace("\u0000", "");
  const [sent] = await rows<{ id: string }>("select posthorn.send($1, '{\"n\":1}'::json, key => $2) as id", [
    Work.name,
    key,
  ]);
  const id = sent?.id ?? "";
  await becomes(post, id, "retrying");
  const text = await shown(queue);
  expect(text.split("\n")).toHaveLength(5);
  expect(text.replaceAll("\n", "")).not.toMatch(/[\p{Cc}\p{Cf}]/u);
  expect(Math.max(...text.split("\n").map(({ length }) => length))).toBeLessThan(320);
  const { messages } = JSON.parse(await shown(queue, "--json"));
  expect(messages).toMatchObject([{ message: id, key, error: { name: "Error" } }]);
  expect(messages[0].error.message).toHaveLength(1_000);
});

test("a name that nobody knows and a state of what has ended are refused with what is known", async () => {
  const queue = fresh(`only${digits()}`);
  await working(work(queue), () => Promise.resolve());
  expect(await waiting(`${queue}x`)).toMatchObject({ code: 2, out: "", err: expect.stringContaining(`"${queue}"`) });
  expect(await waiting(queue, "--state", "dead\u001b[31m")).toMatchObject({
    code: 2,
    err: expect.stringMatching(
      /^posthorn: --state "dead\\u001b\[31m" is none .* queued, scheduled, retrying, parked, running\. \(PH_/,
    ),
  });
  expect(await waiting()).toMatchObject({ code: 2, err: expect.stringContaining("needs <name>") });
  expect(await waiting(queue, "--limit", "1001")).toMatchObject({ code: 2 });
  expect(await waiting("'; drop table x; --")).toMatchObject({ code: 2, err: expect.stringContaining("is called") });
});
