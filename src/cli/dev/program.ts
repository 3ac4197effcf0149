/**
 * The process of `posthorn dev` in which the user's code runs: loads the configuration, works, and looks at the queues.
 *
 * It is a process of its own, so that each start has fresh modules and a crash ends nothing else. It looks itself, because on the
 * embedded database a look from outside would hold the folder while this process starts. It ends when its parent is gone.
 */
import { setTimeout as wait } from "node:timers/promises";
import { Worker } from "node:worker_threads";
import { ConfigurationError, PosthornError } from "../../core/errors.js";
import type { DatabaseInput } from "../../databases/open.js";
import { openDatabase } from "../../databases/open.js";
import { declaredNames, type ExportedPost } from "../../instance/exported.js";
import { errorGroups } from "../../store/operate.js";
import { databaseIn, defaultSchema } from "../../store/schema.js";
import { look } from "../commands/status.js";
import { loadConfig } from "../config.js";
import { isToStop, type Said, type Setup } from "./messages.js";
import { isHere, placeOf } from "./place.js";

const setup: Setup = JSON.parse(process.argv[2] ?? "{}");
/** After the grace: what handing back and closing take. */
const endsWithinMs = 5_000;

const ended = new AbortController();
let post: ExportedPost | undefined;
let looking: Promise<void> | undefined;

function say(said: Said): void {
  if (process.connected) process.send?.(said, () => undefined);
}

/** The parent can no longer be told; the output has nobody who reads it. */
for (const stream of [process.stdout, process.stderr]) stream.on("error", () => undefined);
// Ctrl-C reaches the whole group; the parent decides what it means.
process.on("SIGINT", () => undefined);
process.on("SIGHUP", () => undefined);
process.on("SIGTERM", () => void stop(0));
process.on("disconnect", () => void stop(0));
process.on("message", (message) => {
  if (isToStop(message)) void stop(message.graceMs);
});
endWithParent();

/**
 * A handler that never yields hears no disconnection; a second thread looks whether the parent is still there. It leaves the time
 * in which a process that hears it hands back what it holds.
 */
function endWithParent(): void {
  const watch = `
    const timer = setInterval(() => {
      if (process.ppid === ${process.ppid}) return;
      clearInterval(timer);
      setTimeout(() => process.kill(process.pid, "SIGKILL"), ${endsWithinMs + 1_000});
    }, 2_000);`;
  new Worker(watch, { eval: true, stdout: false, stderr: false }).unref();
}

async function stop(graceMs: number): Promise<void> {
  if (ended.signal.aborted) return;
  ended.abort();
  // What the user's code makes of its end must not keep it.
  setTimeout(() => process.exit(1), graceMs + endsWithinMs);
  await looking;
  await post?.stop({ graceMs }).catch(() => undefined);
  if (process.connected) process.send?.({ said: "stopped" } satisfies Said, () => process.exit(0));
  else process.exit(0);
}

async function run(): Promise<void> {
  const config = await loadConfig(setup.file);
  if (ended.signal.aborted) return;
  post = config.post;
  const { service, database, schema = defaultSchema } = post["~posthorn"];
  say({ said: "loaded", service, ...placeOf(database) });
  refuseOther(database);
  if (setup.migrate || isHere(database)) await post.migrate();
  if (ended.signal.aborted) return;
  await post.start();
  say({ said: "started", worksOn: declaredNames(post) });
  looking = lookOnAndOn(database, schema);
  await looking;
}

/** DATABASE_URL is only a word to code that does not read it. */
function refuseOther(database: DatabaseInput): void {
  if (setup.embedded === undefined || placeOf(database).folder === placeOf(setup.embedded).folder) return;
  throw new ConfigurationError(
    "PH_CONFIG_BROKEN",
    `--embedded sets DATABASE_URL, and ${setup.file} uses ${placeOf(database).database} all the same. Write database: process.env.DATABASE_URL ?? …, or leave --embedded out.`,
    { file: setup.file },
  );
}

async function lookOnAndOn(input: DatabaseInput, schema: string): Promise<void> {
  const database = databaseIn(
    schema,
    await openDatabase(input, { applicationName: "posthorn dev", embedded: "share" }),
  );
  const { signal } = ended;
  while (!signal.aborted) {
    try {
      const seen = await look(database);
      const failed = seen.lines.some(({ retrying, deadLetters }) => retrying + deadLetters > 0);
      say({ said: "looked", look: seen, failures: failed ? await errorGroups(database, {}, 100, 1_000) : [] });
    } catch (error) {
      say({ said: "blind", reason: error instanceof Error ? error.message : String(error) });
    }
    await wait(setup.everyMs, undefined, { signal }).catch(() => undefined);
  }
  await database.close();
}

run().catch((error: unknown) => {
  if (ended.signal.aborted) return;
  const known = error instanceof PosthornError;
  const message = error instanceof Error ? (known ? error.message : (error.stack ?? error.message)) : String(error);
  const passing = known && (error.retryable || error.code === "PH_EMBEDDED_HELD");
  say({ said: "failed", failure: { code: known ? error.code : "PH_INTERNAL", message, passing } });
  void stop(0);
});
