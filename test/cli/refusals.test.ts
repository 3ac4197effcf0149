/**
 * Goal: what the command line cannot do is refused with the reason and the way out, with 2 where nothing was tried, and nothing is changed.
 * Method: the built program in folders of its own, without a database where none is needed.
 */
import { execFileSync } from "node:child_process";
import { rm } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { commands } from "../../src/cli/table.js";
import { type Ended, posthornCommand, project } from "./command.js";

const url = "postgres://nobody@127.0.0.1:1/nothing";
const instance = (database: string, more = "") => `
import { command, event, policies, posthorn, type } from "posthorn";
const SendEmail = command("SendEmail", { queue: "email", schema: type() });
const post = posthorn({ service: "shop", database: ${JSON.stringify(database)} });
post.queue("email", policies.email).handle(SendEmail, () => undefined);
${more}`;

async function refused(args: readonly string[], cwd?: string): Promise<string> {
  const ended = await posthornCommand(args, cwd === undefined ? {} : { cwd });
  expect(ended).toMatchObject({ code: 2, out: "" });
  expect(ended.err).not.toContain("    at ");
  return ended.err;
}

describe("a line that the table does not hold", () => {
  test.each([
    [
      "an unknown command, with the nearest",
      ["statsu"],
      /no command "statsu"\. Did you mean "status"\? Known are: status, waiting, why/,
    ],
    ["a group with an unknown verb", ["invalid", "lst"], /needs one of list, show, redrive, discard, got "lst"/],
    ["an unknown option, with the nearest", ["status", "--jon"], /no option "--jon"\. Did you mean --json\?/],
    ["an option of another command", ["status", "--reason", "x"], /posthorn status has no option "--reason"/],
    ["an unknown short option", ["status", "-x"], /no option "-x"/],
    ["an argument too many", ["status", "now"], /takes no argument, got "now"/],
    ["an argument too few", ["why"], /needs <id>: The id of a message/],
    ["a value that is missing", ["status", "--database"], /--database needs a value/],
    ["a value that is empty", ["status", "--database="], /--database needs a value/],
    ["a value where none belongs", ["status", "--json=yes"], /--json takes no value/],
    ["a number that is none", ["errors", "--limit", "many"], /--limit must be an integer from 1 to 1000, got "many"/],
    ["a number outside of its range", ["errors", "--limit", "0"], /--limit must be an integer from 1 to 1000, got "0"/],
    ["the same option twice", ["errors", "--limit", "1", "--limit", "2"], /--limit is given twice/],
    [
      "a database of an unknown form, which is not repeated",
      ["status", "--database", "mysql://u:secret@h/d"],
      /--database must be a postgres:\/\/ URL or embedded:<folder>/,
    ],
    ["a text that can be no id", ["dead-letters", "show", "42"], /"42" is not the id of a message/],
    ["why with an entry of an intake", ["why", "in-1"], /never written here: see posthorn invalid show in-1/],
    ["discarding without a reason", ["dead-letters", "discard", "42-00c0ffee00c0ffee"], /needs --reason <text>/],
    [
      "an id and --all",
      ["dead-letters", "redrive", "42-00c0ffee00c0ffee", "--all"],
      /needs one id, or --all or --group, and not both/,
    ],
    ["neither an id nor --all", ["invalid", "redrive"], /needs one id, or --all or --group, and not both/],
    [
      "two queues where one is read",
      ["errors", "--queue", "a", "--subscription", "b"],
      /Name one queue or subscription/,
    ],
    ["two questions to migrate", ["migrate", "--dry-run", "--print"], /Pass one of them/],
    ["help for an unknown command", ["help", "dve", "--json"], undefined],
  ])("%s is refused", async (_what, args, words) => {
    if (words === undefined) {
      const { code, out } = await posthornCommand(args);
      expect(code).toBe(2);
      expect(out).toMatch(/There is no command/);
      return;
    }
    const said = await refused(args);
    expect(said).toMatch(words);
    expect(said).not.toContain("secret");
  });
});

test("an option has the same type in every command, so that a line can be read before its command is known", () => {
  const types = new Map<string, Set<string>>();
  for (const { options } of Object.values(commands)) {
    for (const [name, { type }] of Object.entries(options)) types.set(name, (types.get(name) ?? new Set()).add(type));
  }
  expect([...types].filter(([, all]) => all.size > 1)).toEqual([]);
});

describe("a configuration", () => {
  test("that is nowhere is refused with the names that were looked for and the folder", async () => {
    const cwd = await project();
    expect(await refused(["status"], cwd)).toMatch(
      new RegExp(
        `No posthorn\\.config\\.ts, posthorn\\.config\\.js, posthorn\\.config\\.mjs was found in .*${cwd.split("/").at(-1)}.* or above it.*PH_CONFIG_MISSING`,
      ),
    );
    expect(await refused(["status", "--config", "other.mjs"], cwd)).toMatch(/There is no file .+other\.mjs/);
  });

  test("that throws is refused with the file and the reason", async () => {
    const cwd = await project({ "posthorn.config.mjs": 'throw new TypeError("no mail server is configured");' });
    expect(await refused(["status"], cwd)).toMatch(
      /posthorn\.config\.mjs cannot be loaded: TypeError: no mail server is configured.*PH_CONFIG_BROKEN/,
    );
  });

  test("that does not parse, or imports what is not there, is refused with the file and the reason", async () => {
    const cwd = await project({
      "posthorn.config.mjs": "export const post = ;",
      "lacks/posthorn.config.mjs": 'import "./nothing.js";',
    });
    expect(await refused(["status"], cwd)).toMatch(/posthorn\.config\.mjs cannot be loaded: SyntaxError/);
    expect(await refused(["status"], join(cwd, "lacks"))).toMatch(
      /lacks\/posthorn\.config\.mjs cannot be loaded: .*nothing\.js/,
    );
  });

  test("that exports no instance is refused with what it exports", async () => {
    const cwd = await project({ "posthorn.config.mjs": "export const posts = { start() {} }; export const post = 1;" });
    expect(await refused(["status"], cwd)).toMatch(/posthorn\.config\.mjs exports no instance.*It exports post, posts/);
  });

  test("in TypeScript is loaded, as is one that imports TypeScript by a name that ends in .js", async () => {
    const cwd = await project({
      "posthorn.config.ts": 'export { post } from "./src/post.js";',
      "src/post.ts": instance(url, "const kept: unknown = post;\nexport { kept as post };"),
    });
    expect(await posthornCommand(["check", "--offline"], { cwd })).toMatchObject({
      code: 0,
      out: "Nothing is wrong.\n",
    });
  });

  test("in TypeScript without a loader says what to install", async () => {
    const cwd = await project({
      "posthorn.config.ts": "export const post: number = 1;",
      "hide.mjs": 'import { register } from "node:module"; register("./hook.mjs", import.meta.url);',
      "hook.mjs":
        'export async function resolve(name, context, next) { if (name === "jiti") throw new Error("jiti is not installed"); return next(name, context); }',
    });
    const ended = await posthornCommand(["status"], { cwd, node: ["--import", join(cwd, "hide.mjs")] });
    expect(ended.code).toBe(2);
    if (!("typescript" in process.features))
      expect(ended.err).toMatch(/does not read TypeScript\. Run npm install --save-dev jiti/);
  });

  test("is found from a folder below, read in its own folder, and taken from its default export as well", async () => {
    const cwd = await project({
      "posthorn.config.js": instance("embedded:.data", "export default post;"),
      "deep/er/x.txt": "",
    });
    expect(await refused(["status"], join(cwd, "deep/er"))).toMatch(
      /There is no embedded database in .+\/\.data\. Start the application once/,
    );
    const migrated = await posthornCommand(["migrate"], { cwd: join(cwd, "deep/er") });
    expect(migrated).toMatchObject({ code: 0, out: expect.stringMatching(/^Migrated from nothing to version \d+:/) });
    expect(await posthornCommand(["status"], { cwd: join(cwd, "deep/er") })).toMatchObject({ code: 0 });
    await rm(join(cwd, ".data"), { recursive: true });
  });

  test("names a queue by policy and refuses an unknown one with those it declares", async () => {
    const cwd = await project({ "posthorn.config.mjs": instance(url, "export { post };") });
    const known = await posthornCommand(["policy", "email", "--json"], { cwd });
    expect(JSON.parse(known.out)).toMatchObject({
      name: "email",
      kind: "command",
      from: "code",
      policy: { idempotency: "handler" },
    });
    expect(await refused(["policy", "emai"], cwd)).toMatch(
      /declares no queue or subscription called "emai"\. Did you mean "email"\?/,
    );
  });
});

describe("a database", () => {
  test("that is away is said with 1, on one line and without the password", async () => {
    const ended = await posthornCommand(["status", "--database", "postgres://nobody:secret@127.0.0.1:1/nothing"]);
    expect(ended).toMatchObject({ code: 1, out: "" });
    expect(ended.err).toMatch(/PH_DATABASE_AWAY/);
    expect(ended.err).not.toContain("secret");
    const json = await posthornCommand([
      "status",
      "--database",
      "postgres://nobody:secret@127.0.0.1:1/nothing",
      "--json",
    ]);
    expect(json).toMatchObject({ code: 1, err: "" });
    expect(JSON.parse(json.out)).toMatchObject({ error: { code: "PH_DATABASE_AWAY" } });
  });

  test("that is an embedded folder which is not there is not made by a look", async () => {
    const cwd = await project();
    for (const args of [["status"], ["errors"], ["migrate", "--dry-run"]]) {
      expect(await refused([...args, "--database", "embedded:nowhere"], cwd)).toMatch(
        /There is no embedded database in .+nowhere/,
      );
    }
    expect(() => execFileSync("ls", [join(cwd, "nowhere")], { stdio: "pipe" })).toThrow();
  });
});

describe("help and version", () => {
  const words = async (...args: readonly string[]): Promise<Ended> => posthornCommand(args);

  test("are printed with 0, for all commands and for one, however they are asked for", async () => {
    const all = await words("--help");
    expect(all).toMatchObject({ code: 0, err: "" });
    expect(all.out).toMatch(/^ {2}why +Say in one sentence/m);
    for (const args of [[], ["help"], ["-h"]]) expect(await words(...args)).toEqual(all);
    const one = await words("dead-letters", "redrive", "--help");
    expect(one.out).toMatch(/^posthorn dead-letters redrive \[id\] \[options\]\n/);
    expect(one.out).toMatch(/^ {2}--yes +Do not ask/m);
    for (const args of [
      ["help", "dead-letters", "redrive"],
      ["help", "dead-letters", "redrive", "some"],
      ["dead-letters", "redrive", "some", "--help"],
    ])
      expect(await words(...args)).toEqual(one);
    expect((await words("--version")).out).toMatch(/^\d+\.\d+\.\d+\n$/);
    expect(JSON.parse((await words("help", "why", "--json")).out)).toMatchObject({
      commands: { why: { argument: { name: "id" } } },
    });
  });
});
