import { Client } from "pg";
import { expect, test } from "vitest";
import { command, policies, posthorn, type } from "../../src/index.js";
import { eventually } from "../support/eventually.js";
import { createDatabase } from "../support/server.js";

const Work = command("DoWork", { queue: "work", schema: type<{ n: number }>() });

/**
 * Goal: an open transaction anywhere delays only its own messages, whether it has written a message, something else, or nothing.
 * Method: three transactions are held open on the server, one in another database, the first with a message whose id is lower than all
 * that follow. A hundred messages are sent and must be handled while all three are open; the first one comes when its transaction
 * commits. A reader that waits for the oldest open transaction would never handle the hundred: the test would run out of time.
 */
test("an open transaction anywhere delays only its own messages", async () => {
  const { url, drop } = await createDatabase();
  const elsewhere = await createDatabase();
  const holders = [new Client(url), new Client(url), new Client(elsewhere.url)] as const;
  const post = posthorn({ service: "holder", database: url, migrate: "auto" });
  const handled: number[] = [];
  post.queue("work", policies.notify).handle(Work, ({ n }) => {
    handled.push(n);
  });
  try {
    await post.start();
    for (const holder of holders) await holder.connect();
    const [saying, writing, foreign] = holders;
    await saying.query("begin");
    await post.in(saying).send(Work, { n: -1 });
    await writing.query("begin; create table something (n int); insert into something values (1)");
    await foreign.query("begin; create table something (n int)");

    for (let n = 0; n < 100; n += 1) await post.send(Work, { n });
    await eventually(() => handled.length === 100, { withinMs: 60_000 });
    expect(handled.toSorted((a, b) => a - b)).toEqual(Array.from({ length: 100 }, (_, n) => n));

    await saying.query("commit");
    await eventually(() => handled.includes(-1), { withinMs: 60_000 });
    await post.untilIdle();
    expect(handled).toHaveLength(101);
  } finally {
    await post.stop();
    for (const holder of holders) await holder.end();
    await elsewhere.drop();
    await drop();
  }
});
