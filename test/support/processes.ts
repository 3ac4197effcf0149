/**
 * Child processes that run a fixture program: `test/<area>/fixtures/<name>.ts`, compiled together with src.
 *
 * A fixture talks by lines on standard output and input. What still runs when the test file ends is killed.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { join, relative } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { afterAll } from "vitest";
import { shortLived } from "./node-options.js";
import { shared } from "./shared.js";

export interface FixtureOptions {
  readonly args?: readonly string[];
  readonly env?: Readonly<Record<string, string>>;
  readonly cwd?: string;
}

export interface Exit {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
}

export interface FixtureProcess {
  readonly pid: number;
  /** Everything that it has printed so far. */
  readonly lines: readonly string[];
  readonly errorOutput: string;
  /** Settles when the process is gone and everything that it printed has been read. Never rejects. */
  readonly exited: Promise<Exit>;
  /** The first line, printed already or later, that fits. Each line answers one call only. */
  line(fits: string | RegExp | ((line: string) => boolean), options?: { withinMs?: number }): Promise<string>;
  /** One line on its standard input. */
  say(line: string): void;
  /** SIGSTOP and SIGCONT work as well. */
  kill(signal?: NodeJS.Signals): void;
}

const root = fileURLToPath(new URL("../..", import.meta.url));
const dieWithParent = new URL("./die-with-parent.mjs", import.meta.url).href;
const running = new Set<ChildProcess>();

function killAll(): void {
  for (const child of running) child.kill("SIGKILL");
}
process.once("exit", killAll);
afterAll(() => {
  killAll();
  process.off("exit", killAll);
});

/** Starts a fixture: `spawnFixture("test/worker/fixtures/endless.ts")`, or a URL made from `import.meta.url`. */
export async function spawnFixture(file: string | URL, options: FixtureOptions = {}): Promise<FixtureProcess> {
  const path = file instanceof URL ? relative(root, fileURLToPath(file)) : file;
  const script = join(await shared("fixtures"), path.replace(/\.ts$/, ".js"));
  const args = [...shortLived, "--enable-source-maps", "--import", dieWithParent, script, ...(options.args ?? [])];
  const child = spawn(process.execPath, args, {
    cwd: options.cwd ?? root,
    env: { ...process.env, ...options.env },
    stdio: ["pipe", "pipe", "pipe", "ipc"],
  });
  running.add(child);
  await once(child, "spawn");
  return new RunningFixture(path, child);
}

interface Waiting {
  readonly fits: (line: string) => boolean;
  readonly take: (line: string) => void;
}

class RunningFixture implements FixtureProcess {
  readonly pid: number;
  readonly lines: string[] = [];
  readonly exited: Promise<Exit>;
  readonly #name: string;
  readonly #child: ChildProcess;
  readonly #unread: string[] = [];
  readonly #waiting = new Set<Waiting>();
  #errorOutput = "";
  #closed = false;

  constructor(name: string, child: ChildProcess) {
    if (child.pid === undefined || child.stdout === null || child.stderr === null)
      throw new Error(`${name} has no pipes`);
    this.pid = child.pid;
    this.#name = name;
    this.#child = child;
    child.once("exit", () => running.delete(child));
    // Not "exit": the last lines may still be in the pipe then.
    this.exited = new Promise((resolve) => {
      child.once("close", (code, signal) => {
        this.#closed = true;
        resolve({ code, signal });
      });
    });
    child.stdin?.on("error", () => undefined);
    child.stderr.setEncoding("utf8").on("data", (text: string) => {
      this.#errorOutput += text;
    });
    createInterface({ input: child.stdout }).on("line", (line) => this.#arrived(line));
  }

  get errorOutput(): string {
    return this.#errorOutput;
  }

  async line(
    wanted: string | RegExp | ((line: string) => boolean),
    { withinMs = 60_000 }: { withinMs?: number } = {},
  ): Promise<string> {
    const fits = predicate(wanted);
    const index = this.#unread.findIndex(fits);
    if (index >= 0) return this.#unread.splice(index, 1)[0] ?? "";
    return new Promise((resolve, reject) => {
      const fail = (reason: string) => {
        done();
        reject(new Error(`${this.#name} ${reason}; waited for ${String(wanted)}\n${this.#output()}`));
      };
      const waiting: Waiting = {
        fits,
        take: (line) => {
          done();
          resolve(line);
        },
      };
      const timer = setTimeout(() => fail(`printed no such line within ${withinMs} ms`), withinMs);
      const ended = () => fail("ended");
      const done = () => {
        clearTimeout(timer);
        this.#waiting.delete(waiting);
        this.#child.off("close", ended);
      };
      if (this.#closed) return ended();
      this.#waiting.add(waiting);
      this.#child.once("close", ended);
    });
  }

  say(line: string): void {
    this.#child.stdin?.write(`${line}\n`);
  }

  kill(signal: NodeJS.Signals = "SIGKILL"): void {
    this.#child.kill(signal);
  }

  #arrived(line: string): void {
    this.lines.push(line);
    for (const waiting of this.#waiting) {
      if (waiting.fits(line)) {
        waiting.take(line);
        return;
      }
    }
    this.#unread.push(line);
  }

  #output(): string {
    return [...this.lines.slice(-20), this.#errorOutput.slice(-4_000)].join("\n");
  }
}

function predicate(wanted: string | RegExp | ((line: string) => boolean)): (line: string) => boolean {
  if (typeof wanted === "function") return wanted;
  if (typeof wanted === "string") return (line) => line === wanted;
  return (line) => wanted.test(line);
}
