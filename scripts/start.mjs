/** Runs the example shop: installs what is missing, builds, and supervises it from this process, so that signals reach it directly. */
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { ensureInstalled } from "./ensure-installed.mjs";

process.chdir(fileURLToPath(new URL("..", import.meta.url)));
dieWithNpm();
ensureInstalled();
const { build, buildExamples } = await import("./build.mjs");
if (!build() || !buildExamples()) process.exit(1);
await import("../dist-examples/shop/supervise.js");

/**
 * Passes a SIGKILL of npm on, which npm cannot. Otherwise the shop would run on unseen, and hold its folder and its port. npm is
 * the parent of this process, or of the shell that it runs scripts in. Only where /proc tells who is whose parent. The shop itself
 * notices that this process is gone, and closes in order.
 */
function dieWithNpm() {
  const parent = process.ppid;
  const npm = [parent, entryOf(parent)?.parent].find((pid) => /^npm/.test(entryOf(pid)?.name ?? ""));
  if (process.env.npm_lifecycle_event !== "start" || npm === undefined) return;
  const timer = setInterval(() => {
    if (entryOf(npm) === undefined) process.kill(process.pid, "SIGKILL");
  }, 250);
  timer.unref();
}

/** A zombie counts as gone. */
function entryOf(pid) {
  try {
    const [, name, state, parent] = /^\d+ \((.*)\) (\S) (\d+)/s.exec(readFileSync(`/proc/${pid}/stat`, "utf8")) ?? [];
    return name === undefined || state === "Z" ? undefined : { name, parent: Number(parent) };
  } catch {
    return undefined;
  }
}
