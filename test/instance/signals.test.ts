import { command, type Post, posthorn, type Sql, type } from "posthorn";
import { afterAll, beforeAll, expect, test } from "vitest";
import { silentLogger } from "../../src/core/logger.js";
import { spawnFixture } from "../support/processes.js";
import { createDatabase, type TestDatabase } from "../support/server.js";

const Hold = command("HoldOn", { queue: "holding", schema: type<object>() });

let place: TestDatabase;
let post: Post<Sql>;
beforeAll(async () => {
  place = await createDatabase();
  post = posthorn({ service: "asker", database: place.url, migrate: "auto", logger: silentLogger });
  await post.migrate();
});
afterAll(async () => {
  await post.stop();
  await place.drop();
});

const spawn = (...args: string[]) =>
  spawnFixture("test/instance/fixtures/signalled.ts", { args: [place.url, ...args] });

test.each(["SIGTERM", "SIGINT"] as const)(
  "%s lets the running handler finish, and then ends the process as the signal would",
  async (signal) => {
    const worker = await spawn();
    await worker.line("works");
    const receipt = await post.send(Hold, {});
    await worker.line("holds");
    worker.kill(signal);
    await worker.line(new RegExp(`^${signal}: running handlers may finish`));
    worker.say("go");
    expect(await worker.exited).toEqual({ code: null, signal });
    expect(await receipt.status()).toMatchObject({ state: "succeeded" });
  },
);

test("a second signal ends the process at once, and the message runs elsewhere", async () => {
  const worker = await spawn();
  await worker.line("works");
  const receipt = await post.send(Hold, {});
  await worker.line("holds");
  worker.kill("SIGTERM");
  await worker.line(/^SIGTERM: running handlers may finish/);
  worker.kill("SIGTERM");
  expect(await worker.exited).toEqual({ code: 143, signal: null });
  const other = await spawn();
  await other.line("holds");
  other.say("go");
  expect(await receipt.settled({ withinMs: 60_000 })).toMatchObject({ state: "succeeded" });
  other.kill("SIGTERM");
  await other.exited;
});

test("where the program listens as well, its end is its own affair", async () => {
  const worker = await spawn("listens");
  await worker.line("works");
  worker.kill("SIGTERM");
  await worker.line("heard it as well");
  await worker.line("ends by itself");
  expect(await worker.exited).toEqual({ code: 7, signal: null });
});

test("without the option no listener is added, and after stop() none is left", async () => {
  const before = process.listenerCount("SIGTERM");
  const quiet = posthorn({ service: "quiet", database: place.url, logger: silentLogger });
  await quiet.start();
  expect(process.listenerCount("SIGTERM")).toBe(before);
  await quiet.stop();
  const hearing = posthorn({ service: "hearing", database: place.url, logger: silentLogger });
  await hearing.start({ handleSignals: true });
  expect(process.listenerCount("SIGTERM")).toBe(before + 1);
  await hearing.stop();
  expect(process.listenerCount("SIGTERM")).toBe(before);
});
