/** `npm run test:node`: the packed package on the newer Node lines, each fetched from npm into a temp folder. */
import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { ensureInstalled } from "./ensure-installed.mjs";

ensureInstalled();
const { Gates } = await import("./gates.mjs");

const gates = new Gates();
for (const line of ["22", "24", "26"]) {
  const folder = mkdtempSync(join(tmpdir(), "posthorn-node-"));
  try {
    const options = ["--prefix", folder, "--no-save", "--no-audit", "--no-fund"];
    spawnSync("npm", ["install", ...options, `node@${line}`], { stdio: ["ignore", 2, 2] });
    const node = join(folder, "node_modules/node/bin/node");
    const { status, stdout } = spawnSync(node, ["--version"], { encoding: "utf8" });
    if (status !== 0 || !stdout.startsWith(`v${line}.`)) {
      gates.skip(`Node ${line}`, "it could not be installed from npm");
      continue;
    }
    gates.vitest(`Node ${stdout.trim()}`, ["test/package"], { POSTHORN_TEST_NODE: node });
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}
gates.close();
