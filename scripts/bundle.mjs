/**
 * Makes few files of many modules: a process that loads the package is ready in about half the time.
 *
 * Names stay as they are written and maps lead to the sources, so that a stack reads as before.
 */
import { readFileSync } from "node:fs";
import { join, relative } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { rolldown } from "rolldown";

const project = fileURLToPath(new URL("..", import.meta.url));

const inChunks = "chunks/[name]-[hash].js";

/**
 * Bundles the modules `entries` (absolute) into `folder`, each under its path from `root`. Packages stay imports, except those that
 * `own` maps to a module. `common` matches what goes into one file for all; what it leaves is split by who needs it, into files that
 * `chunk` names.
 */
export async function bundle({ root, entries, folder, own = {}, common, chunk = inChunks, sourcemap = true }) {
  const made = await rolldown({
    input: Object.fromEntries(entries.map((file) => [relative(root, file).replace(/\.ts$/, ""), file])),
    platform: "node",
    plugins: [{ name: "own-packages", resolveId: (id) => own[id] }],
    external: (id) => !/^(\.|\/|[A-Za-z]:)/.test(id) && own[id] === undefined,
    // A module that is imported for what it does is not left out.
    treeshake: { moduleSideEffects: true },
    onLog(level, log, print) {
      if (level === "warn") throw new Error(log.message);
      print(level, log);
    },
  });
  await made.write({
    dir: folder,
    format: "esm",
    keepNames: true,
    sourcemap,
    minify: false,
    entryFileNames: "[name].js",
    chunkFileNames: chunk,
    ...(common === undefined ? {} : { codeSplitting: { groups: [{ name: "posthorn", test: common }] } }),
  });
  await made.close();
}

/** Where processes begin: what the package exports, its command line, and the program that `posthorn dev` starts. Absolute. */
export function packageEntries() {
  const { exports, bin } = JSON.parse(readFileSync(join(project, "package.json"), "utf8"));
  const built = Object.values(exports).flatMap((one) => one.default ?? []);
  return [...built, bin.posthorn, "dist/cli/dev/program.js"].map((file) =>
    join(project, file.replace(/^(\.\/)?dist/, "src").replace(/js$/, "ts")),
  );
}

if (process.argv[1] && import.meta.url === pathToFileURL(process.argv[1]).href) {
  await bundle({ root: join(project, "src"), entries: packageEntries(), folder: process.argv[2] });
}
