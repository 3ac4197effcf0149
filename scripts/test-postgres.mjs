/** `npm run test:postgres`: the suites that talk to the database, on the oldest and the newest supported server. */
import { existsSync } from "node:fs";
import { ensureInstalled } from "./ensure-installed.mjs";

ensureInstalled();
const { Gates, root } = await import("./gates.mjs");

const folders = ["sql", "store", "databases", "producer", "worker", "maintenance"]
  .map((name) => `test/${name}`)
  .filter((folder) => existsSync(root + folder));

const gates = new Gates();
for (const version of ["14", "18"]) {
  const env = { POSTHORN_TEST_POSTGRES: version };
  gates.vitest(`PostgreSQL ${version}`, ["test/support/server.test.ts", ...folders], env);
}
gates.close();
