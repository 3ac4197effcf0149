/**
 * What the files of scripts/services are made of: a program that is found or installed, on a free port, and gone with whoever started it.
 *
 * Each of those files starts one real broker for tests, benchmarks and examples, and exports:
 *
 * - `title`: what it is, for people.
 * - `available()`: its name and version, having installed it where this process may; undefined where it cannot be had.
 * - `start({ folder, log, port?, … })`: starts one on the loopback address that keeps its files in the empty folder `folder` and appends what it prints to
 *   the file `log`. Resolves when it answers, with `{ url, port, keeps, stop(), kill(), restart() }`, all of them asynchronous: `stop` ends it in good
 *   order, `kill` by SIGKILL, and `restart` starts it again on the same folder and port, after either or in good order. `keeps`: through what it keeps
 *   everything that it has acknowledged: "kill", "stop" or "nothing". `settled()`, where it is there, waits until what was declared just now outlives a kill.
 */
import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { closeSync, openSync, readFileSync } from "node:fs";
import { connect, createServer } from "node:net";
import { setTimeout as wait } from "node:timers/promises";

const host = "127.0.0.1";
const startLimitMs = 120_000;
const stopLimitMs = 30_000;

/** The path of a program. Debian has servers where a user's path does not lead. */
export function found(program) {
  const path = `${process.env.PATH}:/usr/sbin:/usr/local/sbin`;
  const { status, stdout } = spawnSync("sh", ["-c", 'command -v "$0"', program], {
    encoding: "utf8",
    env: { ...process.env, PATH: path },
  });
  return status === 0 ? stdout.trim() : undefined;
}

/** The same, from Debian's package if need be: only where this process may install packages. */
export function foundOrInstalled(program, packageName = program) {
  return found(program) ?? (installed(packageName) ? found(program) : undefined);
}

let updated = false;

export function installed(...names) {
  if (process.getuid?.() !== 0 || found("apt-get") === undefined) return false;
  const apt = (seconds, ...args) =>
    spawnSync("apt-get", ["-qq", "-o", "DPkg::Lock::Timeout=60", ...args], {
      stdio: ["ignore", 2, 2],
      timeout: seconds * 1_000,
      // A package that would start its server at once is told not to.
      env: { ...process.env, DEBIAN_FRONTEND: "noninteractive", RUNLEVEL: "1" },
    }).status === 0;
  updated ||= apt(30, "update");
  return updated && apt(120, "install", "-y", "--no-install-recommends", ...names);
}

/** Below the range from which the system gives ports to clients: nobody takes it while the server is down. */
export async function freePort() {
  for (let attempt = 0; attempt < 100; attempt += 1) {
    const port = 10_000 + Math.floor(Math.random() * 20_000);
    const probe = createServer();
    const free = await new Promise((resolve) => {
      probe.once("error", () => resolve(false));
      probe.listen(port, host, () => resolve(true));
    });
    if (!free) continue;
    await new Promise((resolve) => probe.close(resolve));
    return port;
  }
  throw new Error("no free port between 10000 and 30000");
}

/** Resolves when something accepts connections. */
export async function accepts(port) {
  await new Promise((resolve, reject) => {
    const socket = connect({ host, port });
    socket.once("connect", () => resolve(socket.destroy()));
    socket.once("error", reject);
  });
}

const running = new Set();
process.once("exit", () => {
  for (const child of running) signalGroup(child, "SIGKILL");
});

/**
 * One program that can be stopped, killed and started again.
 *
 * `ready` is called until it no longer rejects. The program and its children are a group of processes, which is killed as a whole; the program itself is
 * killed by the system when this process is, where the system can do that.
 */
export class Program {
  #options;
  #child;

  /** `{ command, args, cwd, env, log, ready }` */
  constructor(options) {
    this.#options = options;
  }

  get pid() {
    return this.#child?.pid;
  }

  async start() {
    if (this.#child !== undefined) throw new Error(`${this.#options.command} runs already`);
    const { command, args = [], cwd, env = {}, log, ready } = this.#options;
    const output = openSync(log, "a");
    const setpriv = found("setpriv");
    const line = setpriv === undefined ? [command, ...args] : [setpriv, "--pdeathsig", "KILL", command, ...args];
    const child = spawn(line[0], line.slice(1), {
      cwd,
      env: { ...process.env, ...env },
      stdio: ["ignore", output, output],
      detached: true,
    });
    closeSync(output);
    child.unref();
    this.#child = child;
    running.add(child);
    child.once("exit", () => {
      running.delete(child);
      if (this.#child === child) this.#child = undefined;
    });
    await once(child, "spawn");
    const deadline = Date.now() + startLimitMs;
    for (;;) {
      try {
        return await ready();
      } catch (error) {
        if (this.#child !== child || Date.now() > deadline) {
          await this.kill();
          throw new Error(`${command} did not start:\n${readFileSync(log, "utf8").slice(-4_000)}`, { cause: error });
        }
        await wait(50);
      }
    }
  }

  /** In good order; by force when that takes too long. */
  async stop(signal = "SIGTERM") {
    await this.#end(signal);
  }

  async kill() {
    await this.#end("SIGKILL");
  }

  async #end(signal) {
    const child = this.#child;
    if (child === undefined) return;
    child.ref();
    const exited = once(child, "exit");
    signalGroup(child, signal);
    const timer = setTimeout(() => signalGroup(child, "SIGKILL"), stopLimitMs);
    await exited;
    clearTimeout(timer);
    this.#child = undefined;
  }
}

function signalGroup(child, signal) {
  try {
    process.kill(-child.pid, signal);
  } catch {
    // Gone already: what was wanted.
  }
}

/** What `start` of a service resolves with, for one that is a program. */
export function serviceOf(program, facts) {
  return {
    ...facts,
    stop: () => program.stop(),
    kill: () => program.kill(),
    restart: async () => {
      await program.stop();
      await program.start();
    },
  };
}
