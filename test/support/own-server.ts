/**
 * A PostgreSQL server on a folder and port of its own, which a test may stop, kill and start again.
 *
 * Durable as in production (fsync on), trusted logins, reachable by TCP on the loopback address and by a socket. A watchdog
 * process stops it and removes its folder when the test run ends in whatever way.
 */
import { type ChildProcess, execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { appendFile, chmod, chown, mkdir, mkdtemp, open, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { Socket } from "node:net";
import { join } from "node:path";
import { setTimeout as wait } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { Client } from "pg";
import { isAlive } from "./alive.js";
import { serverBinaries } from "./binaries.js";
import { freePort } from "./free-port.js";
import { reachableTempFolder, type ServerUser, serverUser } from "./server-user.js";

export interface ServerOptions {
  /** Major version. Without it: the one in POSTHORN_TEST_POSTGRES, else the installed one. Others are fetched on demand. */
  readonly version?: number;
  /** More lines of postgresql.conf, name to value. */
  readonly settings?: Readonly<Record<string, string | number>>;
}

export interface OwnServer {
  readonly port: number;
  readonly host: string;
  /** The folder of the server's unix socket. */
  readonly socketFolder: string;
  readonly dataFolder: string;
  /** Process id of the postmaster; undefined while it does not run. */
  readonly pid: number | undefined;
  url(database?: string): string;
  /** Starts it again on the same folder and port; waits for the first accepted connection, so also for crash recovery. */
  start(): Promise<void>;
  /** "fast" ends sessions and writes a checkpoint; "immediate" is a crash that the next start recovers from. */
  stop(mode?: "fast" | "immediate"): Promise<void>;
  /** SIGKILL to every process of the server at once, as a power cut would, without a word to its clients. */
  kill(): Promise<void>;
  /** Freezes and wakes every process of the server: a machine that no longer answers while its connections stay open. */
  freeze(): Promise<void>;
  thaw(): Promise<void>;
  log(): Promise<string>;
  /** Stops it and removes its folder. */
  remove(): Promise<void>;
}

const host = "127.0.0.1";
const folderPrefix = "posthorn-server-";
const startLimitMs = 60_000;
const watchdogScript = fileURLToPath(new URL("./watchdog.mjs", import.meta.url));

const settings: Readonly<Record<string, string | number>> = {
  fsync: "on",
  max_connections: 200,
  // Files whose transactions are prepared at random share a server.
  max_prepared_transactions: 64,
  shared_buffers: "256MB",
  // Checkpoints in the middle of a run would only make times unsteady.
  checkpoint_timeout: "30min",
  max_wal_size: "1GB",
  log_line_prefix: "'%m [%p] %d '",
};

export async function startServer(options: ServerOptions = {}): Promise<OwnServer> {
  const user = serverUser();
  const temp = reachableTempFolder(user);
  await removeStaleFolders(temp);
  const fromEnvironment = process.env.POSTHORN_TEST_POSTGRES;
  const binaries = await serverBinaries(
    options.version ?? (fromEnvironment === undefined ? undefined : Number(fromEnvironment)),
  );
  const folder = await mkdtemp(join(temp, folderPrefix));
  await writeFile(join(folder, "owner.pid"), String(process.pid));
  const watchdog = spawn(process.execPath, [watchdogScript, folder], {
    detached: true,
    stdio: ["pipe", "ignore", "ignore"],
  });
  // Neither the process nor its pipe keeps a finished test run alive.
  watchdog.unref();
  if (watchdog.stdin instanceof Socket) watchdog.stdin.unref();
  await prepareFolder(folder, binaries, user, { ...settings, ...options.settings });
  const server = new FolderServer({ folder, binaries, user, port: await freePort(), watchdog });
  await server.start();
  return server;
}

interface Parts {
  readonly folder: string;
  readonly binaries: string;
  readonly user: ServerUser | undefined;
  readonly port: number;
  readonly watchdog: ChildProcess;
}

class FolderServer implements OwnServer {
  readonly host = host;
  readonly port: number;
  readonly socketFolder: string;
  readonly dataFolder: string;
  readonly #parts: Parts;
  #postmaster: ChildProcess | undefined;

  constructor(parts: Parts) {
    this.#parts = parts;
    this.port = parts.port;
    this.socketFolder = parts.folder;
    this.dataFolder = join(parts.folder, "data");
  }

  get pid(): number | undefined {
    return this.#postmaster?.pid;
  }

  url(database = "postgres"): string {
    return `postgres://postgres@${host}:${this.port}/${database}`;
  }

  async start(): Promise<void> {
    if (this.#postmaster !== undefined) throw new Error("the server runs already");
    // We know that the former postmaster is gone; its number may belong to another process by now.
    await rm(join(this.dataFolder, "postmaster.pid"), { force: true });
    await rm(join(this.socketFolder, `.s.PGSQL.${this.port}.lock`), { force: true });
    const deadline = Date.now() + startLimitMs;
    for (;;) {
      const from = (await this.log().catch(() => "")).length;
      await this.#spawn();
      try {
        return await this.#accepting();
      } catch (error) {
        // What a killed backend had attached is let go a moment after it is gone.
        const held = (await this.log()).slice(from).includes("pre-existing shared memory block");
        if (!held || Date.now() > deadline) throw error;
        await wait(100);
      }
    }
  }

  async #spawn(): Promise<void> {
    const log = await open(join(this.#parts.folder, "server.log"), "a");
    const args = ["-D", this.dataFolder, "-p", String(this.port), "-k", this.socketFolder, "-h", host];
    const postmaster = spawn(join(this.#parts.binaries, "bin", "postgres"), args, {
      ...this.#parts.user,
      cwd: this.dataFolder,
      detached: true,
      stdio: ["ignore", log.fd, log.fd],
      env: { PATH: process.env.PATH, LC_ALL: "C", TZ: "UTC" },
    });
    this.#postmaster = postmaster;
    postmaster.unref();
    postmaster.once("exit", () => {
      if (this.#postmaster === postmaster) this.#postmaster = undefined;
    });
    await once(postmaster, "spawn");
    await log.close();
  }

  async stop(mode: "fast" | "immediate" = "fast"): Promise<void> {
    await this.#end((postmaster) => postmaster.kill(mode === "fast" ? "SIGINT" : "SIGQUIT"));
  }

  async kill(): Promise<void> {
    // Backends are process groups of their own, so each is named. The frozen postmaster starts no new ones meanwhile.
    await this.#end(async (postmaster) => {
      postmaster.kill("SIGSTOP");
      const backends = await this.#backends();
      for (const pid of backends) signal(pid, "SIGKILL");
      postmaster.kill("SIGKILL");
    });
  }

  async freeze(): Promise<void> {
    this.#postmaster?.kill("SIGSTOP");
    for (const pid of await this.#backends()) signal(pid, "SIGSTOP");
  }

  async thaw(): Promise<void> {
    for (const pid of await this.#backends()) signal(pid, "SIGCONT");
    this.#postmaster?.kill("SIGCONT");
  }

  async log(): Promise<string> {
    return readFile(join(this.#parts.folder, "server.log"), "utf8");
  }

  async remove(): Promise<void> {
    await this.stop("immediate");
    await rm(this.#parts.folder, { recursive: true, force: true, maxRetries: 5 });
    this.#parts.watchdog.stdin?.end();
  }

  async #end(act: (postmaster: ChildProcess) => unknown): Promise<void> {
    const postmaster = this.#postmaster;
    if (postmaster === undefined) return;
    // Without a reference nothing would keep a test run alive that has only this left to wait for.
    postmaster.ref();
    const exited = once(postmaster, "exit");
    await act(postmaster);
    await exited;
    this.#postmaster = undefined;
  }

  async #backends(): Promise<readonly number[]> {
    const postmaster = this.pid;
    return postmaster === undefined ? [] : childrenOf(postmaster);
  }

  async #accepting(): Promise<void> {
    const deadline = Date.now() + startLimitMs;
    for (;;) {
      const client = new Client({ connectionString: this.url(), connectionTimeoutMillis: 5_000 });
      // A server that goes away while we ask would otherwise end this process.
      client.on("error", () => undefined);
      try {
        await client.connect();
        return;
      } catch (error) {
        if (this.#postmaster === undefined || Date.now() > deadline) {
          throw new Error(`the server did not start:\n${await this.log()}`, { cause: error });
        }
        await wait(25);
      } finally {
        await client.end().catch(() => undefined);
      }
    }
  }
}

async function prepareFolder(
  folder: string,
  binaries: string,
  user: ServerUser | undefined,
  lines: Readonly<Record<string, string | number>>,
): Promise<void> {
  const data = join(folder, "data");
  await mkdir(data, { mode: 0o700 });
  await chmod(folder, 0o711);
  if (user !== undefined) {
    await chown(folder, user.uid, user.gid);
    await chown(data, user.uid, user.gid);
  }
  const args = ["-D", data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync"];
  await promisify(execFile)(join(binaries, "bin", "initdb"), args, { ...user, cwd: folder });
  const text = Object.entries(lines).map(([name, value]) => `${name} = ${value}\n`);
  await appendFile(join(data, "postgresql.conf"), `\n${text.join("")}`);
}

/** Runs that were killed together with their watchdog leave a folder; the watchdog of today removes it. */
async function removeStaleFolders(temp: string): Promise<void> {
  for (const name of await readdir(temp)) {
    if (!name.startsWith(folderPrefix)) continue;
    const folder = join(temp, name);
    const owner = Number(await readFile(join(folder, "owner.pid"), "utf8").catch(() => "0"));
    if (owner === 0 || isAlive(owner)) continue;
    spawn(process.execPath, [watchdogScript, folder], { detached: true, stdio: "ignore" }).unref();
  }
}

async function childrenOf(parent: number): Promise<readonly number[]> {
  const { stdout } = await promisify(execFile)("ps", ["-A", "-o", "pid=,ppid="]).catch(async () => ({
    stdout: await processTable(),
  }));
  return stdout
    .split("\n")
    .map((line) => line.trim().split(/\s+/).map(Number))
    .filter(([, ppid]) => ppid === parent)
    .map(([pid]) => pid ?? 0);
}

/** What `ps` prints, for machines without it. The name in the second field may hold blanks and brackets. */
async function processTable(): Promise<string> {
  const pids = (await readdir("/proc")).filter((name) => /^\d+$/.test(name));
  const lines = await Promise.all(
    pids.map(async (pid) => {
      const text = await readFile(`/proc/${pid}/stat`, "utf8").catch(() => "");
      return `${pid} ${text.slice(text.lastIndexOf(")") + 2).split(" ")[1] ?? ""}`;
    }),
  );
  return lines.join("\n");
}

function signal(pid: number, name: NodeJS.Signals): void {
  try {
    process.kill(pid, name);
  } catch {
    // Gone between the list and the signal: what we wanted.
  }
}
