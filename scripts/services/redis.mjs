/** Redis, as Debian packages it. */
import { spawnSync } from "node:child_process";
import { accepts, foundOrInstalled, freePort, Program, serviceOf } from "../service.mjs";

export const title = "Redis";
const program = "redis-server";

export function available() {
  const path = foundOrInstalled(program);
  if (path === undefined) return undefined;
  const { stdout } = spawnSync(path, ["--version"], { encoding: "utf8" });
  return `Redis ${/v=([\d.]+)/.exec(stdout)?.[1] ?? ""}`.trim();
}

/**
 * `password`: needed by those who connect. `tls`: `{ key, cert }`, paths: it speaks nothing else then. `settings`: more of its configuration, name to value.
 *
 * It writes each change to its disk before it answers, so what it has acknowledged outlives SIGKILL.
 */
export async function start({ folder, log, port, password, tls, settings = {} }) {
  const at = port ?? (await freePort());
  const options = {
    port: String(at),
    bind: "127.0.0.1",
    dir: folder,
    save: "",
    appendonly: "yes",
    appendfsync: "always",
    ...(password !== undefined && { requirepass: password }),
    ...(tls && {
      port: "0",
      "tls-port": String(at),
      "tls-cert-file": tls.cert,
      "tls-key-file": tls.key,
      "tls-ca-cert-file": tls.cert,
      "tls-auth-clients": "no",
    }),
    ...settings,
  };
  const redis = new Program({
    command: foundOrInstalled(program),
    args: Object.entries(options).flatMap(([name, value]) => [`--${name}`, value]),
    cwd: folder,
    log,
    ready: () => accepts(at),
  });
  await redis.start();
  const who = password === undefined ? "" : `:${encodeURIComponent(password)}@`;
  return serviceOf(redis, { url: `redis://${who}127.0.0.1:${at}`, port: at, keeps: "kill" });
}
