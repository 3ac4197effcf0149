import { join } from "node:path";
import { setTimeout as wait } from "node:timers/promises";
/**
 * Goal: `posthorn dev` ends as it is told, with the right code, and leaves no process behind, however it ends.
 * Method: the built program; signals to it while its process works, hangs and spins.
 */
import { describe, expect, test } from "vitest";
import { isAlive } from "../support/alive.js";
import { eventually } from "../support/eventually.js";
import { copyEmbedded } from "../support/pglite.js";
import { posthornCommand, project } from "./command.js";
import { Dev, onServer, patience, send, shop } from "./developing.js";

const withoutCatchers = ["--json", "--no-catch"];
const longEnough = 120_000;
const spinning = "await globalThis.answered; for (;;) globalThis.turns = (globalThis.turns ?? 0) + 1;";

test.each(["SIGINT", "SIGTERM", "SIGHUP"] as const)(
  "dev ends with 0 at %s, when its process has stopped and the database is free",
  async (signal) => {
    const folder = await shop("console.log(payload.n);");
    if (signal === "SIGINT") await copyEmbedded(join(folder, ".data"));
    const env = signal === "SIGINT" ? {} : await onServer();
    const dev = await Dev.start(folder, ["--json"], env);
    const { pid } = await dev.next("started");
    dev.kill(signal);
    expect(await dev.exited).toEqual({ code: 0, signal: null });
    expect(await dev.next("stopped")).toEqual({ event: "stopped" });
    expect(isAlive(pid)).toBe(false);
    const status = await posthornCommand(["status"], { cwd: folder, env: { DATABASE_URL: "", ...env } });
    expect(status).toMatchObject({ code: 0, err: "" });
  },
  longEnough,
);

test(
  "dev ends at once with 1 when it is interrupted again, also while a handler runs on",
  async () => {
    const folder = await shop('console.log("hangs"); await new Promise(() => undefined);');
    const dev = await Dev.start(folder, [...withoutCatchers, "--grace-ms", "3600000"], await onServer());
    const { pid } = await dev.next("started");
    await send(dev, { n: "1" });
    await dev.printed("hangs");
    dev.kill("SIGINT");
    await dev.next("stopping");
    dev.kill("SIGINT");
    expect(await dev.exited).toEqual({ code: 1, signal: null });
    await eventually(() => !isAlive(pid), patience);
  },
  longEnough,
);

test.each([
  ["waits, and hands its message back", "await new Promise(() => undefined);", /^no worker works on 'email'/],
  ["never yields", spinning, /^its worker died in the first attempt/],
])(
  "when dev is killed its process ends by itself, also while a handler %s",
  async (_what, rest, why) => {
    const folder = await shop(`console.log("runs");\n${rest}`);
    const env = await onServer();
    const dev = await Dev.start(folder, withoutCatchers, env);
    const { pid } = await dev.next("started");
    const id = await send(dev, { n: "1" });
    await dev.printed("runs");
    dev.kill("SIGKILL");
    await dev.exited;
    await eventually(() => !isAlive(pid), patience);
    const asked = async () => (await posthornCommand(["why", id, "--database", env.DATABASE_URL])).out;
    await eventually(async () => why.test(await asked()));
  },
  longEnough,
);

test(
  "a process that learns late that dev was killed hands its message back all the same",
  async () => {
    const folder = await shop('console.log("runs"); await new Promise(() => undefined);');
    const env = await onServer();
    const dev = await Dev.start(folder, withoutCatchers, env);
    const { pid } = await dev.next("started");
    const id = await send(dev, { n: "1" });
    await dev.printed("runs");
    process.kill(pid, "SIGSTOP");
    dev.kill("SIGKILL");
    await dev.exited;
    // Longer than the pause between two looks for the parent: the look is due when the process wakes, before it has heard anything.
    await wait(2_500);
    process.kill(pid, "SIGCONT");
    await eventually(() => !isAlive(pid), patience);
    const why = await posthornCommand(["why", id, "--database", env.DATABASE_URL]);
    expect(why.out).toMatch(/^no worker works on 'email'/);
  },
  longEnough,
);

test(
  "a handler that never yields does not keep dev from ending",
  async () => {
    const folder = await shop(`console.log("spins");\n${spinning}`);
    const dev = await Dev.start(folder, [...withoutCatchers, "--grace-ms", "0"], await onServer());
    const { pid } = await dev.next("started");
    await send(dev, { n: "1" });
    await dev.printed("spins");
    dev.kill("SIGINT");
    expect(await dev.exited).toEqual({ code: 0, signal: null });
    expect(isAlive(pid)).toBe(false);
  },
  longEnough,
);

describe("dev refuses with 2", () => {
  test.each([
    ["a configuration that is nowhere", [], /No posthorn\.config\.ts, .+ was found/, "PH_CONFIG_MISSING"],
    [
      "a configuration that is not there",
      ["--config", "other.mjs"],
      /There is no file .+other\.mjs/,
      "PH_CONFIG_MISSING",
    ],
    [
      "a port that is none",
      ["--mail-port", "70000"],
      /--mail-port must be an integer from 1 to 65535/,
      "PH_ARGUMENT_INVALID",
    ],
    ["a database of its own", ["--database", "embedded:x"], /has no option "--database"/, "PH_ARGUMENT_INVALID"],
  ])("%s", async (_what, args, words, code) => {
    const cwd = await project();
    const ended = await posthornCommand(["dev", ...args], { cwd });
    expect(ended).toMatchObject({ code: 2, out: "" });
    expect(ended.err).toMatch(words);
    expect(ended.err).toContain(code);
  });

  test("a folder to watch that is not there", async () => {
    const cwd = await shop("");
    const ended = await posthornCommand(["dev", "--no-catch", "--also", "nowhere"], { cwd });
    expect(ended).toMatchObject({ code: 2, out: "" });
    expect(ended.err).toMatch(/--also names .+nowhere, which is no folder/);
  });
});
