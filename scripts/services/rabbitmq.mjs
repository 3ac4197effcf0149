/**
 * RabbitMQ, as Debian packages it.
 *
 * Each has a name and a folder of its own, so that it knows nothing of another on this machine. It wants epmd, the port mapper of Erlang, which gets a
 * port of its own as well, and ends with it.
 */
import { spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { accepts, foundOrInstalled, freePort, Program } from "../service.mjs";

export const title = "RabbitMQ";
const user = "posthorn";
const usualPassword = "p@ss/word";

/** What the package calls rabbitmq-server becomes another user and takes the folders of the system; these are the programs behind it. */
const programs = "/usr/lib/rabbitmq/bin";

export function available() {
  if (foundOrInstalled("rabbitmq-server") === undefined || !existsSync(join(programs, "rabbitmq-server")))
    return undefined;
  const { stdout } = spawnSync("dpkg-query", ["-W", "-f", `\${Version}`, "rabbitmq-server"], { encoding: "utf8" });
  return `RabbitMQ ${/^[\d.]+/.exec(stdout ?? "")?.[0] ?? ""}`.trim();
}

/**
 * `password`: another one than it has otherwise. `settings`: more lines of its configuration, name to value. `tls`: `{ key, cert }`, paths: a second listener on `tlsPort`.
 *
 * The answer has `control(...)` too: what rabbitmqctl prints.
 */
export async function start({ folder, log, port, password = usualPassword, settings = {}, tls }) {
  if (available() === undefined) throw new Error("RabbitMQ is not here, and could not be installed");
  const [at, distribution, mapper, tlsPort] = [port ?? (await freePort()), ...(await ports(3))];
  const env = environment(folder, { at, distribution, mapper });
  const lines = {
    "listeners.tcp.1": `127.0.0.1:${at}`,
    default_user: user,
    default_pass: password,
    "log.console.level": "warning",
    ...(tls && {
      "listeners.ssl.1": `127.0.0.1:${tlsPort}`,
      "ssl_options.keyfile": tls.key,
      "ssl_options.certfile": tls.cert,
    }),
    ...settings,
  };
  const text = Object.entries(lines).map(([name, value]) => `${name} = ${value}\n`);
  await writeFile(join(folder, "rabbitmq.conf"), text.join(""));
  await writeFile(join(folder, "environment"), "");
  await writeFile(join(folder, "plugins"), "[].\n");
  const common = { cwd: folder, log, env };
  const epmd = new Program({
    ...common,
    command: "epmd",
    args: ["-port", String(mapper), "-address", "127.0.0.1"],
    ready: () => accepts(mapper),
  });
  const command = join(programs, "rabbitmq-server");
  const rabbit = new Program({ ...common, command, ready: () => accepts(at) });
  return serviceFrom({ epmd, rabbit, env, folder, at, tlsPort, password });
}

async function serviceFrom({ epmd, rabbit, env, folder, at, tlsPort, password }) {
  const begin = async () => {
    if (epmd.pid === undefined) await epmd.start();
    await rabbit.start();
  };
  const end = async (how) => {
    await rabbit[how]();
    await epmd.kill();
  };
  await begin();
  return {
    url: `amqp://${user}:${encodeURIComponent(password)}@127.0.0.1:${at}`,
    port: at,
    tlsPort,
    keeps: "kill",
    stop: () => end("stop"),
    kill: () => end("kill"),
    restart: async () => {
      await end("stop");
      await begin();
    },
    // Mnesia holds a declaration back for a moment before it is written, although RabbitMQ has answered: with a kill the queue would be gone.
    settled: async () => void control(env, folder, ["eval", "ok = mnesia:sync_log()."]),
    control: (...args) => control(env, folder, args),
  };
}

function environment(folder, { at, distribution, mapper }) {
  const node = "-kernel inet_dist_use_interface {127,0,0,1} -start_epmd false";
  return {
    HOME: folder,
    RABBITMQ_NODENAME: `posthorn${at}@localhost`,
    RABBITMQ_DIST_PORT: String(distribution),
    ERL_EPMD_PORT: String(mapper),
    ERL_EPMD_ADDRESS: "127.0.0.1",
    RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS: node,
    // In the foreground and without a shell of Erlang: the process that was started is the server.
    RUNNING_UNDER_SYSTEMD: "true",
    RABBITMQ_BASE: folder,
    RABBITMQ_MNESIA_BASE: join(folder, "data"),
    RABBITMQ_LOG_BASE: join(folder, "log"),
    RABBITMQ_LOGS: "-",
    RABBITMQ_CONFIG_FILE: join(folder, "rabbitmq.conf"),
    RABBITMQ_CONF_ENV_FILE: join(folder, "environment"),
    RABBITMQ_ENABLED_PLUGINS_FILE: join(folder, "plugins"),
  };
}

async function ports(count) {
  const found = [];
  for (let i = 0; i < count; i += 1) found.push(await freePort());
  return found;
}

function control(env, folder, args) {
  const options = { encoding: "utf8", cwd: folder, env: { ...process.env, ...env }, timeout: 60_000 };
  const { status, stdout, stderr } = spawnSync(join(programs, "rabbitmqctl"), ["--quiet", ...args], options);
  if (status !== 0) throw new Error(`rabbitmqctl ${args[0]} ended with ${status}: ${stderr}${stdout}`);
  return stdout;
}
