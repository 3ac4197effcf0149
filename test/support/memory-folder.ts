/**
 * Where databases of tests lie: in memory where the machine has enough of it, which spares most of the time that it takes to make and to
 * drop a database; else in the temp folder.
 *
 * What a test can see is the same: files outlive the processes that write them, whatever kills those. Only the loss of the whole
 * machine would tell the two apart.
 */
import { accessSync, constants, statfsSync } from "node:fs";
import { availableMemory, constrainedMemory } from "node:process";

const folder = "/dev/shm";
const gib = 2 ** 30;

/** `otherwise`, unless this machine has a file system in memory with room for what a whole run writes. */
export function memoryFolder(otherwise: string): string {
  try {
    accessSync(folder, constants.W_OK | constants.X_OK);
    const { bavail, bsize } = statfsSync(folder);
    const memory = Math.min(availableMemory(), constrainedMemory() || Number.POSITIVE_INFINITY);
    return bavail * bsize >= 4 * gib && memory >= 6 * gib ? folder : otherwise;
  } catch {
    return otherwise;
  }
}
