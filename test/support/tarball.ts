/** Builds the package and packs it, as it would be published, into a temp folder. */
import { execFile } from "node:child_process";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";

const root = fileURLToPath(new URL("../..", import.meta.url));
const run = promisify(execFile);

export async function packTarball(): Promise<{ readonly file: string; remove(): Promise<void> }> {
  await run(process.execPath, [join(root, "scripts/build.mjs"), "--as-committed"], { cwd: root });
  const folder = await mkdtemp(join(tmpdir(), "posthorn-tarball-"));
  const options = ["--ignore-scripts", "--json", "--pack-destination", folder];
  const { stdout } = await run("npm", ["pack", ...options], { cwd: root });
  const [{ filename }] = JSON.parse(stdout) as [{ filename: string }];
  return { file: join(folder, filename), remove: () => rm(folder, { recursive: true, force: true }) };
}
