/**
 * Stops a test server and removes its folder once nobody needs it any more.
 *
 * It runs as a process of its own and waits for the end of its standard input, a pipe that the test run holds. The pipe closes
 * however the run ends, also by SIGKILL. With its input closed from the start it cleans up after a run that is long dead.
 */
import { existsSync, readFileSync, readlinkSync, realpathSync, rmSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as wait } from "node:timers/promises";

const folder = process.argv[2];
if (!folder) throw new Error("usage: watchdog.mjs <folder of the server>");

process.stdin.resume();
process.stdin.on("end", clean);
process.stdin.on("error", clean);

async function clean() {
  const data = join(folder, "data");
  const pid = runningPostmaster(data);
  if (pid !== undefined) {
    process.kill(pid, "SIGQUIT");
    for (let i = 0; i < 200 && alive(pid); i += 1) await wait(50);
    if (alive(pid)) process.kill(pid, "SIGKILL");
  }
  rmSync(folder, { recursive: true, force: true, maxRetries: 5 });
  process.exit(0);
}

/** The process named in the lock file, only if it still is the server of this folder: process ids are used again. */
function runningPostmaster(data) {
  const lock = join(data, "postmaster.pid");
  if (!existsSync(lock)) return undefined;
  const pid = Number(readFileSync(lock, "utf8").split("\n", 1)[0]);
  if (!Number.isInteger(pid) || pid <= 1 || !alive(pid)) return undefined;
  if (!existsSync("/proc/self/cwd")) return pid;
  try {
    return readlinkSync(`/proc/${pid}/cwd`) === realpathSync(data) ? pid : undefined;
  } catch {
    return undefined;
  }
}

function alive(pid) {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}
