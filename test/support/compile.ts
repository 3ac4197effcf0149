/**
 * Bundles src, the fixture programs of the tests and the benchmarks to plain JavaScript, so that child processes can run them.
 *
 * The result lies below node_modules, where imports of packages resolve; `posthorn` in it means src. Types are another gate.
 */
import { mkdir, mkdtemp, readdir, rm, writeFile } from "node:fs/promises";
import { dirname, join, relative } from "node:path";
import { fileURLToPath } from "node:url";
import { bundle, packageEntries } from "../../scripts/bundle.mjs";
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
  const entries = packageEntries();
  await bundle({
    root,
    entries: [...entries, ...(await programs())],
    folder,
    own: { posthorn: join(root, "src/index.ts") },
    // Each program is an entry and none of them uses all of src, which would make as many files as there are programs.
    common: (id) => id.startsWith(join(root, "src/")) && !entries.includes(id),
    // A benchmark looks for others beside itself.
    chunk: ({ moduleIds }) => {
      const file = moduleIds.findLast((id) => id.startsWith(root)) ?? join(root, "runtime");
      return join(dirname(relative(root, file)), "[name]-[hash].js");
    },
    sourcemap: false,
  });
  return { folder, remove: () => rm(folder, { recursive: true, force: true }) };
}

async function programs(): Promise<readonly string[]> {
  const files = async (folder: string) =>
    (await readdir(join(root, folder), { recursive: true })).map((file) => join(root, folder, file));
  const isFixture = (file: string) => file.includes("/fixtures/");
  const all = [...(await files("bench")), ...(await files("test")).filter(isFixture)];
  return all.filter((file) => file.endsWith(".ts"));
}

/** What runs left behind that were killed; the name holds the process id. */
async function removeStale(cache: string): Promise<void> {
  for (const name of await readdir(cache)) {
    if (!name.startsWith(prefix) || isAlive(Number(name.slice(prefix.length).split("-", 1)[0]))) continue;
    await rm(join(cache, name), { recursive: true, force: true });
  }
}
