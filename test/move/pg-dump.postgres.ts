/** pg_dump, pg_restore and psql themselves, from an old server into an old and a new one. */
import { execFile } from "node:child_process";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { afterAll, beforeAll, expect, test } from "vitest";
import { openDatabase } from "../../src/databases/open.js";
import { type Engine, openEngine, openSession } from "../sql/engine.js";
import { makeRandom, seedOf } from "../sql/random.js";
import { eventually } from "../support/eventually.js";
import { createDatabase, type OwnServer, startServer } from "../support/server.js";
import { expectRebaseToBeExact, nextXid } from "./account.js";
import { makeFleet, underLoad } from "./load.js";

const run = promisify(execFile);

let old: OwnServer;
let recent: OwnServer;
let folder: string;
beforeAll(async () => {
  [old, recent, folder] = await Promise.all([
    startServer({ version: 14 }),
    startServer({ version: 18 }),
    mkdtemp(join(tmpdir(), "posthorn-pg-dump-")),
  ]);
});
afterAll(async () => {
  await Promise.all([old.remove(), recent.remove(), rm(folder, { recursive: true, force: true })]);
});

async function openCopy(server: OwnServer): Promise<{ url: string; open: () => Promise<Engine> }> {
  const made = await createDatabase({ on: server });
  const open = async (): Promise<Engine> => {
    const db = await openDatabase(made.url);
    const admin = await openSession(made.url);
    const close = async () => {
      await Promise.all([db.close(), admin.close()]);
      await made.drop();
    };
    return { url: made.url, db, admin, session: () => openSession(made.url), close };
  };
  return { url: made.url, open };
}

type Way = (from: string, to: string, file: string) => Promise<unknown>;

const ways: Readonly<Record<string, Way>> = {
  "a dump in the custom format": async (from, to, file) => {
    await run("pg_dump", ["--format=custom", `--file=${file}`, from]);
    return run("pg_restore", ["--exit-on-error", "--no-owner", `--dbname=${to}`, file]);
  },
  "a dump in plain SQL": async (from, to, file) => {
    await run("pg_dump", ["--no-owner", `--file=${file}`, from]);
    return run("psql", ["--quiet", "--no-psqlrc", "--set=ON_ERROR_STOP=1", `--file=${file}`, to]);
  },
  "a dump by several jobs, restored by several": async (from, to, file) => {
    await run("pg_dump", ["--format=directory", "--jobs=3", `--file=${file}`, from]);
    return run("pg_restore", ["--exit-on-error", "--no-owner", "--jobs=3", `--dbname=${to}`, file]);
  },
};

const cases = Object.keys(ways).flatMap((way) => [
  { way, to: "the same version" as const },
  { way, to: "a newer one" as const },
]);

test.each(cases)(
  "$way, taken under load and restored on $to, does what was not done in it and nothing else, also long after",
  async ({ way, to }) => {
    const random = makeRandom(seedOf(`${way} to ${to}`));
    const from = await openEngine(old);
    const place = await openCopy(to === "a newer one" ? recent : old);
    const fleet = await makeFleet(from);
    const least = random.int(20, 200);
    await underLoad(from, fleet, random, async () => {
      await eventually(async () => Number(await from.admin.value("select count(*) from posthorn.claim_1")) >= least, {
        everyMs: 5,
      });
      await ways[way]?.(from.url, place.url, join(folder, `${random.int(1, 1e9)}`));
    });
    const copy = await place.open();
    await expectRebaseToBeExact(copy, fleet, await nextXid(from));
    expect(await copy.admin.value("select count(*)::int from posthorn.epoch")).toBe(2);
    await Promise.all([from.close(), copy.close()]);
  },
);
