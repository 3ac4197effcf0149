/** Runs the command line as a user does: the built program in a process of its own, or where that makes no difference the command in this one. */
import { execFile } from "node:child_process";
import { mkdir, mkdtemp, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll } from "vitest";
import type { Io } from "../../src/cli/io.js";
import { runCommand } from "../../src/cli/run.js";
import { shortLived } from "../support/node-options.js";
import { shared } from "../support/shared.js";

export interface Ended {
  readonly code: number;
  readonly out: string;
  readonly err: string;
}

export interface CommandOptions {
  readonly cwd?: string;
  readonly env?: Readonly<Record<string, string>>;
  /** Options of Node itself. */
  readonly node?: readonly string[];
}

const dieWithParent = fileURLToPath(new URL("../support/die-with-parent.mjs", import.meta.url));

export async function mainFile(): Promise<string> {
  return join(await shared("fixtures"), "src/cli/main.js");
}

/** As `posthornCommand`, in a process of its own in any case. */
export async function posthornProcess(args: readonly string[], options: CommandOptions = {}): Promise<Ended> {
  const main = await mainFile();
  const { NO_COLOR: _colour, ...inherited } = process.env;
  return new Promise((resolve, reject) => {
    const child = execFile(
      process.execPath,
      [...shortLived, ...(options.node ?? []), main, ...args],
      {
        cwd: options.cwd ?? tmpdir(),
        env: { ...inherited, TZ: "UTC", ...options.env },
        timeout: 60_000,
        maxBuffer: 64 << 20,
      },
      (error, out, err) => {
        if (error !== null && typeof error.code !== "number")
          reject(new Error(`posthorn ${args.join(" ")}: ${error.message}\n${err}`));
        else resolve({ code: child.exitCode ?? 0, out, err });
      },
    );
    child.stdin?.end();
  });
}

/**
 * Ends by itself, or fails after a minute. Times are shown in UTC.
 *
 * What names its database needs neither a folder nor an environment, and runs here: a process takes much longer to begin than most commands to end.
 */
export async function posthornCommand(args: readonly string[], options: CommandOptions = {}): Promise<Ended> {
  const named = args.includes("--database") && Object.keys(options).length === 0;
  return named ? posthornHere(args) : posthornProcess(args, options);
}

process.env.TZ = "UTC";

async function posthornHere(args: readonly string[]): Promise<Ended> {
  const [out, err]: [string[], string[]] = [[], []];
  const io: Io = {
    out: (text) => out.push(text),
    err: (text) => err.push(text),
    terminal: false,
    watched: false,
    answers: false,
    ask: () => Promise.reject(new Error("nobody is there to answer")),
  };
  const code = await runCommand(args, io, new URL("../../src/cli/main.js", import.meta.url));
  return { code, out: out.join(""), err: err.join("") };
}

export { dieWithParent };

const folders: string[] = [];
afterAll(() => Promise.all(folders.splice(0).map((folder) => rm(folder, { recursive: true, force: true }))));

/** A user's folder with files in it, in which `posthorn` means the compiled sources. Removed at the end. */
export async function project(files: Readonly<Record<string, string>> = {}): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), "posthorn-cli-"));
  folders.push(folder);
  await mkdir(join(folder, "node_modules"));
  await symlink(await shared("fixtures"), join(folder, "node_modules/posthorn"));
  for (const [name, text] of Object.entries({ "package.json": '{"type":"module"}', ...files })) {
    await mkdir(dirname(join(folder, name)), { recursive: true });
    await writeFile(join(folder, name), text);
  }
  return folder;
}

/** A JSON document with every leaf replaced by its type, so that a snapshot holds the shape. */
export function shapeOf(value: unknown): unknown {
  if (Array.isArray(value)) return value.slice(0, 1).map(shapeOf);
  if (typeof value === "object" && value !== null) {
    return Object.fromEntries(Object.entries(value).map(([key, one]) => [key, shapeOf(one)]));
  }
  return value === null ? "null" : typeof value;
}
