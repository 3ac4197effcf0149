import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { eventually } from "../support/eventually.js";
import { createEmbedded } from "../support/pglite.js";
import { type FixtureProcess, spawnFixture } from "../support/processes.js";
import { createDatabase } from "../support/server.js";
import { type Ended, posthornCommand } from "./command.js";

const homes = [
  {
    name: "a server",
    open: async () => {
      const database = await createDatabase();
      return { url: database.url, close: () => database.drop() };
    },
  },
  {
    name: "the embedded database",
    open: async () => {
      const { url, remove } = await createEmbedded();
      return { url, close: remove };
    },
  },
];

describe.each(homes)("beside an application on $name", (home) => {
  let url = "";
  let close = async (): Promise<void> => undefined;
  let app: FixtureProcess;

  const cli = (...args: readonly string[]): Promise<Ended> => posthornCommand([...args, "--database", url]);
  const json = async (...args: readonly string[]) => {
    const ended = await cli(...args, "--json");
    expect(ended.err).toBe("");
    return { code: ended.code, value: JSON.parse(ended.out) };
  };
  const sent = async (what: string): Promise<string> => {
    app.say(`send ${what}`);
    return (await app.line(/^id /)).slice(3);
  };
  const why = async (id: string): Promise<string> => (await cli("why", id)).out.trimEnd();
  const line = async (name: string) =>
    (await json("status")).value.lines.find((one: { name: string }) => one.name === name);

  beforeAll(async () => {
    ({ url, close } = await home.open());
    app = await spawnFixture("test/cli/fixtures/app.ts", { args: [JSON.stringify({ url })] });
    await app.line("works", { withinMs: 60_000 });
  });
  afterAll(async () => {
    app?.kill();
    await app?.exited;
    await close();
  });

  test("a paused queue is not worked on, status and why say since when and by whom, and resumed it goes on", async () => {
    const paused = await cli("pause", "email", "--reason", "the provider is down");
    expect(paused).toMatchObject({ code: 0, out: expect.stringMatching(/^Paused 'email'\. /), err: "" });
    const id = await sent("succeed");
    expect(await why(id)).toMatch(/^'email' is paused since .+ by .+: the provider is down$/);
    expect((await cli("status")).out).toMatch(/^email is paused since .+ by .+: the provider is down\.$/m);
    expect((await line("email")).paused).toMatchObject({ reason: "the provider is down" });
    expect((await cli("pause", "email")).out).toMatch(/^'email' is paused already, since /);
    expect((await cli("drain", "email")).code).toBe(2);
    // Whoever works looks every second: a message that nobody takes for longer than that is kept back.
    expect((await json("drain", "confirmations")).value).toMatchObject({ drained: true });
    expect(await why(id)).toMatch(/^'email' is paused/);
    expect((await cli("resume", "email")).out).toMatch(/^Resumed 'email', which was paused since /);
    await eventually(async () => /^succeeded/.test(await why(id)));
    expect((await cli("resume", "email")).out).toBe("'email' was not paused.\n");
  });

  test("drain ends with 0 once nothing is left, and with 1 when something is left at the end of its time", async () => {
    expect(await cli("drain", "email")).toMatchObject({
      code: 0,
      out: "'email' is drained: nothing waits, and nothing runs.\n",
    });
    const id = await sent("hang");
    await app.line("hangs");
    const left = await json("drain", "email", "--within-ms", "0");
    expect(left).toMatchObject({ code: 1, value: { drained: false, running: 1, waiting: 0 } });
    await cli("cancel", id);
    expect((await cli("drain", "email")).code).toBe(0);
  });

  test("purge asks, ends what waits as discarded, and says how many", async () => {
    await cli("pause", "email");
    app.say("many 700 succeed");
    await app.line("sent");
    const id = await sent("succeed");
    const unsure = await cli("purge", "email", "--reason", "sent twice");
    expect(unsure).toMatchObject({ code: 2, out: "" });
    expect(unsure.err).toMatch(
      /This would purge 701 messages of 'email', and nobody can be asked here\..*PH_CONFIRMATION_MISSING/,
    );
    const purged = await cli("purge", "email", "--yes", "--reason", "sent twice");
    expect(purged).toMatchObject({ code: 0, out: "purged: 701 messages\n" });
    expect(purged.err).toMatch(
      /^Operation \d+; if it is interrupted: posthorn audit continue \d+\n(.*\n)*purged 701 of 701\n$/,
    );
    expect(await why(id)).toMatch(/^discarded at .+ by .+: sent twice$/);
    expect((await cli("purge", "email", "--yes")).out).toBe("purged: 0 messages\n");
    expect((await cli("purge", "email", "--yes", "--state", "running")).code).toBe(2);
    await cli("resume", "email");
  });

  test("dead letters of one group are redriven at a pace, and those of another stay", async () => {
    const mended = await sent("fail until fixed");
    await eventually(async () => (await line("email")).deadLetters === 1);
    const [group] = (await json("errors", "--queue", "email")).value.groups;
    expect(await json("dead-letters", "redrive", "--group", "000000000000", "--yes")).toMatchObject({
      code: 1,
      value: { error: { code: "PH_NOT_LISTED", facts: { group: "000000000000" } } },
    });
    app.say("fix");
    await app.line("fixed");
    const done = await json("dead-letters", "redrive", "--group", group.fingerprint, "--yes", "--rate", "10");
    expect(done.value).toMatchObject({ redriven: 1, operation: expect.any(String) });
    await eventually(async () => /^succeeded/.test(await why(mended)));
  });

  test("replay has what was handled handled once more, however early it is to begin as long as nothing has gone", async () => {
    app.say("publish");
    await app.line("published");
    await eventually(async () => (await json("drain", "confirmations")).value.drained);
    const from = "2020-01-01T00:00:00Z";
    expect(await cli("replay", "confirmations", "--from", from)).toMatchObject({ code: 2, out: "" });
    const done = await json("replay", "confirmations", "--from", from, "--yes", "--rate", "50");
    expect(done.value).toMatchObject({ replayed: 1, passed: { waiting: 0, ended: 0, unhandled: 0 } });
    await eventually(async () => (await json("drain", "confirmations")).value.drained);
    expect((await cli("replay", "confirmations")).err).toMatch(/--from needs a time such as/);
  });

  test("subscriptions are listed, one that is worked on is not removed, and one that nobody works on is, with what it had not read", async () => {
    expect((await cli("subscriptions", "list")).out).toMatch(/^confirmations +topic orders +.+ 0 +1 +shop/m);
    const refused = await cli("subscriptions", "remove", "confirmations", "--yes");
    expect(refused.code).toBe(2);
    expect(refused.err).toMatch(/"confirmations" is worked on by worker .+PH_SUBSCRIPTION_IN_USE/i);
    expect((await cli("subscriptions", "remove", "email", "--yes")).err).toMatch(/is a queue and has its reader/);
    expect((await cli("subscriptions", "remove", "confirmation", "--yes")).err).toMatch(
      /Did you mean "confirmations"\?/,
    );
  });

  test("audit lists what was done, by whom and how many, the newest first; unknown names and numbers are refused", async () => {
    const { code, value } = await json("audit");
    expect(code).toBe(0);
    const verbs = value.operations.map(({ verb, target, state, done }: Record<string, unknown>) => [
      verb,
      target,
      state,
      done,
    ]);
    expect(verbs).toContainEqual(["purge", "email", "done", 701]);
    expect(verbs).toContainEqual(["pause", "email", "done", 1]);
    expect(verbs).toContainEqual(["replay", "confirmations", "done", 1]);
    expect((await cli("audit", "--unfinished")).out).toBe("Nothing is recorded.\n");
    expect((await cli("audit")).out).toMatch(/^ *\d+ +purge +email .+ done +701 +701 +sent twice$/m);
    expect((await cli("audit", "continue", "999999")).code).toBe(2);
    expect((await cli("audit", "stop", "999999")).code).toBe(1);
    for (const verb of ["pause", "resume", "drain", "purge"]) {
      expect([verb, (await cli(verb, "emails")).err]).toEqual([
        verb,
        expect.stringMatching(
          /No queue(?: or subscription|, subscription or intake) is called "emails"\. Did you mean "email"\?/,
        ),
      ]);
    }
    expect((await cli("erase")).code).toBe(2);
  });
});
