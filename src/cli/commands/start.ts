/** `posthorn start`: works on what the configuration declares until it is told to stop. */
import { ConfigurationError } from "../../core/errors.js";
import { probes } from "../../http/probes.js";
import { type Served, serve } from "../../http/serve.js";
import { declaredNames, type ExportedPost } from "../../instance/exported.js";
import { loadConfig } from "../config.js";
import type { Io } from "../io.js";
import { watchNpm } from "../orphan.js";
import { flag, type Line, number, text, texts } from "../parse.js";

export async function start(line: Line, io: Io): Promise<number> {
  const { file, post } = await loadConfig(text(line, "config"));
  const [queues, subscriptions, intakes] = [texts(line, "queue"), texts(line, "subscription"), texts(line, "intake")];
  const chosen = [...queues, ...subscriptions, ...intakes];
  // Before the start: a signal that comes meanwhile stops what has begun.
  const told = new Promise<string>((resolve) => {
    for (const signal of ["SIGINT", "SIGTERM"] as const) process.once(signal, resolve);
    watchNpm(() => resolve("The npm that started this is gone"));
  });
  const served = await listen(post, line);
  await post.start(chosen.length > 0 ? { queues, subscriptions, intakes } : {});
  const { service } = post["~posthorn"];
  const works = chosen.length > 0 ? chosen : declaredNames(post);
  const port = served === undefined ? {} : { port: served.port };
  if (flag(line, "json"))
    io.out(`${JSON.stringify({ event: "started", service, pid: process.pid, file, worksOn: works, ...port })}\n`);
  else {
    const answers = served === undefined ? "" : `, answers probes on port ${served.port}`;
    io.out(`${service} works on ${works.join(", ") || "nothing"} (pid ${process.pid})${answers}\n`);
  }
  // What keeps a process without open sockets alive, as on the embedded database.
  const alive = setInterval(() => undefined, 3_600_000);
  const signal = await told;
  clearInterval(alive);
  for (const again of ["SIGINT", "SIGTERM"] as const) process.once(again, () => process.exit(1));
  if (!flag(line, "json")) io.err(`${signal}: lets running handlers finish\n`);
  await post.stop({ graceMs: number(line, "grace-ms") });
  await served?.close();
  io.out(flag(line, "json") ? `${JSON.stringify({ event: "stopped" })}\n` : "stopped\n");
  return 0;
}

/** Before the start, so that a probe finds it alive while it waits for its database. */
async function listen(post: ExportedPost, line: Line): Promise<Served | undefined> {
  const host = text(line, "host");
  if (!line.options.has("port")) {
    if (host === undefined) return undefined;
    throw new ConfigurationError(
      "PH_ARGUMENT_INVALID",
      "--host is the address for --port, which is missing. Pass --port <port>.",
    );
  }
  const { service } = post["~posthorn"];
  const probed = { service, ready: () => post.ready(), scaling: () => post.scaling() };
  return serve(probes(probed), { port: number(line, "port"), host: host ?? "0.0.0.0" });
}
