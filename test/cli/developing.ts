/** `posthorn dev` as a user runs it: the program, the process that it starts, and files that change. */
import { spawn } from "node:child_process";
import { rename, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { expect, onTestFinished } from "vitest";
import type { DevEvent } from "../../src/cli/dev/events.js";
import { isAlive } from "../support/alive.js";
import { eventually } from "../support/eventually.js";
import { shortLived } from "../support/node-options.js";
import { createDatabase } from "../support/server.js";
import { mainFile, project } from "./command.js";

/** Starting a process that opens an embedded database takes its time on a busy machine. */
export const patience = { withinMs: 60_000 };

export type Event<Name extends DevEvent["event"]> = DevEvent & { readonly event: Name };

export class Dev {
  readonly pid: number;
  readonly exited: Promise<{ readonly code: number | null; readonly signal: NodeJS.Signals | null }>;
  readonly events: DevEvent[] = [];
  readonly text: string[] = [];
  errorOutput = "";
  /** How many events were taken. */
  #taken = 0;
  readonly #kill: (signal: NodeJS.Signals) => void;

  private constructor(child: ReturnType<typeof spawn>) {
    if (child.pid === undefined || child.stdout === null) throw new Error("posthorn dev has no pipes");
    this.pid = child.pid;
    child.stderr?.setEncoding("utf8").on("data", (text: string) => {
      this.errorOutput += text;
    });
    this.#kill = (signal) => child.kill(signal);
    this.exited = new Promise((resolve) => child.once("exit", (code, signal) => resolve({ code, signal })));
    createInterface({ input: child.stdout }).on("line", (line) => {
      if (line.startsWith("{")) this.events.push(JSON.parse(line));
      this.text.push(line);
    });
  }

  /** Killed with what it started when the test ends. */
  static async start(
    folder: string,
    args: readonly string[] = ["--json"],
    env: Readonly<Record<string, string>> = {},
  ): Promise<Dev> {
    const line = [...shortLived, await mainFile(), "dev", "--every-ms", "100", ...args];
    const child = spawn(process.execPath, line, {
      cwd: folder,
      env: { ...process.env, DATABASE_URL: "", ...env },
      stdio: ["ignore", "pipe", "pipe"],
    });
    const dev = new Dev(child);
    onTestFinished(async () => {
      const left = dev.events.filter((event) => event.event === "started").map(({ pid }) => pid);
      dev.kill("SIGKILL");
      await dev.exited;
      // They end by themselves; that they do is a test of its own.
      for (const pid of left) if (isAlive(pid)) process.kill(pid, "SIGKILL");
    });
    return dev;
  }

  /** The next event of a name, and everything before it is passed over. */
  async next<Name extends DevEvent["event"]>(
    name: Name,
    fits: (event: Event<Name>) => boolean = () => true,
  ): Promise<Event<Name>> {
    const matches = (event: DevEvent): event is Event<Name> => event.event === name && fits(event as Event<Name>);
    try {
      return await eventually(() => {
        const found = this.events.slice(this.#taken).find(matches);
        if (found !== undefined) this.#taken = this.events.indexOf(found) + 1;
        return found;
      }, patience);
    } catch (error) {
      const seen = this.events.filter((event) => event.event !== "status").slice(-15);
      const lines = seen.map((event) => JSON.stringify(event));
      throw new Error([`no ${name} came:`, ...lines, this.errorOutput].join("\n"), { cause: error });
    }
  }

  /** A line that the user's code printed. */
  async printed(text: string): Promise<void> {
    await this.next("output", (event) => event.text === text);
  }

  kill(signal: NodeJS.Signals): void {
    this.#kill(signal);
  }
}

const contracts = `
import { command, posthorn, retry, type } from "posthorn";
export const SendEmail = command("SendEmail", { queue: "email", schema: type() });
export const post = posthorn({ service: "shop", database: process.env.DATABASE_URL || "embedded:.data" });
export const email = post.queue("email", {
  retry: retry.fixed({ attempts: 3, delayMs: 100 }),
  idempotency: "handler",
  ordering: "none",
  visibilityTimeoutMs: 600_000,
  deadLetter: { keepMs: 86_400_000 },
  alerts: { oldestAgeMs: 600_000, backlog: 1_000, deadLetters: 1, noWorkerMs: 600_000 },
});
`;

/**
 * Sends { n } once for each time that the test says so, by a request to a port that it prints. A handler that is about to take the thread for ever, or
 * to end the process, waits for `answered` first: otherwise the answer with the id may never leave.
 */
const desk = `
import { createServer } from "node:http";
import { post, SendEmail } from "./post.mjs";
const server = createServer((request, response) => {
  const said = new URL(request.url, "http://localhost").searchParams;
  globalThis.answered = new Promise((resolve) => response.once("finish", resolve));
  post.send(SendEmail, Object.fromEntries(said)).then(({ id }) => response.end(id), (error) => response.writeHead(500).end(String(error)));
});
server.listen(0, "127.0.0.1", () => console.log("desk " + process.pid + " " + server.address().port));
`;

/** A database of its own on the server, which starts faster than an embedded one. */
export async function onServer(): Promise<{ readonly DATABASE_URL: string }> {
  const database = await createDatabase();
  onTestFinished(() => database.drop());
  return { DATABASE_URL: database.url };
}

/** A folder with a queue "email" whose handler is the given text, and a desk at which messages are handed in. */
export async function shop(handler: string, files: Readonly<Record<string, string>> = {}): Promise<string> {
  return project({
    "posthorn.config.mjs": 'import "./handlers.mjs";\nimport "./desk.mjs";\nexport { post } from "./post.mjs";\n',
    "post.mjs": contracts,
    "desk.mjs": desk,
    "handlers.mjs": handling(handler),
    ...files,
  });
}

export function handling(body: string): string {
  return `import { email, post, SendEmail } from "./post.mjs";\nemail.handle(SendEmail, async (payload, context) => {\n${body}\n});\n`;
}

/** As an editor that saves through a new file and a rename. */
export async function save(folder: string, name: string, text: string): Promise<void> {
  await writeFile(join(folder, `${name}.tmp`), text);
  await rename(join(folder, `${name}.tmp`), join(folder, name));
}

/** Where the desk of the process that started last is. What a process prints and what it says of itself come by two pipes: either may be the first. */
async function deskOf(dev: Dev): Promise<string> {
  return eventually(() => {
    const started = dev.events.findLast((event) => event.event === "started");
    const printed = dev.events.flatMap((event) => (event.event === "output" ? [event.text] : []));
    const desks = [...printed, ...dev.text].flatMap((text) => {
      const [, pid, port] = /^desk (\d+) (\d+)$/.exec(text) ?? [];
      return port === undefined || (started !== undefined && Number(pid) !== started.pid) ? [] : [port];
    });
    return desks.at(-1);
  }, patience);
}

/** Hands a message in; returns its id. */
export async function send(dev: Dev, payload: Readonly<Record<string, string>>): Promise<string> {
  const port = await deskOf(dev);
  const response = await fetch(`http://127.0.0.1:${port}/?${new URLSearchParams(payload)}`);
  const id = await response.text();
  expect(response.status, id).toBe(200);
  return id;
}
