/** `npm run test:postgres`: the suites that talk to the database, on the oldest and the newest supported server. */
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
gates.close();
