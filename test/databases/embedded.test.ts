import { cp, mkdir, mkdtemp, readdir, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { holderOf } from "../../src/databases/embedded/lock.js";
import { openDatabase } from "../../src/databases/open.js";
import { type FixtureProcess, spawnFixture } from "../support/processes.js";

let folder: string;
let made: string;
beforeAll(async () => {
  made = join(await mkdtemp(join(tmpdir(), "embedded-")), "made");
  await (await openDatabase(`embedded:${made}`)).close();
});
beforeEach(async () => {
  folder = join(await mkdtemp(join(tmpdir(), "embedded-")), "db");
});
afterAll(() => rm(join(made, ".."), { recursive: true, force: true }));
afterEach(() => rm(join(folder, ".."), { recursive: true, force: true }));

const numbers = (rows: { n: number }[]) => rows.map((row) => row.n);

test("a committed row survives the end of its process by SIGKILL, at whatever moment, ten times over", async () => {
  // Goal: what a commit has returned for is never lost, and the folder opens at once afterwards.
  // Method: a child commits rows and reports each; it is killed at a random moment, and the folder is opened by the next.
  let reported = 0;
  for (let round = 0; round < 10; round++) {
    const child = await spawnFixture("test/databases/fixtures/committer.ts", { args: [folder] });
    // Also within the very first boot, before there is a database.
    if (round >= 3) await child.line("open");
    // The row after those that were reported may be there already, and is not told of then.
    const last = reported + 1 + Math.floor(Math.random() * 40);
    if (round >= 3) await child.line((line) => line.startsWith("row ") && Number(line.slice(4)) >= last);
    else await new Promise((resolve) => setTimeout(resolve, round * 700));
    child.kill("SIGKILL");
    await child.exited;
    expect(child.errorOutput).toBe("");
    for (const line of child.lines) if (line.startsWith("row ")) reported = Math.max(reported, Number(line.slice(4)));
  }
  const db = await openDatabase(`embedded:${folder}`);
  const { rows } = await db.query<{ n: number }>("select n from proof order by n");
  const found = numbers(rows);
  expect(found.slice(0, reported)).toEqual(Array.from({ length: reported }, (_, index) => index + 1));
  // At most the one row whose commit had not been reported yet, per kill; those were continued from.
  expect(found.length - reported).toBeLessThanOrEqual(1);
  await db.close();
}, 600_000);

describe("a folder that another process holds", () => {
  let holder: FixtureProcess;
  beforeEach(async () => {
    await cp(made, folder, { recursive: true });
    holder = await spawnFixture("test/databases/fixtures/holder.ts", { args: [folder] });
    await holder.line("open", { withinMs: 60_000 });
  });
  afterEach(async () => {
    holder.kill("SIGKILL");
    await holder.exited;
  });

  test("is refused, naming its holder, and opens as soon as that one was killed", async () => {
    await expect(openDatabase(`embedded:${folder}`)).rejects.toMatchObject({
      code: "PH_EMBEDDED_HELD",
      retryable: true,
      facts: { pid: holder.pid, since: expect.any(String) },
    });
    holder.kill("SIGKILL");
    await holder.exited;
    const db = await openDatabase(`embedded:${folder}`);
    await db.close();
  });

  test("has a socket that only its user can use", async () => {
    const held = await holderOf(join(folder, "run"));
    const socket = await stat(held?.socket ?? "");
    expect(socket.isSocket()).toBe(true);
    expect(socket.mode & 0o777).toBe(0o600);
    for (const path of [folder, join(folder, "run"), join(folder, "data")]) {
      expect((await stat(path)).mode & 0o777).toBe(0o700);
    }
  });

  test("can be shared: statements, scripts, transactions and sessions work through the socket", async () => {
    const db = await openDatabase(`embedded:${folder}`, { embedded: "share" });
    await db.script("create table made (a text); create table too (a text)");
    expect((await db.query("select $1::text as a, 1::int8 as big, null as none", ["ä\n'~"])).rows).toEqual([
      { a: "ä\n'~", big: "1", none: null },
    ]);
    const tx = await db.begin();
    await tx.native.query("insert into proof values (1)");
    expect((await tx.native.query("select $1::timestamptz as at, 2::int8 as n", [new Date(0)])).rows).toEqual([
      { at: new Date(0), n: 2 },
    ]);
    await expect(tx.native.query("commit")).rejects.toMatchObject({ code: "PH_TRANSACTION_ENDED" });
    expect((await tx.query("select extract(epoch from now())::text as now")).rows).toEqual([{ now: tx.mark }]);
    await tx.commit();
    const dropped = await db.begin();
    await dropped.query("insert into proof values (2)");
    await dropped.rollback();
    const session = await db.session();
    expect((await session.query("select n from proof")).rows).toEqual([{ n: 1 }]);
    await session.close();
    expect(await session.lost).toBeUndefined();
    await db.close();
  });

  test("errors keep their codes and facts across the socket", async () => {
    const db = await openDatabase(`embedded:${folder}`, { embedded: "share" });
    await expect(db.query("select 1/0")).rejects.toMatchObject({ code: "22012", severity: "ERROR" });
    const tx = await db.begin();
    await tx.native.query("nonsense").catch(() => undefined);
    await expect(tx.commit()).rejects.toMatchObject({ code: "PH_TRANSACTION_ABORTED" });
    await expect(tx.commit()).rejects.toMatchObject({ code: "PH_TRANSACTION_ENDED" });
    const inside = await db.begin();
    await expect(inside.run(() => db.query("select 1"))).rejects.toMatchObject({ code: "PH_WOULD_DEADLOCK" });
    await inside.rollback();
    await db.close();
  });

  test("notifications reach other processes", async () => {
    const db = await openDatabase(`embedded:${folder}`, { embedded: "share" });
    let hear: (payload: string) => void = () => {};
    const heard = new Promise<string>((resolve) => {
      hear = resolve;
    });
    await db.listen("ring", hear);
    await db.query("select pg_notify('ring', 'now')");
    expect(await heard).toBe("now");
    await db.close();
  });

  test("a client that ends in the middle of a transaction holds nobody up, and its rows are gone", async () => {
    const gone = await openDatabase(`embedded:${folder}`, { embedded: "share" });
    const db = await openDatabase(`embedded:${folder}`, { embedded: "share" });
    const tx = await gone.begin();
    await tx.query("insert into proof values (1)");
    const waiting = db.query("select n from proof");
    await gone.close();
    expect((await waiting).rows).toEqual([]);
    await db.close();
  });

  test("a statement that waits too long for a transaction of another process is not run", async () => {
    const db = await openDatabase(`embedded:${folder}`, { embedded: "share" });
    const tx = await db.begin();
    await expect(db.query("insert into proof values (1)")).rejects.toMatchObject({ code: "PH_DATABASE_BUSY" });
    await tx.commit();
    expect((await db.query("select n from proof")).rows).toEqual([]);
    await db.close();
  });

  test("a holder that was killed is reported as lost, in COMMIT as well, and the next call asks the next holder", async () => {
    const db = await openDatabase(`embedded:${folder}`, { embedded: "share" });
    const tx = await db.begin();
    const session = await db.session();
    holder.kill("SIGSTOP");
    const committing = expect(tx.commit()).rejects.toMatchObject({
      code: "PH_DATABASE_LOST",
      facts: { inCommit: true },
    });
    holder.kill("SIGKILL");
    await committing;
    expect(await session.lost).toMatchObject({ code: "PH_DATABASE_LOST" });
    await holder.exited;
    await expect(db.query("select 1")).rejects.toMatchObject({ code: /PH_DATABASE_(AWAY|LOST)/ });
    const next = await openDatabase(`embedded:${folder}`);
    expect((await db.query("select 1 as one")).rows).toEqual([{ one: 1 }]);
    await db.close();
    await next.close();
  });

  test("a holder that is stopped does not hang the others for ever", async () => {
    const db = await openDatabase(`embedded:${folder}`, { embedded: "share", statementTimeoutMs: 2_000 });
    await db.query("select 1");
    holder.kill("SIGSTOP");
    await expect(db.query("select 1")).rejects.toMatchObject({ code: "PH_DATABASE_TIMEOUT" });
    await db.close();
  });

  test("closing it lets the lock go and removes the socket", async () => {
    holder.say("close");
    await holder.line("closed");
    expect(await holderOf(join(folder, "run"))).toBeUndefined();
    expect((await readdir(join(folder, "run"))).filter((name) => name.startsWith("s."))).toEqual([]);
  });
});

describe("opening a folder", () => {
  test("that nobody holds with `share` holds it", async () => {
    await cp(made, folder, { recursive: true });
    const db = await openDatabase(`embedded:${folder}`, { embedded: "share" });
    expect((await holderOf(join(folder, "run")))?.pid).toBe(process.pid);
    await expect(openDatabase(`embedded:${folder}`)).rejects.toMatchObject({ code: "PH_EMBEDDED_HELD" });
    const second = await openDatabase(`embedded:${folder}`, { embedded: "share" });
    expect((await second.query("select 1 as one")).rows).toEqual([{ one: 1 }]);
    await second.close();
    await db.close();
  });

  test("whose path is too long for a socket works all the same", async () => {
    const deep = join(folder, "x".repeat(120));
    const db = await openDatabase(`embedded:${deep}`);
    const shared = await openDatabase(`embedded:${deep}`, { embedded: "share" });
    expect((await shared.query("select 1 as one")).rows).toEqual([{ one: 1 }]);
    await shared.close();
    await db.close();
  });

  test("that is a data folder itself, has no name, or cannot be made is refused", async () => {
    await mkdir(folder, { recursive: true });
    await writeFile(join(folder, "PG_VERSION"), "18");
    await expect(openDatabase(`embedded:${folder}`)).rejects.toMatchObject({ code: "PH_OPTION_INVALID" });
    await expect(openDatabase("embedded:")).rejects.toMatchObject({ code: "PH_OPTION_INVALID" });
    await expect(openDatabase(`embedded:${join(folder, "PG_VERSION", "x")}`)).rejects.toMatchObject({
      code: "PH_DATABASE_REFUSED",
    });
  });

  test("leaves nothing held when the database does not open", async () => {
    await mkdir(join(folder, "data"), { recursive: true });
    await writeFile(join(folder, "data", "PG_VERSION"), "broken");
    await expect(openDatabase(`embedded:${folder}`)).rejects.toThrow();
    expect(await holderOf(join(folder, "run"))).toBeUndefined();
  });
});
