/**
 * `npm run test:postgres`: the suites that talk to the database on the oldest supported server, the core on the newest; what has to work behind a pooler,
 * PgBouncer as Debian packages it; and real dumps, with PostgreSQL's own programs as Debian packages them.
 */
import { spawnSync } from "node:child_process";
import { ensureInstalled } from "./ensure-installed.mjs";

ensureInstalled();
const { Gates } = await import("./gates.mjs");

/** What meets the server itself: the rules in SQL, and one suite of each part above them. What takes long and is the same on every version is not repeated. */
const oldest = ["test/support/server.test.ts", "test/sql", "test/databases/pg.test.ts", "test/worker/order.test.ts"];
const notAgain = ["rotation-load", "rotation-space", "rotation-embedded", "crashes", "purge"];

/** What a new planner, or new rules of visibility and locks, would change. `npm test` runs all on the version before. */
const newest = [
  ...["support/server", "databases/pg", "worker/order"],
  ...["windows", "isolation", "fences", "plans", "order", "rotation", "said"].map((name) => `sql/${name}`),
].map((name) => `test/${name}.test.ts`);

const gates = new Gates();
gates.vitest("PostgreSQL 14", [...oldest, ...notAgain.flatMap((name) => ["--exclude", `test/sql/${name}.test.ts`])], {
  POSTHORN_TEST_POSTGRES: "14",
});
gates.vitest("PostgreSQL 18", newest, { POSTHORN_TEST_POSTGRES: "18" });
const pooler = process.env.POSTHORN_TEST_PGBOUNCER ?? found() ?? (installed("pgbouncer") ? found() : undefined);
if (pooler === undefined) {
  gates.skip(
    "behind a pooler",
    "there is no PgBouncer, and it could not be installed; POSTHORN_TEST_PGBOUNCER names one",
  );
} else {
  gates.vitest(`behind ${pooler}`, ["--config", "test/pooler/vitest.config.ts"], { POSTHORN_TEST_PGBOUNCER: pooler });
}
const dumps = "dumps by pg_dump, restored";
const version = dumpVersion() ?? (installed("postgresql-client") ? dumpVersion() : undefined);
if (version === undefined) gates.skip(dumps, "there is no pg_dump 14 or newer, and it could not be installed");
else gates.vitest(`${dumps} (${version})`, ["--config", "test/move/vitest.config.ts"]);
gates.close();

/** Debian has it where a user's path does not lead. */
function found() {
  const path = `${process.env.PATH}:/usr/sbin:/usr/local/sbin`;
  const { status, stdout } = spawnSync("sh", ["-c", "command -v pgbouncer"], { encoding: "utf8", env: { PATH: path } });
  return status === 0 ? stdout.trim() : undefined;
}

/** The version of pg_dump where all that is needed is there. It dumps servers that are not newer than itself. */
function dumpVersion() {
  for (const name of ["pg_restore", "psql"]) if (spawnSync(name, ["--version"]).status !== 0) return undefined;
  const { status, stdout } = spawnSync("pg_dump", ["--version"], { encoding: "utf8" });
  const found = status === 0 ? /(\d+)\.\d+/.exec(stdout) : null;
  return found !== null && Number(found[1]) >= 14 ? found[0] : undefined;
}

/** Only on a Debian or Ubuntu where this process may install packages. */
function installed(name) {
  if (process.getuid?.() !== 0) return false;
  // Together well below the time that CI gives this part.
  const apt = (seconds, ...args) =>
    spawnSync("apt-get", ["-qq", ...args], { stdio: ["ignore", 2, 2], timeout: seconds * 1_000 }).status === 0;
  return apt(20, "update") && apt(60, "install", "-y", "--no-install-recommends", name);
}
