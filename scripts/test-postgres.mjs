/**
 * `npm run test:postgres`: the suites that talk to the database, on the oldest and the newest supported server, and what has to work behind a
 * pooler, PgBouncer as Debian packages it.
 */
import { spawnSync } from "node:child_process";
import { ensureInstalled } from "./ensure-installed.mjs";

ensureInstalled();
const { Gates } = await import("./gates.mjs");

/** What meets the server itself: the rules in SQL, and one suite of each part above them. The embedded database is the same everywhere. */
const suites = [
  "test/support/server.test.ts",
  "test/sql",
  "test/databases/pg.test.ts",
  "test/producer/producer.test.ts",
  "test/worker/order.test.ts",
  "test/worker/batches.test.ts",
];

const gates = new Gates();
for (const version of ["14", "18"]) {
  const env = { POSTHORN_TEST_POSTGRES: version };
  gates.vitest(`PostgreSQL ${version}`, suites, env);
}
const pooler = process.env.POSTHORN_TEST_PGBOUNCER ?? found() ?? installed();
if (pooler === undefined) {
  gates.skip(
    "behind a pooler",
    "there is no PgBouncer, and it could not be installed; POSTHORN_TEST_PGBOUNCER names one",
  );
} else {
  gates.vitest(`behind ${pooler}`, ["--config", "test/pooler/vitest.config.ts"], { POSTHORN_TEST_PGBOUNCER: pooler });
}
gates.close();

/** Debian has it where a user's path does not lead. */
function found() {
  const path = `${process.env.PATH}:/usr/sbin:/usr/local/sbin`;
  const { status, stdout } = spawnSync("sh", ["-c", "command -v pgbouncer"], { encoding: "utf8", env: { PATH: path } });
  return status === 0 ? stdout.trim() : undefined;
}

/** Only on a Debian or Ubuntu where this process may install packages. */
function installed() {
  if (process.getuid?.() !== 0) return undefined;
  // Together well below the time that CI gives this part.
  const apt = (seconds, ...args) =>
    spawnSync("apt-get", ["-qq", ...args], { stdio: ["ignore", 2, 2], timeout: seconds * 1_000 }).status === 0;
  if (!apt(20, "update") || !apt(50, "install", "-y", "--no-install-recommends", "pgbouncer")) return undefined;
  return found();
}
