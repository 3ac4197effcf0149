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
import { whereOf } from "./where.js";

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
    return file.endsWith("ts") ? await loadTypeScript(file) : await import(pathToFileURL(file).href);
  } catch (error) {
    if (error instanceof ConfigurationError && error.code === "PH_CONFIG_BROKEN") throw error;
    throw new ConfigurationError(
      "PH_CONFIG_BROKEN",
      `${file} cannot be loaded: ${reasonOf(error)}${await whereOf(error, file)}`,
      { file, ...(error instanceof PosthornError ? { reason: error.code } : {}) },
      error,
    );
  }
}

function reasonOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  const head = error instanceof PosthornError || error.name === "Error" ? "" : `${error.name}: `;
  // Of the files that lead to a module that is not there the first is the one to mend.
  const message = error.message.replace(/\nRequire stack:\n- ([^\n]*)[\s\S]*$/, " in $1");
  return `${head}${message.replace(/\s*\n\s*/g, " ")}`;
}

function readsTypes(features: object): boolean {
  return "typescript" in features && features.typescript !== false;
}

/** What Node's own reading of TypeScript does not do: find `./post.ts` by the name `./post.js`, and syntax that cannot be erased. */
const beyondNode: readonly unknown[] = ["ERR_MODULE_NOT_FOUND", "ERR_UNSUPPORTED_TYPESCRIPT_SYNTAX"];

async function loadTypeScript(file: string): Promise<Readonly<Record<string, unknown>>> {
  if (!readsTypes(process.features)) {
    const load = await jiti(file);
    if (load !== undefined) return load();
    throw new ConfigurationError(
      "PH_CONFIG_BROKEN",
      `${file} cannot be loaded: Node ${process.versions.node} does not read TypeScript. Run npm install --save-dev jiti, or write posthorn.config.js, or use Node 22.18 or newer.`,
      { file },
    );
  }
  try {
    return await import(pathToFileURL(file).href);
  } catch (error) {
    const beyond = error instanceof Error && "code" in error && beyondNode.includes(error.code);
    const load = beyond ? await jiti(file) : undefined;
    if (load === undefined) throw error;
    return load();
  }
}

/** Undefined where it is not installed. */
async function jiti(file: string): Promise<(() => Promise<Readonly<Record<string, unknown>>>) | undefined> {
  const loader = await import("jiti").catch(() => undefined);
  if (loader === undefined) return undefined;
  return () => loader.createJiti(file, { interopDefault: false, fsCache: false }).import(file);
}
