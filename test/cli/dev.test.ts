/**
 * Goal: `posthorn dev` always runs the newest code that can be run, and loses no message on the way.
 * Method: the built program in a folder whose files change; the process that it starts is killed, crashes and hangs.
 */
import { mkdir, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { Client } from "pg";
import { expect, test } from "vitest";
import { isAlive } from "../support/alive.js";
import { eventually } from "../support/eventually.js";
import { copyEmbedded } from "../support/pglite.js";
import { posthornCommand, project } from "./command.js";
import { Dev, handling, onServer, patience, save, send, shop } from "./developing.js";

const withoutCatchers = ["--json", "--no-catch"];
const longEnough = 120_000;

/** The first process hangs in it; the next does not, because the mark is gone. */
const hangsWhileMarked = `
  const { existsSync } = await import("node:fs");
  if (existsSync("mark")) { console.log("hangs " + payload.n); await new Promise(() => undefined); }
  console.log("handled " + payload.n);`;

test(
  "dev handles with the new code once a source has changed, in a new process",
  async () => {
    const folder = await shop('console.log("old " + payload.n);');
    const dev = await Dev.start(folder, withoutCatchers, await onServer());
    const first = await dev.next("started");
    expect(first.worksOn).toEqual(["email"]);
    await send(dev, { n: "1" });
    await dev.printed("old 1");
    await save(folder, "handlers.mjs", handling('console.log("new " + payload.n);'));
    expect((await dev.next("changed")).files).toEqual([expect.stringMatching(/\/handlers\.mjs$/)]);
    const second = await dev.next("started");
    expect(second.pid).not.toBe(first.pid);
    expect(isAlive(first.pid)).toBe(false);
    await send(dev, { n: "2" });
    await dev.printed("new 2");
  },
  longEnough,
);

test(
  "dev shows a syntax error with its file and line, waits, and goes on once it is mended; what was said meanwhile is handled",
  async () => {
    const env = await onServer();
    const folder = await shop("console.log(payload.n);");
    const dev = await Dev.start(folder, withoutCatchers, env);
    await dev.next("started");
    await save(folder, "handlers.mjs", "\nconst = 3;\n");
    const failed = await dev.next("failed");
    expect(failed).toMatchObject({ code: "PH_CONFIG_BROKEN", againInMs: null });
    expect(failed.message).toMatch(/posthorn\.config\.mjs cannot be loaded: SyntaxError: .+ \(handlers\.mjs:2\)$/);
    const client = new Client({ connectionString: env.DATABASE_URL });
    await client.connect();
    await client.query("select posthorn.send('SendEmail', '{\"n\":\"2\"}')");
    await client.end();
    await save(folder, "handlers.mjs", handling('console.log("mended " + payload.n);'));
    await dev.printed("mended 2");
  },
  longEnough,
);

test(
  "dev goes on by itself once a missing file is written into a new folder, and when the configuration comes back",
  async () => {
    const folder = await shop("console.log(payload.n);", { "desk.mjs": 'import "./lib/later.mjs";' });
    const dev = await Dev.start(folder, withoutCatchers, await onServer());
    expect((await dev.next("failed")).message).toMatch(/Cannot find module .+later\.mjs/);
    await mkdir(join(folder, "lib"));
    await save(folder, "lib/later.mjs", 'console.log("is here");');
    await dev.printed("is here");
    await dev.next("started");
    await rm(join(folder, "posthorn.config.mjs"));
    expect(await dev.next("failed")).toMatchObject({ code: "PH_CONFIG_MISSING", againInMs: null });
    await save(folder, "posthorn.config.mjs", 'export { post } from "./post.mjs";');
    await dev.next("started");
  },
  longEnough,
);

test.each(["a server", "the embedded database"])(
  "a process of dev that is killed in mid-handler starts again by itself, and the message is handled: on %s",
  async (database) => {
    const folder = await shop(hangsWhileMarked, { mark: "" });
    if (database !== "a server") await copyEmbedded(join(folder, ".data"));
    const dev = await Dev.start(folder, withoutCatchers, database === "a server" ? await onServer() : {});
    const { pid } = await dev.next("started");
    await send(dev, { n: "1" });
    await dev.printed("hangs 1");
    await rm(join(folder, "mark"));
    process.kill(pid, "SIGKILL");
    expect(await dev.next("ended")).toEqual({ event: "ended", pid, code: null, signal: "SIGKILL", againInMs: 0 });
    await dev.printed("handled 1");
  },
  longEnough,
);

test(
  "a handler that runs on past its grace time at a change is not waited for, and its message is handled by the new code",
  async () => {
    const folder = await shop(hangsWhileMarked, { mark: "" });
    const dev = await Dev.start(folder, [...withoutCatchers, "--grace-ms", "0"], await onServer());
    await dev.next("started");
    await send(dev, { n: "1" });
    await dev.printed("hangs 1");
    await save(folder, "handlers.mjs", handling('console.log("new " + payload.n);'));
    await dev.printed("new 1");
  },
  longEnough,
);

test(
  "a handler that ends within its grace time at a change is waited for",
  async () => {
    const ends = `
      console.log("began");
      while (!(await import("node:fs")).existsSync("go")) await new Promise((wake) => setTimeout(wake, 20));
      console.log("ended");`;
    const env = await onServer();
    const folder = await shop(ends);
    const dev = await Dev.start(folder, [...withoutCatchers, "--grace-ms", "60000"], env);
    await dev.next("started");
    const id = await send(dev, { n: "1" });
    await dev.printed("began");
    await save(folder, "handlers.mjs", handling('console.log("new");'));
    await dev.next("changed");
    await writeFile(join(folder, "go"), "");
    await dev.printed("ended");
    await dev.next("started");
    const why = await posthornCommand(["why", id, "--database", env.DATABASE_URL]);
    expect(why.out).toMatch(/^succeeded at .+, at the first attempt\n$/);
  },
  longEnough,
);

test(
  "a crash of the user's code is shown with what it printed, and waits for a change; so does an end of its own",
  async () => {
    const late =
      'await globalThis.answered;\nsetTimeout(() => { throw new Error("late"); });\nawait new Promise(() => undefined);';
    const folder = await shop(late);
    const dev = await Dev.start(folder, withoutCatchers, await onServer());
    const { pid } = await dev.next("started");
    await send(dev, { n: "1" });
    await dev.next("output", ({ stream, text }) => stream === "stderr" && text === "Error: late");
    expect(await dev.next("ended")).toMatchObject({ pid, code: 1, signal: null, againInMs: null });
    await save(folder, "handlers.mjs", handling("process.exit(0);"));
    const next = await dev.next("ended");
    expect(next).toMatchObject({ code: 0, signal: null, againInMs: null });
    await save(folder, "handlers.mjs", handling('console.log("mended");'));
    await dev.printed("mended");
  },
  longEnough,
);

test(
  "a database that is away is tried again by itself",
  async () => {
    const folder = await shop("console.log(payload.n);");
    const dev = await Dev.start(folder, withoutCatchers, { DATABASE_URL: "postgres://nobody@127.0.0.1:1/nothing" });
    expect(await dev.next("failed")).toMatchObject({ code: "PH_DATABASE_AWAY", againInMs: expect.any(Number) });
    expect(await dev.next("failed")).toMatchObject({ code: "PH_DATABASE_AWAY" });
  },
  longEnough,
);

test(
  "dev restarts for sources alone: not for what is installed, hidden, ignored or of another kind; and for those of --also",
  async () => {
    const other = await project({ "shared.json": "{}" });
    const folder = await shop("console.log(payload.n);", { "node_modules/dep/index.js": "", "out/index.js": "" });
    const dev = await Dev.start(folder, [...withoutCatchers, "--also", other, "--ignore", "out"], await onServer());
    await dev.next("started");
    for (const name of ["node_modules/dep/index.js", "out/index.js", ".hidden.js", "notes.txt"])
      await writeFile(join(folder, name), "1");
    await save(other, "shared.json", '{ "changed": true }');
    expect((await dev.next("changed")).files).toEqual([join(other, "shared.json")]);
    await dev.next("started");
    await rm(join(folder, "desk.mjs"));
    expect((await dev.next("changed")).files).toEqual([expect.stringMatching(/\/desk\.mjs$/)]);
    expect((await dev.next("failed")).message).toContain("desk.mjs");
  },
  longEnough,
);

test(
  "--embedded has a configuration that reads DATABASE_URL use that folder, and is refused where it is not read",
  async () => {
    const folder = await shop("console.log(payload.n);");
    const dev = await Dev.start(folder, [...withoutCatchers, "--embedded", ".other"], {
      DATABASE_URL: "postgres://nobody@127.0.0.1:1/nothing",
    });
    expect((await dev.next("loaded")).database).toMatch(/^embedded:.+\/\.other$/);
    await dev.next("started");
    // In this order: a start between the two works.
    await save(folder, "posthorn.config.mjs", 'export { post } from "./post.mjs";');
    await save(
      folder,
      "post.mjs",
      'import { posthorn } from "posthorn"; export const post = posthorn({ service: "shop", database: "embedded:.mine" });',
    );
    const failed = await dev.next("failed");
    expect(failed).toMatchObject({ code: "PH_CONFIG_BROKEN", againInMs: null });
    expect(failed.message).toMatch(
      /--embedded sets DATABASE_URL, and .+posthorn\.config\.mjs uses embedded:.+\.mine all the same/,
    );
  },
  longEnough,
);

test(
  "the status tells what waits, runs, is retried and dead, the last failure, the workers and open alerts",
  async () => {
    const folder = await shop(
      'if (payload.fail) throw Object.assign(new Error("no route"), { code: "EHOSTUNREACH" });',
    );
    const dev = await Dev.start(folder, withoutCatchers, await onServer());
    await dev.next("started");
    await send(dev, { fail: "yes" });
    const { look, failures } = await dev.next("status", (event) => event.look.lines[0]?.deadLetters === 1);
    expect(look.lines).toMatchObject([{ name: "email", backlog: 0, running: 0, retrying: 0, workers: 1 }]);
    expect(look.alerts).toMatchObject([{ alert: "deadLetters", subscription: "email" }]);
    expect(failures).toMatchObject([{ subscription: "email", code: "EHOSTUNREACH", message: "no route", count: 3 }]);
  },
  longEnough,
);

test(
  "without a terminal dev says in lines what happens, and what changed in each queue",
  async () => {
    const folder = await shop('console.log("handled"); throw new Error("no route");');
    const dev = await Dev.start(folder, ["--no-catch"], await onServer());
    const said = (words: RegExp) => eventually(() => dev.text.some((line) => words.test(line)), patience);
    await said(/^posthorn: works on email \(pid \d+\)$/);
    await send(dev, { n: "1" });
    await said(/^handled$/);
    await said(
      /^posthorn: email: 0 waiting, 0 running, 0 retrying, 1 dead, 0 invalid, 1 worker; last failure Error: no route$/,
    );
    await said(/^posthorn: alerts: open: deadLetters of email$/);
    await save(folder, "handlers.mjs", "import './away.mjs';");
    await said(/^posthorn: changed handlers\.mjs: restarts$/);
    await said(/^posthorn: .+cannot be loaded: Cannot find module .+ \(PH_CONFIG_BROKEN\)$/);
    await said(/^posthorn: waits for a change$/);
    expect(dev.text.join("\n")).not.toContain("\u001b");
    dev.kill("SIGTERM");
    expect(await dev.exited).toEqual({ code: 0, signal: null });
    // Its last lines may still be in the pipe.
    await eventually(() => expect(dev.text.at(-1)).toBe("posthorn: stopped"), patience);
  },
  longEnough,
);
