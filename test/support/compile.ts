/**
 * Compiles src and the fixture programs of the tests, and the benchmarks, to plain JavaScript, so that child processes can run them.
 *
 * The result lies below node_modules, where imports of packages resolve; `posthorn` in it means the compiled src. Types are
 * another gate: a type error does not stop the compilation.
 */
import { execFile } from "node:child_process";
import { access, mkdir, mkdtemp, readdir, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { isAlive } from "./alive.js";

export interface CompiledFixtures {
  readonly folder: string;
  remove(): Promise<void>;
}

const prefix = "posthorn-fixtures-";
const root = fileURLToPath(new URL("../..", import.meta.url));

export async function compileFixtures(): Promise<CompiledFixtures> {
  const cache = join(root, "node_modules", ".cache");
  await mkdir(cache, { recursive: true });
  await removeStale(cache);
  const folder = await mkdtemp(join(cache, `${prefix}${process.pid}-`));
  const scope = { name: "posthorn", version: "0.0.0", type: "module", exports: { ".": "./src/index.js" } };
  await writeFile(join(folder, "package.json"), JSON.stringify(scope));
  const project = join(root, "test", "support", "tsconfig.fixtures.json");
  const tsc = join(root, "node_modules", "typescript", "bin", "tsc");
  const failed = await promisify(execFile)(process.execPath, [tsc, "-p", project, "--outDir", folder]).then(
    () => undefined,
    (error: Error & { stdout?: string }) => error.stdout ?? error.message,
  );
  await access(join(folder, "test")).catch(() => {
    throw new Error(`tsc wrote nothing:\n${failed ?? ""}`);
  });
  return { folder, remove: () => rm(folder, { recursive: true, force: true }) };
}

/** What runs left behind that were killed; the name holds the process id. */
async function removeStale(cache: string): Promise<void> {
  for (const name of await readdir(cache)) {
    if (!name.startsWith(prefix) || isAlive(Number(name.slice(prefix.length).split("-", 1)[0]))) continue;
    await rm(join(cache, name), { recursive: true, force: true });
  }
}
