/**
 * Keeps the process in which the user's code runs: one at a time, a new one for each change.
 *
 * A new one starts when the old one is gone, so that an embedded folder has one holder. What a stopped process had not finished it
 * hands back; what a killed one held is rescued by the next.
 */
import { type ChildProcess, fork } from "node:child_process";
import { createInterface } from "node:readline";
import { setTimeout as wait } from "node:timers/promises";
import { bounds } from "./bounds.js";
import type { Tell } from "./events.js";
import { type Failure, isSaid, type Said, type Setup, type ToStop } from "./messages.js";

export interface Keeping {
  /** What the process runs: ./program.ts, built. */
  readonly program: URL;
  readonly setup: Setup;
  /** Added to the environment of this process. */
  readonly env: Readonly<Record<string, string>>;
  readonly graceMs: number;
  readonly tell: Tell;
  /** The folder of the embedded database that the configuration names. */
  readonly holds: (folder: string) => void;
}

interface Running {
  readonly process: ChildProcess;
  readonly pid: number;
  readonly since: number;
  readonly output: Promise<unknown>;
  /** It was told to stop. */
  asked: boolean;
  /** It stopped in order, told by somebody else. */
  stopped: boolean;
  failure: Failure | undefined;
}

export class Supervisor {
  readonly #keeping: Keeping;
  #running: Running | undefined;
  #again: NodeJS.Timeout | undefined;
  #patience: NodeJS.Timeout | undefined;
  /** Kills in a row, each soon after a start. */
  #kills = 0;
  #closed: (() => void) | undefined;

  constructor(keeping: Keeping) {
    this.#keeping = keeping;
  }

  /** Starts, or restarts with fresh modules. Several calls while one is stopping lead to one start. */
  restart(): void {
    if (this.#closed !== undefined) return;
    clearTimeout(this.#again);
    if (this.#running === undefined) this.#start();
    else this.#askToStop(this.#running);
  }

  /** Resolves when nothing runs any more. */
  async stop(): Promise<void> {
    clearTimeout(this.#again);
    await new Promise<void>((resolve) => {
      this.#closed = resolve;
      if (this.#running === undefined) resolve();
      else this.#askToStop(this.#running);
    });
  }

  /** At once. */
  kill(): void {
    this.#running?.process.kill("SIGKILL");
  }

  #askToStop(running: Running): void {
    if (running.asked) return;
    running.asked = true;
    const { graceMs } = this.#keeping;
    running.process.send({ do: "stop", graceMs } satisfies ToStop, () => undefined);
    this.#patience = setTimeout(() => running.process.kill("SIGKILL"), graceMs + bounds.stopMs);
  }

  #start(): void {
    const { program, setup, env } = this.#keeping;
    const child = fork(program, [JSON.stringify(setup)], {
      env: { ...process.env, ...env },
      stdio: ["ignore", "pipe", "pipe", "ipc"],
    });
    const running: Running = {
      process: child,
      pid: child.pid ?? 0,
      since: performance.now(),
      output: new Promise((resolve) => child.once("close", resolve)),
      asked: false,
      stopped: false,
      failure: undefined,
    };
    this.#running = running;
    for (const stream of ["stdout", "stderr"] as const) {
      const input = child[stream];
      if (input === null) continue;
      createInterface({ input }).on("line", (text) => this.#keeping.tell({ event: "output", stream, text }));
    }
    child.on("message", (message) => {
      if (isSaid(message)) this.#hear(running, message);
    });
    child.once("error", (error) => {
      running.failure ??= { code: "PH_INTERNAL", message: error.message, passing: true };
      if (child.pid === undefined) void this.#ended(running, null, null);
    });
    child.once("exit", (code, signal) => void this.#ended(running, code, signal));
  }

  #hear(running: Running, said: Said): void {
    const { tell, holds } = this.#keeping;
    if (said.said === "failed") running.failure = said.failure;
    if (said.said === "stopped") running.stopped = true;
    if (running.asked) return;
    if (said.said === "loaded") {
      if (said.folder !== undefined) holds(said.folder);
      tell({ event: "loaded", service: said.service, database: said.database });
    }
    if (said.said === "started") tell({ event: "started", pid: running.pid, worksOn: said.worksOn });
    if (said.said === "looked") tell({ event: "status", look: said.look, failures: said.failures });
    if (said.said === "blind") tell({ event: "blind", reason: said.reason });
  }

  async #ended(running: Running, code: number | null, signal: NodeJS.Signals | null): Promise<void> {
    clearTimeout(this.#patience);
    // Its last words come before ours.
    await Promise.race([running.output, wait(bounds.outputMs)]);
    this.#running = undefined;
    if (this.#closed !== undefined) this.#closed();
    else if (running.asked) this.#start();
    else this.#afterAccident(running, code, signal);
  }

  #afterAccident({ failure, pid, since, stopped }: Running, code: number | null, signal: NodeJS.Signals | null): void {
    const { tell } = this.#keeping;
    if (failure !== undefined) {
      const againInMs = failure.passing ? bounds.againMs : null;
      tell({ event: "failed", code: failure.code, message: failure.message, againInMs });
      if (againInMs !== null) this.#startIn(againInMs);
      return;
    }
    // What its own code ended, the same code would end again. What somebody else killed or stopped goes on.
    const killed = signal !== null || stopped;
    if (killed) this.#kills = performance.now() - since < bounds.longestAgainMs ? this.#kills + 1 : 1;
    const pause = this.#kills === 1 ? 0 : Math.min(bounds.longestAgainMs, 500 * 2 ** (this.#kills - 1));
    const againInMs = killed ? pause : null;
    tell({ event: "ended", pid, code, signal, againInMs });
    if (againInMs !== null) this.#startIn(againInMs);
  }

  #startIn(ms: number): void {
    this.#again = setTimeout(() => this.restart(), ms);
  }
}
