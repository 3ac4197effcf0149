/**
 * move: `posthorn move` of a million waiting messages from the embedded database to a server, as a user calls it: from the start of the process to its
 * end, which is after the last message is there, counted, and at home.
 */
import { execFile } from "node:child_process";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { posthorn } from "posthorn";
import { fill } from "../backlog.js";
import type { Bench, Row } from "../bench.js";
import { insertLimit } from "../limits.js";
import { figure, type Round } from "../measure.js";

const name = "move";
const waiting = 1_000_000;
const program = fileURLToPath(new URL("../../../dist/cli/main.js", import.meta.url));

async function moveOnce(bench: Bench, target: string): Promise<Round> {
  const messages = bench.messages(waiting);
  const folder = await mkdtemp(join(tmpdir(), "posthorn-bench-move-"));
  try {
    const from = `embedded:${join(folder, "db")}`;
    const post = posthorn({ service: "bench", database: from, migrate: "auto" });
    await fill(post, messages, (sent) => bench.progress(`${sent} of ${messages} messages sent`));
    await post.stop();
    bench.progress("moving");
    const begun = performance.now();
    await promisify(execFile)(process.execPath, [program, "move", "--from", from, "--to", target, "--json"]);
    const seconds = (performance.now() - begun) / 1_000;
    await checkMoved(target, messages);
    return { value: messages / seconds, seconds };
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

async function checkMoved(url: string, wanted: number): Promise<void> {
  const post = posthorn({ service: "bench", database: url });
  const [line] = await post.backlog();
  await post.stop();
  if (line?.backlog !== wanted) throw new Error(`${line?.backlog} of ${wanted} messages have arrived`);
}

export const move: Row = {
  names: [name],
  long: true,
  run: async (bench) => {
    const limit = await insertLimit((await bench.database()).url);
    await limit.round(bench.warmupMs);
    const before = await limit.round(bench.roundMs);
    const moved = await moveOnce(bench, (await bench.database()).url);
    const after = await limit.round(bench.roundMs);
    await limit.close?.();
    const limits = [{ value: (before.value + after.value) / 2, seconds: before.seconds + after.seconds }];
    return [figure({ name, unit: "messages/s", rounds: [moved], limits, bar: { least: 0.2 } })];
  },
};
