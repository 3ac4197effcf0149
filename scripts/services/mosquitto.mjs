/** Mosquitto, an MQTT broker, as Debian packages it. */
import { spawnSync } from "node:child_process";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { accepts, foundOrInstalled, freePort, Program, serviceOf } from "../service.mjs";

export const title = "Mosquitto";
const program = "mosquitto";

export function available() {
  const path = foundOrInstalled(program);
  if (path === undefined) return undefined;
  const { stdout } = spawnSync(path, ["-h"], { encoding: "utf8" });
  return /mosquitto version [\d.]+/.exec(stdout)?.[0] ?? program;
}

/**
 * `user` and `password`: needed by those who connect. `tls`: `{ key, cert }`, paths: it speaks nothing else then. `settings`: more lines of its configuration, name to value, for a limit on size or on what waits.
 *
 * Mosquitto writes what waits to its disk at its end and now and then, so SIGKILL loses messages that it has acknowledged.
 */
export async function start({ folder, log, port, user, password, tls, settings = {} }) {
  const at = port ?? (await freePort());
  const file = join(folder, "mosquitto.conf");
  const lines = {
    listener: `${at} 127.0.0.1`,
    // It may be started as root, and then stays root.
    user: "root",
    persistence: "true",
    persistence_location: `${folder}/`,
    // Small answers are not held back for larger ones: a client with few messages on their way waits for them.
    set_tcp_nodelay: "true",
    max_queued_messages: "200000",
    allow_anonymous: user === undefined ? "true" : "false",
    ...(user !== undefined && { password_file: await passwords(folder, user, password) }),
    ...(tls && { certfile: tls.cert, keyfile: tls.key }),
    ...settings,
  };
  const text = Object.entries(lines).map(([name, value]) => `${name} ${value}\n`);
  await writeFile(file, text.join(""));
  const mosquitto = new Program({
    command: foundOrInstalled(program),
    args: ["-c", file],
    cwd: folder,
    log,
    ready: () => accepts(at),
  });
  await mosquitto.start();
  const who = user === undefined ? "" : `${encodeURIComponent(user)}:${encodeURIComponent(password)}@`;
  return serviceOf(mosquitto, { url: `mqtt://${who}127.0.0.1:${at}`, port: at, keeps: "stop" });
}

async function passwords(folder, user, password) {
  const file = join(folder, "passwords");
  const { status } = spawnSync(foundOrInstalled("mosquitto_passwd", program), ["-b", "-c", file, user, password]);
  if (status !== 0) throw new Error("mosquitto_passwd could not write the file of passwords");
  return file;
}
