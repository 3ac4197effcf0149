/**
 * Which user runs the server, and which folders that user can reach.
 *
 * PostgreSQL refuses to run as root. As root we run it as another user that exists already; nothing is created.
 */
import { readFileSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname } from "node:path";

export interface ServerUser {
  readonly uid: number;
  readonly gid: number;
}

/** Undefined: run it as ourselves. */
export function serverUser(): ServerUser | undefined {
  if (process.getuid?.() !== 0) return undefined;
  const users = readFileSync("/etc/passwd", "utf8")
    .split("\n")
    .map((line) => line.split(":"))
    .filter((fields) => fields.length >= 4 && Number(fields[2]) > 0)
    .map(([name, , uid, gid]) => ({ name, uid: Number(uid), gid: Number(gid) }));
  const user =
    users.find(({ name }) => name === "postgres") ?? users.find(({ name }) => name === "nobody") ?? users.at(0);
  if (user === undefined) {
    throw new Error("PostgreSQL refuses to run as root, and /etc/passwd names no other user. Run the tests as a user.");
  }
  return { uid: user.uid, gid: user.gid };
}

/** The temp folder (or another that is given), or the system's own when that lies below a folder that the server's user cannot enter. */
export function reachableTempFolder(user: ServerUser | undefined, own = tmpdir()): string {
  if (user === undefined || everybodyCanEnter(own)) return own;
  const other = ["/tmp", "/var/tmp"].find((folder) => everybodyCanEnter(folder));
  if (other === undefined) throw new Error(`the server's user cannot enter ${own}; set TMPDIR to a folder it can`);
  return other;
}

function everybodyCanEnter(folder: string): boolean {
  for (let path = folder; ; path = dirname(path)) {
    const mode = statSync(path, { throwIfNoEntry: false })?.mode;
    if (mode === undefined || (mode & 0o001) === 0) return false;
    if (path === dirname(path)) return true;
  }
}
