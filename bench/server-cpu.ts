/**
 * Processor time of a PostgreSQL server: of the postmaster and all its children, from /proc.
 *
 * A child that ended and was waited for is in the postmaster's own count of its children (cutime, cstime), so nobody gets lost.
 */
import { readdirSync, readFileSync } from "node:fs";
import pg from "pg";

/** USER_HZ of Linux on every processor that Node runs on; the unit of /proc/<pid>/stat. */
const ticksPerSecond = 100;

interface Stat {
  readonly parent: number;
  /** utime, stime, cutime and cstime together. */
  readonly ticks: number;
  readonly ofEndedChildren: number;
}

export type ServerCpu = { readonly seconds: () => number } | { readonly reason: string };

/** `reason`: why the processes of this server cannot be seen from here. */
export async function serverCpu(url: string): Promise<ServerCpu> {
  if (process.platform !== "linux") return { reason: `/proc is needed, and this is ${process.platform}` };
  const client = new pg.Client(url);
  await client.connect();
  try {
    const { rows } = await client.query<{ pid: number; database: string }>(
      "select pg_backend_pid() as pid, current_database() as database",
    );
    const { pid, database } = rows[0] ?? { pid: 0, database: "" };
    // On another machine, or in another container, the number belongs to nobody or to somebody else.
    const title = titleOf(pid);
    if (!title.startsWith("postgres:") || !title.includes(` ${database} `)) {
      return { reason: "the server's processes cannot be seen from this machine" };
    }
    const postmaster = statOf(pid)?.parent ?? 0;
    return { seconds: () => secondsOf(postmaster) };
  } finally {
    await client.end();
  }
}

function titleOf(pid: number): string {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, "utf8");
  } catch {
    return "";
  }
}

function secondsOf(postmaster: number): number {
  for (;;) {
    const before = statOf(postmaster);
    const children = readdirSync("/proc")
      .filter((name) => /^\d+$/.test(name))
      .map((name) => statOf(Number(name)))
      .filter((stat) => stat?.parent === postmaster);
    const after = statOf(postmaster);
    if (before === undefined || after === undefined) throw new Error("the server has ended");
    // A child that ended meanwhile would be counted twice or not at all: look again.
    if (before.ofEndedChildren !== after.ofEndedChildren) continue;
    return children.reduce((sum, child) => sum + (child?.ticks ?? 0), after.ticks) / ticksPerSecond;
  }
}

function statOf(pid: number): Stat | undefined {
  let text: string;
  try {
    text = readFileSync(`/proc/${pid}/stat`, "utf8");
  } catch {
    return undefined;
  }
  // The second field, the name in brackets, may hold blanks. The first one behind it is the state.
  const fields = text.slice(text.lastIndexOf(")") + 2).split(" ");
  const [utime = 0, stime = 0, cutime = 0, cstime = 0] = fields.slice(11, 15).map(Number);
  return { parent: Number(fields[1]), ticks: utime + stime + cutime + cstime, ofEndedChildren: cutime + cstime };
}
