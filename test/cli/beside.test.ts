/**
 * Goal: every command works beside a running application and after its SIGKILL, on a server and on the embedded database, and what
 * it prints as JSON keeps its shape.
 * Method: an application in a process of its own brings messages into every state; the built program is run beside it.
 */
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { eventually } from "../support/eventually.js";
import { createEmbedded } from "../support/pglite.js";
import { type FixtureProcess, spawnFixture } from "../support/processes.js";
import { createDatabase } from "../support/server.js";
import { type Ended, posthornCommand, shapeOf } from "./command.js";

/** The same on every database; a change of a file in `shapes` is a change of what scripts read. */
async function keepsShape(name: string, value: unknown): Promise<void> {
  const text = `${JSON.stringify(shapeOf(value), null, 2)}\n`;
  await expect(text).toMatchFileSnapshot(join(import.meta.dirname, "shapes", `${name}.shape`));
}

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
  const id = { succeeded: "", dead: "", deadTwo: "", invalid: "", hanging: "" };

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
  const stateOf = async (message: string): Promise<string> => (await json("why", message)).value.receivers[0].state;

  beforeAll(async () => {
    ({ url, close } = await home.open());
    app = await spawnFixture("test/cli/fixtures/app.ts", { args: [JSON.stringify({ url })] });
    await app.line("works", { withinMs: 60_000 });
    id.succeeded = await sent("succeed");
    id.dead = await sent("fail until fixed");
    id.deadTwo = await sent("fail");
    id.invalid = await sent("spoil");
    app.say("publish");
    await app.line("published");
    await eventually(async () => {
      const { value } = await json("status");
      const line = value.lines.find(({ name }: { name: string }) => name === "email");
      const open = value.lines.some(({ backlog, running }: Record<string, number>) => backlog !== 0 || running !== 0);
      return line?.deadLetters === 2 && line.invalid === 1 && !open;
    });
    // The application looks every few seconds.
    await eventually(async () => typeof (await json("alerts")).value.open[0]?.raisedAt === "string", {
      withinMs: 60_000,
    });
    id.hanging = await sent("hang");
    await app.line("hangs");
  });
  afterAll(async () => {
    app?.kill();
    await app?.exited;
    await close();
  });

  test("status shows each queue and subscription with its figures, and ends with 1 while an alert is open", async () => {
    const { code, out } = await cli("status");
    expect(code).toBe(1);
    expect(out).toMatch(
      /^Queue or subscription {2}Reads +Waiting +Oldest +Running +Retrying +Dead +Invalid +Workers\n/,
    );
    expect(out).toMatch(/^confirmations +topic orders +0 +- +0 +0 +0 +0 +1$/m);
    expect(out).toMatch(/^email +queue email +0 +\S.* +1 +0 +2 +1 +1$/m);
    expect(out).toMatch(/^Open alerts: 2$/m);
    expect(out).toMatch(/^email +deadLetters +dead letters +2 +1 /m);
    expect(out).toMatch(/^email +invalid +invalid messages +1 +1 /m);
    expect(out.includes("\u001b")).toBe(false);
    const read = await json("status");
    expect(read.code).toBe(1);
    await keepsShape("status", read.value);
  });

  test("status --watch looks again until it is interrupted, and then ends as status does", async () => {
    const watching = await spawnFixture("src/cli/main.ts", {
      args: ["status", "--watch", "--every-ms", "100", "--json", "--database", url],
    });
    await watching.line(/^\{"lines"/);
    await watching.line(/^\{"lines"/);
    watching.kill("SIGINT");
    expect(await watching.exited).toEqual({ code: 1, signal: null });
  });

  test("why says one sentence, and as JSON the facts with it", async () => {
    const { code, out } = await cli("why", id.succeeded);
    expect({ code, out }).toEqual({ code: 0, out: expect.stringMatching(/^succeeded at .+, at the first attempt\n$/) });
    expect((await cli("why", id.hanging)).out).toMatch(
      new RegExp(`^runs since .+ \\(shop, pid ${app.pid} on .+\\), first attempt\n$`),
    );
    await keepsShape("why", (await json("why", id.dead)).value);
  });

  test("waiting lists what has not ended with its id, and nothing that has", async () => {
    expect((await cli("waiting", "email")).out).toMatch(
      new RegExp(
        `^Id .*\n${id.hanging} +SendEmail +- +running .* 0 +since .* worker .*pid ${app.pid} on .*\n\nThese are all\\.`,
      ),
    );
    await keepsShape("waiting", (await json("waiting", "email")).value);
    expect((await cli("waiting", "confirmations")).out).toMatch(/^Nothing of 'confirmations' waits or runs\./);
  });

  test("dead-letters list and show name the message, its error and every attempt", async () => {
    const list = await cli("dead-letters", "list");
    expect(list.code).toBe(0);
    expect(list.out).toMatch(new RegExp(`^${id.dead} +email +SendEmail +[\\d: -]+ 2 +ECONNREFUSED: connect`, "m"));
    expect((await cli("dead-letters", "list", "--limit", "1")).out).toMatch(
      /^The newest 1 of 2 dead letters; --limit shows more\.$/m,
    );
    expect((await cli("dead-letters", "list", "--queue", "email", "--contract", "SendEmail")).out).toBe(list.out);
    expect((await cli("dead-letters", "list", "--subscription", "confirmations")).out).toBe("No dead letters.\n");
    await keepsShape("dead-letters-list", (await json("dead-letters", "list")).value);
    const show = await cli("dead-letters", "show", id.dead);
    expect(show.out).toMatch(/^Contract +SendEmail version 1$/m);
    expect(show.out).toMatch(/attempt 1 failed on worker \d+ \(shop, pid \d+ on .+\): ECONNREFUSED/);
    expect(show.out).toMatch(/attempt 2 failed/);
    expect(show.out).toMatch(/"do": "fail until fixed"/);
    await keepsShape("dead-letters-show", (await json("dead-letters", "show", id.dead)).value);
  });

  test("invalid list and show name the message and what does not fit", async () => {
    expect((await cli("invalid", "list")).out).toMatch(
      new RegExp(`^${id.invalid} +email +SendEmail +.+ - +do: spoiled on the way$`, "m"),
    );
    expect((await cli("invalid", "show", id.invalid)).out).toMatch(/^Issue +do: spoiled on the way$/m);
    await keepsShape("invalid-list", (await json("invalid", "list")).value);
  });

  test("errors groups failures that differ in numbers only, and counts attempts and messages", async () => {
    const { code, out } = await cli("errors");
    expect(code).toBe(0);
    expect(out).toMatch(/^[0-9a-f]{12} +email +SendEmail +4 +2 .+ECONNREFUSED: connect ECONNREFUSED # for mail #/m);
    expect((await cli("errors", "--subscription", "confirmations")).out).toBe(
      "No waiting or dead message has an error.\n",
    );
    const read = await json("errors", "--queue", "email");
    expect(read.value.groups).toHaveLength(1);
    expect([id.dead, id.deadTwo]).toContain(read.value.groups[0].example);
    await keepsShape("errors", read.value);
  });

  test("alerts lists what is open, and ends with 1 while anything is", async () => {
    const { code, out } = await cli("alerts");
    expect(code).toBe(1);
    expect(out).toMatch(/^Open\n.+\nemail +deadLetters /);
    await keepsShape("alerts", (await json("alerts")).value);
  });

  test("policy reads the policy back that the newest worker declared", async () => {
    const { code, out } = await cli("policy", "email");
    expect({ code, out }).toEqual({
      code: 0,
      out: expect.stringMatching(
        /^The queue 'email', as the newest worker declared it:\n {2}tried at 0 s, 50 ms, 2 times/,
      ),
    });
    await keepsShape("policy", (await json("policy", "email")).value);
  });

  test("migrate finds nothing to do beside an application that has migrated", async () => {
    expect(await cli("migrate")).toMatchObject({
      code: 0,
      out: expect.stringMatching(/^The schema has version \d+ and fits; nothing to do\.\n$/),
    });
    await keepsShape("migrate", (await json("migrate", "--dry-run")).value);
  });

  test("a redriven dead letter is handled at once, and a second redrive of it is refused with what became of it", async () => {
    app.say("fix");
    await app.line("fixed");
    const first = await cli("dead-letters", "redrive", id.dead);
    expect(first).toMatchObject({ code: 0, out: `redriven: ${id.dead} of 'email'\n`, err: "" });
    await eventually(async () => (await stateOf(id.dead)) === "succeeded");
    const second = await cli("dead-letters", "redrive", id.dead);
    expect(second.code).toBe(1);
    expect(second.err).toMatch(
      new RegExp(
        `${id.dead} is not among the dead letters; email: succeeded at .+ Nothing was changed\\. \\(PH_NOT_LISTED\\)`,
      ),
    );
  });

  test("a redriven invalid message is handled once its schema takes it", async () => {
    expect(await cli("invalid", "redrive", id.invalid)).toMatchObject({
      code: 0,
      out: `redriven: ${id.invalid} of 'email'\n`,
    });
    await eventually(async () => (await stateOf(id.invalid)) === "succeeded");
  });

  test("a discarded dead letter is gone from the list, and why tells who discarded it and for what reason", async () => {
    expect((await json("dead-letters", "discard", id.deadTwo, "--reason", "no such mailbox")).value).toEqual({
      discarded: 1,
      messages: [{ message: id.deadTwo, subscription: "email" }],
    });
    expect((await cli("dead-letters", "list")).out).toBe("No dead letters.\n");
    expect((await cli("why", id.deadTwo)).out).toMatch(/^discarded at .+ by .+: no such mailbox\n$/);
  });

  test("after a SIGKILL of the application every command still answers, and why says that the worker died", async () => {
    const pending = await sent("succeed");
    app.kill();
    await app.exited;
    await eventually(async () => /its worker died in the first attempt/.test((await cli("why", id.hanging)).out));
    const status = await cli("status");
    expect(status.out).toMatch(/^email .+none$/m);
    expect(status.out).toMatch(
      new RegExp(`^Worker \\d+ \\(shop, pid ${app.pid} on .+\\) is dead: session ended\\.`, "m"),
    );
    expect(["queued", "running", "succeeded"]).toContain(await stateOf(pending));
    for (const [args, code] of [
      [["dead-letters", "list"], 0],
      [["invalid", "list"], 0],
      [["errors"], 0],
      [["policy", "email"], 0],
      [["migrate"], 0],
      [["why", id.dead], 0],
    ] as const) {
      expect([args, (await cli(...args)).code]).toEqual([args, code]);
    }
    // Whether the application resolved its alert before it was killed is a matter of milliseconds; nobody does it afterwards.
    const alerts = await cli("alerts");
    expect(alerts.code).toBe(/^Open$/m.test(alerts.out) ? 1 : 0);
    expect((await cli("alerts")).code).toBe(alerts.code);
  });

  test("what the killed application held is handled by the next one, and its alerts are resolved", async () => {
    app = await spawnFixture("test/cli/fixtures/app.ts", { args: [JSON.stringify({ url })] });
    await app.line("works", { withinMs: 60_000 });
    await app.line("hangs");
    await eventually(async () => /^runs since/.test((await cli("why", id.hanging)).out));
    await eventually(async () => (await json("alerts")).value.open.length === 0, { withinMs: 60_000 });
    expect(await cli("status")).toMatchObject({ code: 0, out: expect.stringContaining("No alert is open.") });
  });
});
