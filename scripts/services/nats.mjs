/** NATS with JetStream, as Debian packages it. */
import { spawnSync } from "node:child_process";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { accepts, foundOrInstalled, freePort, Program, serviceOf } from "../service.mjs";

export const title = "NATS JetStream";
const program = "nats-server";
const user = "posthorn";
const usualPassword = "p@ss/word";

export function available() {
  const path = foundOrInstalled(program);
  if (path === undefined) return undefined;
  const { stdout, stderr } = spawnSync(path, ["--version"], { encoding: "utf8" });
  return /v([\d.]+)/.exec(`${stdout}${stderr}`) === null
    ? title
    : `NATS ${/v([\d.]+)/.exec(`${stdout}${stderr}`)?.[1]}`;
}

/**
 * `password`: another one than it has otherwise. `settings`: more lines of its configuration, name to value. `tls`: `{ key, cert }`, paths: every client must come by TLS then.
 *
 * It hands what it acknowledges to the system at once and syncs it later: SIGKILL loses nothing.
 */
export async function start({ folder, log, port, password = usualPassword, settings = {}, tls }) {
  const at = port ?? (await freePort());
  const file = join(folder, "nats.conf");
  const lines = {
    host: '"127.0.0.1"',
    port: String(at),
    jetstream: `{ store_dir: ${JSON.stringify(join(folder, "data"))}, max_file_store: 4GB, max_memory_store: 64MB }`,
    authorization: `{ user: ${user}, password: ${JSON.stringify(password)} }`,
    ...(tls && { tls: `{ cert_file: ${JSON.stringify(tls.cert)}, key_file: ${JSON.stringify(tls.key)} }` }),
    ...settings,
  };
  const text = Object.entries(lines).map(([name, value]) => `${name}: ${value}\n`);
  await writeFile(file, text.join(""));
  const nats = new Program({
    command: foundOrInstalled(program),
    args: ["-c", file],
    cwd: folder,
    log,
    ready: () => accepts(at),
  });
  await nats.start();
  const url = `nats://${user}:${encodeURIComponent(password)}@127.0.0.1:${at}`;
  return serviceOf(nats, { url, port: at, keeps: "kill" });
}
