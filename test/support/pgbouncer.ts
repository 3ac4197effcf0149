/** A PgBouncer of one's own in transaction mode, before a server of the tests. It refuses to run as root, so then another user runs it. */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { chmod, chown, mkdtemp, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as wait } from "node:timers/promises";
import { Client } from "pg";
import { freePort } from "./free-port.js";
import { reachableTempFolder, serverUser } from "./server-user.js";

export interface Bouncer {
  /** The same database through it. */
  through(url: string): string;
  /** SIGKILL, without a word to its clients. */
  kill(): Promise<void>;
  start(): Promise<void>;
  /** Its own list of connections to the server: how many. */
  servers(): Promise<number>;
  remove(): Promise<void>;
}

export interface BouncerOptions {
  readonly mode?: "transaction" | "session";
  /** Connections to the server for each database. */
  readonly size?: number;
  /** Takes any of the free sessions in turn. */
  readonly roundRobin?: boolean;
}

const host = "127.0.0.1";

/** Its path; scripts/test-postgres.mjs finds or installs it. */
function program(): string {
  const path = process.env.POSTHORN_TEST_PGBOUNCER;
  if (path === undefined) throw new Error("POSTHORN_TEST_PGBOUNCER names no PgBouncer. Run: npm run test:postgres");
  return path;
}

export async function startBouncer(server: { readonly url: string }, options: BouncerOptions = {}): Promise<Bouncer> {
  const user = serverUser();
  const folder = await mkdtemp(join(reachableTempFolder(user), "posthorn-bouncer-"));
  await chmod(folder, 0o755);
  if (user !== undefined) await chown(folder, user.uid, user.gid);
  const port = await freePort();
  const file = join(folder, "pgbouncer.ini");
  await writeFile(file, iniOf(server.url, port, options));
  let running: ChildProcess | undefined;
  const url = (database: string) => `postgres://postgres@${host}:${port}/${database}`;

  const start = async (): Promise<void> => {
    const child = spawn(program(), [file], { ...user, cwd: folder, stdio: "ignore" });
    running = child;
    await once(child, "spawn");
    for (let tries = 0; ; tries += 1) {
      const client = new Client({ connectionString: url("pgbouncer") });
      client.on("error", () => undefined);
      try {
        await client.connect();
        await client.end();
        return;
      } catch (error) {
        if (tries > 600 || child.exitCode !== null) throw error;
        await wait(50);
      }
    }
  };
  const kill = async (): Promise<void> => {
    const child = running;
    running = undefined;
    if (child === undefined || child.exitCode !== null) return;
    const exited = once(child, "exit");
    child.kill("SIGKILL");
    await exited;
  };
  await start();
  return {
    through: (given) => url(new URL(given).pathname.slice(1)),
    kill,
    start,
    servers: async () => {
      const client = new Client({ connectionString: url("pgbouncer") });
      await client.connect();
      try {
        return (await client.query("show servers")).rows.length;
      } finally {
        await client.end();
      }
    },
    remove: async () => {
      await kill();
      await rm(folder, { recursive: true, force: true });
    },
  };
}

function iniOf(server: string, port: number, options: BouncerOptions): string {
  const target = new URL(server);
  const { mode = "transaction", size = 10, roundRobin = false } = options;
  const lines = [
    "[databases]",
    `* = host=${target.hostname} port=${target.port} user=${target.username}`,
    "[pgbouncer]",
    `listen_addr = ${host}`,
    `listen_port = ${port}`,
    "unix_socket_dir =",
    "auth_type = any",
    `pool_mode = ${mode}`,
    `default_pool_size = ${size}`,
    "max_client_conn = 500",
    `server_round_robin = ${roundRobin ? 1 : 0}`,
    // Otherwise it waits for fifteen seconds before it tries a server again that was away.
    "server_login_retry = 0.2",
    "admin_users = postgres",
  ];
  return `${lines.join("\n")}\n`;
}
