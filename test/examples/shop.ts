/** The example shop as its readers run it: compiled, with the packed package, as a process of its own. */
import { type ChildProcess, execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { cp, mkdir, mkdtemp, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { shortLived } from "../support/node-options.js";
import { createEmbedded } from "../support/pglite.js";
import { createDatabase } from "../support/server.js";
import { shared } from "../support/shared.js";

const root = fileURLToPath(new URL("../..", import.meta.url));
const dieWithParent = new URL("../support/die-with-parent.mjs", import.meta.url).href;
const run = promisify(execFile);

/** Everything that the example imports beside posthorn, and the drivers. */
const packages = [
  "croner",
  "zod",
  "nodemailer",
  "smtp-server",
  "postal-mime",
  "csv-parse",
  "csv-stringify",
  "standardwebhooks",
  "pg",
  "@electric-sql",
  "mqtt",
  "aedes",
  "level",
];

export interface BuiltShop {
  readonly folder: string;
  remove(): Promise<void>;
}

export async function buildShop(): Promise<BuiltShop> {
  const folder = await mkdtemp(join(tmpdir(), "posthorn-shop-"));
  const modules = join(folder, "node_modules");
  await mkdir(join(modules, "posthorn"), { recursive: true });
  await writeFile(join(folder, "package.json"), JSON.stringify({ type: "module" }));
  await run("tar", ["-xzf", await shared("tarball"), "-C", join(modules, "posthorn"), "--strip-components=1"]);
  for (const name of packages) await symlink(join(root, "node_modules", name), join(modules, name));
  const tsc = join(root, "node_modules/typescript/bin/tsc");
  // Types are another gate.
  await run(process.execPath, [tsc, "-p", join(root, "tsconfig.examples.json"), "--noCheck", "--outDir", folder]);
  await cp(join(root, "examples"), folder, { recursive: true, filter: (path) => !path.endsWith(".ts") });
  return { folder, remove: () => rm(folder, { recursive: true, force: true }) };
}

/** A database for a shop. */
export interface Place {
  readonly database: string;
  remove(): Promise<void>;
}

export async function embedded(): Promise<Place> {
  const { url, remove } = await createEmbedded();
  return { database: url, remove };
}

export async function onServer(): Promise<Place> {
  const database = await createDatabase();
  return { database: database.url, remove: () => database.drop() };
}

/** What the supervisor starts beside the shop gets a place as well: the folder of the broker, the database of the shipping department. */
export async function neighbours(): Promise<{
  readonly env: Readonly<Record<string, string>>;
  remove(): Promise<void>;
}> {
  const folder = await mkdtemp(join(tmpdir(), "posthorn-shop-broker-"));
  const database = await createDatabase();
  return {
    env: { BROKER_FOLDER: folder, SHIPPING_DATABASE_URL: database.url },
    remove: async () => {
      await database.drop();
      await rm(folder, { recursive: true, force: true });
    },
  };
}

// biome-ignore lint/suspicious/noExplicitAny: a test looks into answers of every form.
export type Json = any;

export interface Answer {
  readonly status: number;
  readonly headers: Headers;
  readonly json: Json;
}

/** A shop that runs, and a visitor of it: the cookie that they are given is kept. */
export class Shop {
  readonly url: string;
  readonly pid: number;
  readonly #child: ChildProcess;
  #cookie: string | undefined;

  private constructor(child: ChildProcess, pid: number, url: string) {
    this.#child = child;
    this.pid = pid;
    this.url = url;
  }

  /** Returns when it has printed where to look. */
  static async start(
    built: BuiltShop,
    database: string,
    {
      port = 0,
      program = "shop/main.js",
      env = {},
    }: { readonly port?: number; readonly program?: string; readonly env?: Readonly<Record<string, string>> } = {},
  ): Promise<Shop> {
    const child = spawnShop(built, { ...env, DATABASE_URL: database, PORT: String(port) }, program);
    const ended = outputOf(child);
    if (child.stdout === null || child.pid === undefined) throw new Error("the shop has no pipes");
    for await (const line of createInterface({ input: child.stdout })) {
      const url = /http:\/\/localhost:\d+/.exec(line)?.[0];
      if (url === undefined) continue;
      // The pipe goes on being read, or the shop would wait for it.
      child.stdout.resume();
      return new Shop(child, child.pid, url);
    }
    throw new Error(`the shop ended before it was open:\n${(await ended).errors}`);
  }

  async call(method: string, path: string, body?: unknown): Promise<Answer> {
    const sent =
      body === undefined ? {} : { body: JSON.stringify(body), headers: { "content-type": "application/json" } };
    return this.raw(path, { method, ...sent });
  }

  async raw(path: string, init: RequestInit): Promise<Answer> {
    const headers = new Headers(init.headers);
    if (this.#cookie !== undefined && !headers.has("cookie")) headers.set("cookie", this.#cookie);
    const response = await fetch(this.url + path, { ...init, headers });
    this.#cookie = response.headers.get("set-cookie")?.split(";", 1)[0] ?? this.#cookie;
    const text = await response.text();
    const isJson = /json/.test(response.headers.get("content-type") ?? "") && text !== "";
    return { status: response.status, headers: response.headers, json: isJson ? JSON.parse(text) : text };
  }

  async get(path: string): Promise<Json> {
    return (await this.call("GET", path)).json;
  }

  /** Another visitor of the same shop, without a cookie. */
  visitor(): Shop {
    return new Shop(this.#child, this.pid, this.url);
  }

  /** Carries the cookie over to the next life of the shop. */
  returning(to: Shop): Shop {
    to.#cookie = this.#cookie;
    return to;
  }

  /** Sends the signal and returns how the process ended. */
  async end(signal: NodeJS.Signals = "SIGKILL"): Promise<number | NodeJS.Signals | null> {
    this.#child.kill(signal);
    return this.ended();
  }

  /** Waits until the process has ended, and returns how. */
  async ended(): Promise<number | NodeJS.Signals | null> {
    const { exitCode, signalCode } = this.#child;
    if (exitCode === null && signalCode === null) await once(this.#child, "exit");
    return this.#child.exitCode ?? this.#child.signalCode;
  }
}

/** Runs a program of the shop that is expected to end by itself. */
export async function runShop(
  built: BuiltShop,
  env: Readonly<Record<string, string>>,
  program = "shop/main.js",
): Promise<Ended> {
  const child = spawnShop(built, env, program);
  child.stdout?.resume();
  return outputOf(child);
}

/** `posthorn …` in the folder of the shop, as one would type it there. */
export async function posthorn(built: BuiltShop, place: Place, ...args: readonly string[]): Promise<string> {
  const cli = join(built.folder, "node_modules/posthorn/dist/cli/main.js");
  const env = { ...process.env, DATABASE_URL: place.database, NO_COLOR: "1" };
  const { stdout } = await run(process.execPath, [...shortLived, cli, ...args], {
    cwd: join(built.folder, "shop"),
    env,
  });
  return stdout;
}

interface Ended {
  readonly code: number | null;
  readonly errors: string;
}

function spawnShop(built: BuiltShop, env: Readonly<Record<string, string>>, program: string): ChildProcess {
  // Not one of the short-lived: on the embedded database it works for long enough that the code is worth optimising.
  return spawn(process.execPath, ["--import", dieWithParent, join(built.folder, program)], {
    cwd: built.folder,
    env: { ...process.env, ...env },
    stdio: ["ignore", "pipe", "pipe", "ipc"],
  });
}

async function outputOf(child: ChildProcess): Promise<Ended> {
  let errors = "";
  child.stderr?.setEncoding("utf8").on("data", (text: string) => {
    errors += text;
  });
  const [code] = await once(child, "close");
  return { code, errors };
}
