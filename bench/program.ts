/** Programs that a row runs in processes of their own: it calls them by name and waits for the answer. */
import { type ChildProcess, fork } from "node:child_process";
import { once } from "node:events";
import { fileURLToPath } from "node:url";
import type { Answer, Calls, Question } from "./programs/serve.js";

export interface Program<C extends Calls<C>> {
  readonly pid: number;
  /** Rejects when the program ends before it answers. */
  call<N extends keyof C & string>(name: N, input: Parameters<C[N]>[0]): Promise<Awaited<ReturnType<C[N]>>>;
  /** SIGKILL. */
  kill(): void;
  /** Ends it, and returns when it is gone. */
  stop(): Promise<void>;
}

export type ProgramName =
  | "drainer"
  | "holder"
  | "http-receiver"
  | "limited"
  | "lock-watcher"
  | "message-receiver"
  | "message-sender"
  | "notify-receiver"
  | "notify-sender"
  | "relay-receiver"
  | "webhook-poster";

interface Waiting {
  readonly resolve: (value: never) => void;
  readonly reject: (error: Error) => void;
}

/** Starts `programs/<name>.js`; the settings are the first argument of its command line, as JSON. Returns when it is ready. */
export async function startProgram<C extends Calls<C>>(name: ProgramName, settings: object): Promise<Program<C>> {
  const script = fileURLToPath(new URL(`./programs/${name}.js`, import.meta.url));
  // Its output is for people: standard output belongs to the figures.
  const child = fork(script, [JSON.stringify(settings)], { stdio: ["ignore", 2, 2, "ipc"] });
  const program = new Running<C>(name, child);
  await program.call("ready" as keyof C & string, undefined as Parameters<C[keyof C]>[0]);
  return program;
}

class Running<C extends Calls<C>> implements Program<C> {
  readonly pid: number;
  readonly #child: ChildProcess;
  readonly #waiting = new Map<number, Waiting>();
  readonly #gone: Promise<unknown>;
  #calls = 0;
  #ended: Error | undefined;

  constructor(name: ProgramName, child: ChildProcess) {
    this.pid = child.pid ?? 0;
    this.#child = child;
    this.#gone = once(child, "exit").then(([code, signal]) => {
      this.#ended = new Error(`the program ${name} ended (${signal ?? code})`);
      for (const { reject } of this.#waiting.values()) reject(this.#ended);
      this.#waiting.clear();
    });
    child.on("message", (answer: Answer) => {
      const waiting = this.#waiting.get(answer.id);
      this.#waiting.delete(answer.id);
      if (answer.error === undefined) waiting?.resolve(answer.value as never);
      else waiting?.reject(new Error(`the program ${name}: ${answer.error}`));
    });
  }

  call<N extends keyof C & string>(name: N, input: Parameters<C[N]>[0]): Promise<Awaited<ReturnType<C[N]>>> {
    this.#calls += 1;
    const question: Question = { id: this.#calls, name, input };
    return new Promise((resolve, reject) => {
      if (this.#ended !== undefined) return reject(this.#ended);
      this.#waiting.set(question.id, { resolve, reject });
      // A program that has just been killed is noticed by its exit.
      this.#child.send(question, () => undefined);
    });
  }

  kill(): void {
    this.#child.kill("SIGKILL");
  }

  async stop(): Promise<void> {
    if (this.#child.connected) this.#child.disconnect();
    await this.#gone;
  }
}
