/**
 * Watches the sources below some folders and says which of them changed.
 *
 * One watcher for each folder, and folders that are passed over are never entered: Node's own recursive watching would walk through
 * node_modules, and on Linux watch every file in it. A file counts as changed when its size or its time of change did.
 */
import { type FSWatcher, readdirSync, statSync, watch } from "node:fs";
import { join, resolve, sep } from "node:path";
import { ConfigurationError } from "../../core/errors.js";
import { bounds } from "./bounds.js";

/** What programs are made of, and settings that they read when they start. */
const sources = /^\.env|^[^.].*\.(?:[cm]?[jt]sx?|json)$/;
const passed = /^(?:\..*|node_modules)$/;

export class SourceWatcher {
  readonly #ignored: Set<string>;
  readonly #changed: (files: readonly string[]) => void;
  readonly #watchers = new Map<string, FSWatcher>();
  /** Size and time of every source. */
  readonly #known = new Map<string, string>();
  readonly #touched = new Set<string>();
  #quiet: NodeJS.Timeout | undefined;
  #since = 0;

  /** Errors: `ConfigurationError` for more folders than can be watched. */
  constructor(folders: readonly string[], ignored: readonly string[], changed: (files: readonly string[]) => void) {
    this.#ignored = new Set(ignored.map((folder) => resolve(folder)));
    this.#changed = changed;
    for (const folder of folders) this.#enter(resolve(folder));
  }

  /** From now on what lies there is passed over. */
  ignore(folder: string): void {
    this.#ignored.add(resolve(folder));
    this.#leave(resolve(folder));
  }

  close(): void {
    clearTimeout(this.#quiet);
    for (const watcher of this.#watchers.values()) watcher.close();
    this.#watchers.clear();
  }

  /** Returns the sources in it that were not known. */
  #enter(folder: string): string[] {
    if (this.#watchers.has(folder) || this.#ignored.has(folder)) return [];
    if (this.#watchers.size >= bounds.watchedFolders) {
      throw tooMany(folder, `more than ${bounds.watchedFolders} folders are to be watched`);
    }
    let entries: ReturnType<typeof entriesOf>;
    try {
      const watcher = watch(folder, (_event, name) => this.#touch(name === null ? folder : join(folder, name)));
      watcher.on("error", () => this.#leave(folder));
      this.#watchers.set(folder, watcher);
      entries = entriesOf(folder);
    } catch (error) {
      const code = error instanceof Error && "code" in error ? error.code : undefined;
      if (code === "ENOSPC" || code === "EMFILE") throw tooMany(folder, "the system watches no more folders");
      // It went while it was entered.
      this.#leave(folder);
      return [];
    }
    return entries.flatMap((entry) => {
      const path = join(folder, entry.name);
      if (entry.isDirectory()) return passed.test(entry.name) ? [] : this.#enter(path);
      return sources.test(entry.name) && this.#differs(path) ? [path] : [];
    });
  }

  /** Returns the sources that were below it. */
  #leave(folder: string): string[] {
    const below = (path: string): boolean => path === folder || path.startsWith(folder + sep);
    for (const [path, watcher] of this.#watchers) {
      if (!below(path)) continue;
      watcher.close();
      this.#watchers.delete(path);
    }
    const gone = [...this.#known.keys()].filter(below);
    for (const file of gone) this.#known.delete(file);
    return gone;
  }

  #differs(file: string): boolean {
    const found = statSync(file, { throwIfNoEntry: false });
    const sign = found === undefined ? undefined : `${found.size} ${found.mtimeMs}`;
    const before = this.#known.get(file);
    if (sign === undefined) this.#known.delete(file);
    else this.#known.set(file, sign);
    return sign !== before;
  }

  #touch(path: string): void {
    if (this.#touched.size === 0) this.#since = performance.now();
    this.#touched.add(path);
    clearTimeout(this.#quiet);
    const left = this.#since + bounds.putOffMs - performance.now();
    this.#quiet = setTimeout(() => this.#settle(), Math.max(0, Math.min(bounds.quietMs, left)));
  }

  #settle(): void {
    const touched = [...this.#touched];
    this.#touched.clear();
    const changed = new Set(touched.flatMap((path) => this.#look(path)));
    if (changed.size > 0) this.#changed([...changed].sort());
  }

  #look(path: string): string[] {
    const name = path.slice(path.lastIndexOf(sep) + 1);
    const found = statSync(path, { throwIfNoEntry: false });
    if (found?.isDirectory()) return passed.test(name) ? [] : this.#enter(path);
    if (found === undefined && this.#watchers.has(path)) return this.#leave(path);
    return sources.test(name) && this.#differs(path) ? [path] : [];
  }
}

function entriesOf(folder: string) {
  return readdirSync(folder, { withFileTypes: true });
}

function tooMany(folder: string, what: string): ConfigurationError {
  return new ConfigurationError(
    "PH_ARGUMENT_INVALID",
    `At ${folder} ${what}. Leave out what holds no sources with --ignore <folder>.`,
    { folder },
  );
}
