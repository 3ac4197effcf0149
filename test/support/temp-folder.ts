/**
 * The temp folder of a test run: in memory where the machine has enough of it, which spares half of the work of making and dropping
 * databases; else the system's.
 *
 * What a test can see is the same: files outlive the processes that write them, whatever kills those. Only the loss of the whole
 * machine would tell the two apart.
 */
import { accessSync, chmodSync, constants, mkdtempSync, readdirSync, rmSync, statfsSync } from "node:fs";
import { rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { availableMemory, constrainedMemory } from "node:process";
import { isAlive } from "./alive.js";

const memory = "/dev/shm";
const prefix = "posthorn-run-";
const gib = 2 ** 30;
/** The environment reaches the processes of the tests, and theirs. */
const diskVariable = "POSTHORN_TEST_DISK";

/** The system's temp folder, for what is kept from one run to the next. */
export function diskTempFolder(): string {
  return process.env[diskVariable] ?? tmpdir();
}

/** From now on `tmpdir()` is a folder of this run. Called by the configuration of the tests, before anything runs. */
export function useMemory(): void {
  if (process.env[diskVariable] !== undefined || !hasRoom()) return;
  for (const name of readdirSync(memory)) {
    if (!name.startsWith(prefix) || isAlive(Number(name.slice(prefix.length).split("-", 1)[0]))) continue;
    // What another user's run left is not ours to remove.
    try {
      rmSync(join(memory, name), { recursive: true, force: true });
    } catch {}
  }
  const folder = mkdtempSync(join(memory, ownPrefix()));
  // The user of the server must be able to enter.
  chmodSync(folder, 0o711);
  process.env[diskVariable] = tmpdir();
  process.env.TMPDIR = folder;
}

/** Removes the folder of this run; not that of a run which started this one. */
export async function forgetMemory(): Promise<void> {
  const folder = tmpdir();
  if (basename(folder).startsWith(ownPrefix())) await rm(folder, { recursive: true, force: true, maxRetries: 5 });
}

const ownPrefix = () => `${prefix}${process.pid}-`;

/** For what a whole run writes. */
function hasRoom(): boolean {
  try {
    accessSync(memory, constants.W_OK | constants.X_OK);
    const { bavail, bsize } = statfsSync(memory);
    const limit = constrainedMemory() || Number.POSITIVE_INFINITY;
    return bavail * bsize >= 4 * gib && Math.min(availableMemory(), limit) >= 6 * gib;
  } catch {
    return false;
  }
}
