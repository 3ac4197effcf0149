import { expect, test } from "vitest";
import { openDatabase } from "../../src/databases/open.js";
import { command, policies, posthorn, type } from "../../src/index.js";
import { eventually } from "../support/eventually.js";
import { createDatabase } from "../support/server.js";

// It began anew without a pause, as often as it could: connections, registrations and log lines many times a second, for as long as it broke.
test("a worker that breaks again and again right after it began waits longer each time before it begins anew", async () => {
  const { url, drop } = await createDatabase();
  const database = await openDatabase(url);
  const pauses: unknown[] = [];
  const logger = {
    info: () => undefined,
    error: () => undefined,
    warn: (text: string, facts?: Readonly<Record<string, unknown>>) => {
      if (text.includes("begins anew")) pauses.push(facts?.inMs);
    },
  };
  const post = posthorn({ service: "unsteady", database: url, migrate: "auto", logger });
  try {
    const Work = command("DoWork", { queue: "work", schema: type<object>() });
    post.queue("work", policies.email).handle(Work, () => undefined);
    await post.start();
    // From here on each incarnation begins, looks once, and breaks.
    await database.query("drop function posthorn.peek");
    await eventually(async () => pauses.length >= 4);
    expect(pauses.slice(0, 4)).toEqual([0, 100, 200, 400]);
  } finally {
    await post.stop();
    await database.close();
    await drop();
  }
});
