/**
 * Builds dist: embeds the SQL, declares the types of src and bundles it. The new folder takes the place of the old one only when it is complete, so that
 * nobody who reads dist meanwhile finds half of it.
 */
import { spawnSync } from "node:child_process";
import { cpSync, existsSync, mkdtempSync, renameSync, rmSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { embedSql } from "./embed-sql.mjs";
import { ensureInstalled } from "./ensure-installed.mjs";

const root = fileURLToPath(new URL("..", import.meta.url));

/** Returns whether everything compiled; the compiler has printed why not. Tests build without a change to the sources. */
export function build({ embed = true } = {}) {
  if (embed) embedSql();
  return compile("tsconfig.build.json", "dist", (draft) => run(join(root, "scripts/bundle.mjs"), [draft]));
}

/** The examples import the built package by its name, as a user's program does. Their other files are copied. */
export function buildExamples() {
  return compile("tsconfig.examples.json", "dist-examples", (draft) => {
    cpSync(join(root, "examples"), draft, { recursive: true, filter: (path) => !path.endsWith(".ts") });
    return true;
  });
}

/** The benchmarks use the built package as the examples do, and the servers of the tests. */
export function buildBench() {
  return compile("tsconfig.bench.json", "dist-bench", (draft) => {
    cpSync(join(root, "test", "support", "watchdog.mjs"), join(draft, "test", "support", "watchdog.mjs"));
    return true;
  });
}

function compile(project, name, finish) {
  const draft = mkdtempSync(join(root, `.draft-${name}-`));
  try {
    const tsc = join(root, "node_modules", "typescript", "bin", "tsc");
    const args = ["-p", join(root, project), "--outDir", draft, "--pretty", "false"];
    if (!run(tsc, args) || !finish(draft)) return false;
    const old = `${draft}-old`;
    if (existsSync(join(root, name))) renameSync(join(root, name), old);
    renameSync(draft, join(root, name));
    rmSync(old, { recursive: true, force: true });
    return true;
  } finally {
    rmSync(draft, { recursive: true, force: true });
  }
}

/** Returns whether it ended well. What it prints is for people. */
function run(script, args) {
  return spawnSync(process.execPath, [script, ...args], { stdio: ["ignore", 2, 2] }).status === 0;
}

if (process.argv[1] && import.meta.url === pathToFileURL(process.argv[1]).href) {
  ensureInstalled();
  if (!build({ embed: !process.argv.includes("--as-committed") })) process.exit(1);
}
