/** What the figures were measured with: machine, commit, server settings. A figure without them says little. */
import { execFile } from "node:child_process";
import { cpus, totalmem } from "node:os";
import { promisify } from "node:util";
import pg from "pg";

const shown = [
  "shared_buffers",
  "max_wal_size",
  "checkpoint_timeout",
  "wal_level",
  "full_page_writes",
  "autovacuum",
  "max_connections",
] as const;

/** Without these, limit and product would be measured without what they promise. */
const needed = ["fsync", "synchronous_commit"] as const;

/** Lines for people. Rejects when the server does not wait for its disk. */
export async function conditions(admin: string): Promise<readonly string[]> {
  const client = new pg.Client(admin);
  await client.connect();
  try {
    const { rows } = await client.query<{ name: string; value: string }>(
      "select name, current_setting(name) as value from unnest($1::text[]) name",
      [["server_version", ...needed, ...shown]],
    );
    const of = new Map(rows.map(({ name, value }) => [name, value]));
    for (const name of needed) {
      if (of.get(name) !== "on") throw new Error(`${name} is ${of.get(name)} on this server; it must be on`);
    }
    const lines = [...needed, ...shown].map((name) => `${name} ${of.get(name)}`);
    return [
      `PostgreSQL ${of.get("server_version")} for limit and product alike: ${lines.join(", ")}`,
      `Node ${process.version}, ${cpus().length} × ${cpus()[0]?.model ?? "?"}, ${Math.round(totalmem() / 1e9)} GB, ${process.platform}, commit ${await commit()}`,
    ];
  } finally {
    await client.end();
  }
}

async function commit(): Promise<string> {
  const git = async (...args: string[]) => (await promisify(execFile)("git", args)).stdout.trim();
  try {
    const changes = await git("status", "--porcelain");
    return `${await git("rev-parse", "--short", "HEAD")}${changes === "" ? "" : " with changes"}`;
  } catch {
    return "unknown";
  }
}
