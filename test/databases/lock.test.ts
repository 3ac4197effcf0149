import { mkdtemp, readdir, rm, writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { holderOf, takeLock } from "../../src/databases/embedded/lock.js";
import { identity } from "../../src/databases/embedded/process-identity.js";
import { type FixtureProcess, spawnFixture } from "../support/processes.js";

let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "lock-"));
});
afterEach(() => rm(folder, { recursive: true, force: true }));

const locker = async (): Promise<FixtureProcess> => {
  const child = await spawnFixture("test/databases/fixtures/locker.ts", { args: [folder] });
  await child.line("ready");
  return child;
};
const outcome = (child: FixtureProcess) => child.line(/^(held|PH_|unexpected)/);
/** Writes generation `number` as if a process with this identity had taken it. */
async function plant(number: number, changes: object): Promise<void> {
  const holder = { ...(await identity(process.pid)), since: "2020-01-01", socket: join(folder, "s"), token: "t" };
  await writeFile(join(folder, `lock.${number}`), JSON.stringify({ ...holder, released: false, ...changes }));
}

describe("the lock of a folder", () => {
  test("is refused while its holder lives, naming pid and time, and free after its release", async () => {
    const lock = await takeLock(folder, "embedded:x", "/nowhere");
    await expect(takeLock(folder, "embedded:x", "/nowhere")).rejects.toMatchObject({
      code: "PH_EMBEDDED_HELD",
      facts: { pid: process.pid, since: lock.holder.since },
      message: expect.stringContaining(`pid ${process.pid}`),
    });
    await lock.release();
    await lock.release();
    expect(await holderOf(folder)).toBeUndefined();
    const next = await takeLock(folder, "embedded:x", "/nowhere");
    await lock.release();
    expect((await holderOf(folder))?.token).toBe(next.holder.token);
  });

  test("is taken over at once from a process that was killed", async () => {
    const child = await locker();
    child.say("go");
    expect(await outcome(child)).toBe("held");
    await expect(takeLock(folder, "embedded:x", "/nowhere")).rejects.toMatchObject({ code: "PH_EMBEDDED_HELD" });
    child.kill("SIGKILL");
    await child.exited;
    await takeLock(folder, "embedded:x", "/nowhere");
  });

  test("is not taken from a process that is stopped", async () => {
    const child = await locker();
    child.say("go");
    await outcome(child);
    child.kill("SIGSTOP");
    await expect(takeLock(folder, "embedded:x", "/nowhere")).rejects.toMatchObject({ code: "PH_EMBEDDED_HELD" });
    child.kill("SIGKILL");
  });

  test("is taken over when the pid belongs to another process by now, or the machine has booted since", async () => {
    await plant(1, { start: "1" });
    await (await takeLock(folder, "embedded:x", "/nowhere")).release();
    await plant(9, { boot: "another" });
    await takeLock(folder, "embedded:x", "/nowhere");
  });

  test("of another machine is left alone", async () => {
    await plant(1, { boot: "another", host: "elsewhere", pid: 999_999_999 });
    await expect(takeLock(folder, "embedded:x", "/nowhere")).rejects.toMatchObject({ facts: { host: "elsewhere" } });
  });

  test("of another container is judged by its socket, because its pid says nothing", async () => {
    const socket = join(folder, "s");
    const server = createServer();
    await new Promise<void>((resolve) => server.listen(socket, resolve));
    await plant(1, { space: "pid:[1]", pid: 999_999_999 });
    await expect(takeLock(folder, "embedded:x", "/nowhere")).rejects.toMatchObject({ code: "PH_EMBEDDED_HELD" });
    await new Promise((resolve) => server.close(resolve));
    await takeLock(folder, "embedded:x", "/nowhere");
  });

  test("leaves no more than the last two generations behind", async () => {
    for (let round = 0; round < 5; round++) await (await takeLock(folder, "embedded:x", "/nowhere")).release();
    expect((await readdir(folder)).sort()).toEqual(["lock.4", "lock.5"]);
  });
});

test("of many processes that take over a dead holder's lock at once exactly one gets it, over and over", async () => {
  // Goal: never two holders, also while holders are killed and others have read their locks already.
  // Method: eight processes try at the same time; the one that wins is killed, and the rest try again at once.
  const children = await Promise.all(Array.from({ length: 8 }, locker));
  let left = children;
  for (let round = 0; round < 7; round++) {
    for (const child of left) child.say("go");
    const outcomes = await Promise.all(left.map(outcome));
    expect(outcomes.filter((line) => line === "held")).toHaveLength(1);
    expect(outcomes.filter((line) => line === "PH_EMBEDDED_HELD")).toHaveLength(left.length - 1);
    const winner = left[outcomes.indexOf("held")];
    winner?.kill("SIGKILL");
    await winner?.exited;
    left = left.filter((child) => child !== winner);
  }
});
