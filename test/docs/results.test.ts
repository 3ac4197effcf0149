/** The program of docs/guides/results.md does what the page says of it. */
import { expect, onTestFinished, test } from "vitest";
import { gate } from "../instance/company.js";
import { eventually } from "../support/eventually.js";
import { createDatabase } from "../support/server.js";
import { open } from "./results/statements.js";

test("the program of the guide answers soon what is ready soon, tells how far the rest is, and takes back what nobody wants any more", async () => {
  const database = await createDatabase();
  onTestFinished(() => database.drop());
  const slow = gate<number>();
  const bank = open(database.url, async (account, month, signal) => {
    if (account === "quick") return 100 * (month + 1);
    if (month < 2) return 1;
    return Promise.race([
      slow.opened,
      new Promise<never>((_resolve, reject) => signal.addEventListener("abort", () => reject(signal.reason))),
    ]);
  });
  onTestFinished(() => bank.post.stop({ graceMs: 0 }));
  await bank.post.start();

  // On a busy machine two seconds may not be enough.
  const quick = await eventually(async () => {
    const answer = await bank.create("quick", 3);
    return answer.status === 200 ? answer : undefined;
  });
  expect(quick).toEqual({ status: 200, body: { lines: 3, cents: 600 } });

  const first = await bank.create("slow", 4);
  const second = await bank.create("slow", 4);
  expect([first.status, second.status]).toEqual([202, 202]);
  const [kept, unwanted] = [first, second].map(({ body }) => ("id" in body ? body.id : ""));
  if (kept === undefined || unwanted === undefined) throw new Error("no ids");
  await eventually(async () => (await bank.look(kept)).body.progress === 0.5);
  expect(await bank.look(kept)).toEqual({ status: 200, body: { state: "running", progress: 0.5, result: undefined } });

  expect((await bank.takeBack(unwanted)).body).toBe("signalled");
  await bank.post.receipt(unwanted).settled({ withinMs: 60_000 });
  expect(await bank.explain(unwanted)).toEqual({
    code: "PH_NOT_SUCCEEDED",
    state: "cancelled",
    reason: "while it ran, by bank",
  });

  slow.open(5);
  await bank.post.receipt(kept).settled({ withinMs: 60_000 });
  expect((await bank.look(kept)).body).toEqual({
    state: "succeeded",
    progress: undefined,
    result: { lines: 4, cents: 12 },
  });
  expect((await bank.takeBack(kept)).body).toBe("too-late");
});
