/** `npm run test:postgres`: the suites that talk to the database, on the oldest and the newest supported server. */
import { ensureInstalled } from "./ensure-installed.mjs";

ensureInstalled();
const { Gates } = await import("./gates.mjs");

/** What meets the server itself; the embedded database is the same everywhere. */
const suites = ["test/support/server.test.ts", "test/sql", "test/worker", "test/producer", "test/databases/pg.test.ts"];

const gates = new Gates();
for (const version of ["14", "18"]) {
  const env = { POSTHORN_TEST_POSTGRES: version };
  gates.vitest(`PostgreSQL ${version}`, suites, env);
}
gates.close();
