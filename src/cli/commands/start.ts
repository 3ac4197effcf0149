/** `posthorn start`: works on what the configuration declares until it is told to stop. */
import { loadConfig } from "../config.js";
import type { Io } from "../io.js";
import { flag, type Line, number, text, texts } from "../parse.js";

export async function start(line: Line, io: Io): Promise<number> {
  const { file, post } = await loadConfig(text(line, "config"));
  const [queues, subscriptions] = [texts(line, "queue"), texts(line, "subscription")];
  const some = queues.length + subscriptions.length > 0;
  // Before the start: a signal that comes meanwhile stops what has begun.
  const told = new Promise<string>((resolve) => {
    for (const signal of ["SIGINT", "SIGTERM"] as const) process.once(signal, resolve);
  });
  await post.start(some ? { queues, subscriptions } : {});
  const { service, declared } = post["~posthorn"];
  const works = some ? [...queues, ...subscriptions] : declared.map(({ name }) => name);
  if (flag(line, "json"))
    io.out(`${JSON.stringify({ event: "started", service, pid: process.pid, file, worksOn: works })}\n`);
  else io.out(`${service} works on ${works.join(", ") || "nothing"} (pid ${process.pid})\n`);
  // What keeps a process without open sockets alive, as on the embedded database.
  const alive = setInterval(() => undefined, 3_600_000);
  const signal = await told;
  clearInterval(alive);
  for (const again of ["SIGINT", "SIGTERM"] as const) process.once(again, () => process.exit(1));
  if (!flag(line, "json")) io.err(`${signal}: lets running handlers finish\n`);
  await post.stop({ graceMs: number(line, "grace-ms") });
  io.out(flag(line, "json") ? `${JSON.stringify({ event: "stopped" })}\n` : "stopped\n");
  return 0;
}
