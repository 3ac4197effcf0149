/**
 * Which process this is, so that another one can tell later whether it still lives. A pid alone is not enough: pids are reused,
 * mean something else in another container, and something else again after a reboot.
 */
import { execFile } from "node:child_process";
import { readFile, readlink } from "node:fs/promises";
import { hostname } from "node:os";
import { promisify } from "node:util";
import { codeOf } from "../errors.js";

export interface ProcessIdentity {
  readonly pid: number;
  /** When the process started, in the system's own notation; undefined where the system does not tell. */
  readonly start: string | undefined;
  /** The boot of the machine. */
  readonly boot: string | undefined;
  /** The pid namespace: pids of another one say nothing. */
  readonly space: string | undefined;
  readonly host: string;
}

const orUndefined = () => undefined;

/** Field 22 of /proc/<pid>/stat, or nothing for a zombie. The name in field 2 may hold spaces and parentheses. */
async function linuxStart(pid: number): Promise<string | undefined> {
  const stat = await readFile(`/proc/${pid}/stat`, "utf8").catch(orUndefined);
  const fields = stat?.slice(stat.lastIndexOf(")") + 2).split(" ");
  const state = fields?.[0];
  return state === undefined || state === "Z" || state === "X" ? undefined : fields?.[19];
}

async function startOf(pid: number): Promise<string | undefined> {
  if (process.platform === "linux") return linuxStart(pid);
  if (process.platform === "win32") return undefined;
  const run = promisify(execFile);
  const started = await run("ps", ["-o", "lstart=", "-p", String(pid)], { env: { ...process.env, LC_ALL: "C" } }).catch(
    orUndefined,
  );
  return started?.stdout.trim() || undefined;
}

export async function identity(pid: number): Promise<ProcessIdentity> {
  const [start, boot, space] = await Promise.all([
    startOf(pid),
    readFile("/proc/sys/kernel/random/boot_id", "utf8").then((text) => text.trim(), orUndefined),
    readlink("/proc/self/ns/pid").catch(orUndefined),
  ]);
  return { pid, start, boot, space, host: hostname() };
}

function exists(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return codeOf(error) !== "ESRCH";
  }
}

/** Whether the very process lives; undefined when its pid says nothing here. */
export async function isSameProcessAlive(then: ProcessIdentity): Promise<boolean | undefined> {
  const now = await identity(then.pid);
  // The same host after a reboot, or another machine on a shared disk, which must be left alone.
  if (then.boot !== now.boot) return then.host !== now.host;
  if (then.boot === undefined && then.host !== now.host) return true;
  if (then.space !== now.space) return undefined;
  if (!exists(then.pid)) return false;
  return then.start === undefined || then.start === now.start;
}
