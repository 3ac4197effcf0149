/** `npm run bench`: builds the package and the benchmarks, and runs them in a process of their own. */
import { spawnSync } from "node:child_process";
import { fileURLToPath } from "node:url";
import { ensureInstalled } from "./ensure-installed.mjs";

ensureInstalled();
const { build, buildBench } = await import("./build.mjs");
if (!build() || !buildBench()) process.exit(1);
const main = fileURLToPath(new URL("../dist-bench/bench/main.js", import.meta.url));
const { status } = spawnSync(process.execPath, [main, ...process.argv.slice(2)], { stdio: "inherit" });
process.exit(status ?? 1);
