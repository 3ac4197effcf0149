/** A user's project in a temp folder with the packed package installed in it. */
import { execFile } from "node:child_process";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { root } from "../architecture/sources.js";
import { shared } from "../support/shared.js";

export interface Project {
  readonly folder: string;
  write(name: string, text: string): Promise<void>;
  read(name: string): Promise<string>;
  /** Runs a file with the Node under test: POSTHORN_TEST_NODE, or the one that runs the tests. */
  node(file: string, ...args: readonly string[]): Promise<{ readonly stdout: string; readonly stderr: string }>;
  /** The compiler's complaints, empty when there are none. Library declarations are checked as well. */
  compile(...args: readonly string[]): Promise<string>;
  remove(): Promise<void>;
}

const run = promisify(execFile);
const timeout = 120_000;

/** An empty project; nothing is installed. */
export async function createProject(): Promise<Project> {
  const folder = await mkdtemp(join(tmpdir(), "posthorn-project-"));
  const project: Project = {
    folder,
    write: (name, text) => writeFile(join(folder, name), text),
    read: (name) => readFile(join(folder, name), "utf8"),
    node: (file, ...args) =>
      run(process.env.POSTHORN_TEST_NODE ?? process.execPath, [file, ...args], { cwd: folder, timeout }),
    compile: (...args) => compile(folder, args),
    remove: () => rm(folder, { recursive: true, force: true }),
  };
  await project.write("package.json", JSON.stringify({ name: "project", private: true, type: "module" }));
  return project;
}

/** Runs an install line of the README, with the packed package in place of the published one. */
export async function install(project: Project, line: string): Promise<void> {
  const tarball = await shared("tarball");
  const [npm = "", ...words] = line.split(/\s+/).map((word) => (word === "posthorn" ? tarball : word));
  if (npm !== "npm" || !words.includes(tarball)) throw new Error(`not an install line of posthorn: ${line}`);
  await run(npm, [...words, "--no-audit", "--no-fund", "--prefer-offline"], { cwd: project.folder, timeout });
}

async function compile(folder: string, args: readonly string[]): Promise<string> {
  const tsc = join(root, "node_modules/typescript/bin/tsc");
  const options = ["--strict", "--target", "es2022", "--module", "nodenext", "--moduleResolution", "nodenext"];
  const libraries = ["--lib", "es2023,esnext.disposable,dom", "--types", "", "--pretty", "false"];
  return run(process.execPath, [tsc, ...options, ...libraries, ...args], { cwd: folder, timeout }).then(
    () => "",
    (error: Error & { stdout?: string }) => error.stdout ?? error.message,
  );
}
