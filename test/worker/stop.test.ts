import { expect, test } from "vitest";
import { command, policies, posthorn, type } from "../../src/index.js";
import { createDatabase } from "../support/server.js";

const Work = command("DoWork", { queue: "work", schema: type<{ n: number }>() });
const Note = command("NoteWork", { queue: "notes", schema: type<{ n: number }>() });

/** The old code waited out the whole grace time when nothing ran and a claim came back empty: here longer than the test may take. */
const graceMs = 600_000;

test("a worker that has nothing to do stops without waiting for the grace time", async () => {
  const { url, drop } = await createDatabase();
  try {
    for (let i = 0; i < 5; i += 1) {
      const post = posthorn({ service: "stopper", database: url, migrate: "auto" });
      post.queue("work", policies.email).handle(Work, () => undefined);
      post.queue("notes", policies.rollUp).handle(Note, () => undefined);
      await post.start();
      if (i % 2 === 0) await post.send(Work, { n: i });
      await post.stop({ graceMs });
    }
  } finally {
    await drop();
  }
});

test("a handler that runs while its instance stops can still say and ask, and is not failed by the stop", async () => {
  const { url, drop } = await createDatabase();
  try {
    const post = posthorn({ service: "stopper", database: url, migrate: "auto" });
    let begun: () => void = () => undefined;
    const running = new Promise<void>((resolve) => {
      begun = resolve;
    });
    let go: () => void = () => undefined;
    const stopping = new Promise<void>((resolve) => {
      go = resolve;
    });
    post.queue("work", policies.email).handle(Work, async ({ n }) => {
      begun();
      await stopping;
      await post.send(Note, { n });
      await post.transaction(async ({ tx, send }) => {
        await tx.query("select 1");
        send(Note, { n });
      });
    });
    await post.start();
    const receipt = await post.send(Work, { n: 1 });
    await running;
    const stopped = post.stop({ graceMs });
    go();
    await stopped;
    await expect(post.send(Note, { n: 1 })).rejects.toMatchObject({ code: "PH_STOPPED" });

    const after = posthorn({ service: "reader", database: url });
    expect(await after.statusOf(receipt.id)).toMatchObject([{ subscription: "work", state: "succeeded" }]);
    expect(await after.backlog()).toMatchObject([
      { name: "notes", backlog: 2 },
      { name: "work", backlog: 0 },
    ]);
    await after.stop();
  } finally {
    await drop();
  }
});
