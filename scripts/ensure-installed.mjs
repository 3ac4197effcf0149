/**
 * Installs the dependencies when they are missing or differ from the lock file. Needs nothing but Node and npm themselves.
 *
 * npm keeps a lock of what it installed in node_modules; both are compared, so a plain `npm install` counts as well.
 */
import { spawnSync } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";

const root = fileURLToPath(new URL("..", import.meta.url));

export function ensureInstalled() {
  if (isInstalled()) return;
  process.stderr.write("installing dependencies\n");
  const { status, error } = spawnSync("npm", ["ci", "--no-audit", "--no-fund"], {
    cwd: root,
    stdio: ["ignore", 2, 2],
    shell: process.platform === "win32",
  });
  if (status === 0) return;
  process.stderr.write(`npm ci failed${error ? `: ${error.message}` : ""}; nothing was run\n`);
  process.exit(1);
}

/** A package for another platform is in the lock and rightly not installed. */
function isInstalled() {
  const installed = `${root}node_modules/.package-lock.json`;
  if (!existsSync(installed)) return false;
  const have = packagesOf(installed);
  return Object.entries(packagesOf(`${root}package-lock.json`)).every(
    ([path, { version, optional, devOptional }]) =>
      path === "" || have[path]?.version === version || (have[path] === undefined && (optional || devOptional)),
  );
}

function packagesOf(file) {
  return JSON.parse(readFileSync(file, "utf8")).packages ?? {};
}
