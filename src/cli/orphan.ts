/**
 * Notices that the npm or npx which runs this program is gone.
 *
 * npx ends at SIGTERM and hands nothing on: the worker would go on for nobody. Only under npm: who starts a process with nohup or as a daemon
 * means it to outlive its parent.
 */
import { readFile } from "node:fs/promises";

const everyMs = 1_000;

/** Calls once when it is gone; the returned function ends the watch. Does nothing where npm did not start this. */
export function watchNpm(onGone: () => void, env: NodeJS.ProcessEnv = process.env): () => void {
  if (env.npm_command === undefined) return () => undefined;
  let before: Promise<readonly number[]> | undefined = ancestors();
  const timer = setInterval(async () => {
    const first = await before;
    const now = await ancestors();
    if (first === undefined || first.every((pid, i) => now[i] === pid)) return;
    before = undefined;
    clearInterval(timer);
    onGone();
  }, everyMs);
  timer.unref();
  return () => {
    before = undefined;
    clearInterval(timer);
  };
}

/** The parent, and its parent where the system tells it: between npm and this there is a shell, which outlives npm. */
async function ancestors(): Promise<readonly number[]> {
  const parent = process.ppid;
  const text = await readFile(`/proc/${parent}/stat`, "utf8").catch(() => undefined);
  if (text === undefined) return [parent];
  // The name in the second field may hold blanks and brackets.
  return [parent, Number(text.slice(text.lastIndexOf(")") + 2).split(" ")[1])];
}
