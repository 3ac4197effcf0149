/**
 * Finds and loads `posthorn.config.ts`, `.js` or `.mjs`, which exports the instance as `post` or as default.
 *
 * It is loaded in its own folder, so that relative paths in it mean the same wherever the command line is called. Node reads
 * TypeScript by itself from 22.18 on; before, jiti does, if it is installed.
 */
import { existsSync } from "node:fs";
import { dirname, join, resolve } from "node:path";
import { pathToFileURL } from "node:url";
import { ConfigurationError, PosthornError } from "../core/errors.js";
import { type ExportedPost, isExportedPost } from "../instance/exported.js";

export interface Config {
  readonly file: string;
  readonly post: ExportedPost;
}

export const configNames = ["posthorn.config.ts", "posthorn.config.js", "posthorn.config.mjs"] as const;

/** The nearest configuration file from a folder upwards. */
export function findConfig(from: string): string | undefined {
  for (let folder = resolve(from); ; folder = dirname(folder)) {
    const found = configNames.map((name) => join(folder, name)).find((file) => existsSync(file));
    if (found !== undefined || dirname(folder) === folder) return found;
  }
}

/**
 * Errors: `ConfigurationError` (PH_CONFIG_MISSING, PH_CONFIG_BROKEN) with the file and the reason.
 */
export async function loadConfig(given: string | undefined): Promise<Config> {
  const file = given === undefined ? findConfig(process.cwd()) : resolve(given);
  if (file === undefined) {
    throw new ConfigurationError(
      "PH_CONFIG_MISSING",
      `No ${configNames.join(", ")} was found in ${process.cwd()} or above it. Write one that exports the instance as \`post\`, or pass --config <file>, or --database <url> where the command takes it.`,
    );
  }
  if (!existsSync(file)) {
    throw new ConfigurationError("PH_CONFIG_MISSING", `There is no file ${file}. Correct --config.`, { file });
  }
  process.chdir(dirname(file));
  const loaded = await load(file);
  const post = [loaded.post, loaded.default].find(isExportedPost);
  if (post !== undefined) return { file, post };
  const names = Object.keys(loaded).join(", ") || "nothing";
  throw new ConfigurationError(
    "PH_CONFIG_BROKEN",
    `${file} exports no instance: it must export what posthorn({ … }) returned as \`post\` or as default. It exports ${names}.`,
    { file },
  );
}

async function load(file: string): Promise<Readonly<Record<string, unknown>>> {
  try {
    const byItself = !file.endsWith("ts") || readsTypes(process.features);
    return byItself ? await import(pathToFileURL(file).href) : await loadWithJiti(file);
  } catch (error) {
    if (error instanceof ConfigurationError && error.code === "PH_CONFIG_BROKEN") throw error;
    throw new ConfigurationError(
      "PH_CONFIG_BROKEN",
      `${file} cannot be loaded: ${reasonOf(error)}`,
      { file, ...(error instanceof PosthornError ? { reason: error.code } : {}) },
      error,
    );
  }
}

function reasonOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  const head = error instanceof PosthornError || error.name === "Error" ? "" : `${error.name}: `;
  return `${head}${error.message}`;
}

function readsTypes(features: object): boolean {
  return "typescript" in features && features.typescript !== false;
}

async function loadWithJiti(file: string): Promise<Readonly<Record<string, unknown>>> {
  const loader = await import("jiti").catch((error: unknown) => {
    throw new ConfigurationError(
      "PH_CONFIG_BROKEN",
      `${file} cannot be loaded: Node ${process.versions.node} does not read TypeScript. Run npm install --save-dev jiti, or write posthorn.config.js, or use Node 22.18 or newer.`,
      { file },
      error,
    );
  });
  return loader.createJiti(file, { interopDefault: false, fsCache: false }).import(file);
}
