/**
 * `npm run bench [-- name … | --long | --brokers | --json | --quick]`: one table, each figure beside its limit measured in the same run.
 *
 * Uses POSTHORN_BENCH_URL (a superuser's URL) where it is given, else a server of its own from npm. Figures go to standard output,
 * everything else to standard error. Exit code 0: every bar holds; 1: one does not, or a row failed; 2: nothing was run.
 */
import { parseArgs } from "node:util";
import { type OwnServer, startServer } from "../test/support/own-server.js";
import type { Bench, Row } from "./bench.js";
import { conditions } from "./conditions.js";
import type { Figure } from "./measure.js";
import { Places } from "./places.js";
import { cpuAt200 } from "./rows/cpu.js";
import { drainDefaults, drainHandler, drainPglite, drainTransaction } from "./rows/drain.js";
import { fanOut } from "./rows/fan-out.js";
import { idleQueries } from "./rows/idle.js";
import { intake } from "./rows/intake.js";
import { manyLanes } from "./rows/lanes.js";
import { latency } from "./rows/latency.js";
import { memoryAtDefaults, million } from "./rows/million.js";
import { move } from "./rows/move.js";
import { order } from "./rows/order.js";
import { bulkPublish, publishInTransaction } from "./rows/publish.js";
import { rateLimit } from "./rows/rate-limit.js";
import { relay } from "./rows/relay.js";
import { relayLatency } from "./rows/relay-latency.js";
import { relayRecovery } from "./rows/relay-recovery.js";
import { rescueAfterKill } from "./rows/rescue.js";
import { heldSnapshot, rotation, startWithHistory } from "./rows/space.js";
import { dedupe, delayedLag } from "./rows/time.js";
import { inShort, table } from "./table.js";

const rows: readonly Row[] = [
  bulkPublish,
  drainHandler,
  drainDefaults,
  publishInTransaction,
  drainTransaction,
  latency,
  cpuAt200,
  drainPglite,
  idleQueries,
  rescueAfterKill,
  million,
  memoryAtDefaults,
  move,
  fanOut,
  manyLanes,
  order,
  rateLimit,
  dedupe,
  delayedLag,
  rotation,
  heldSnapshot,
  startWithHistory,
  ...intake,
  ...relay,
  ...relayLatency,
  ...relayRecovery,
];
const known = rows.flatMap(({ names }) => names);

interface Asked {
  readonly json: boolean;
  readonly long: boolean;
  /** The rows of brokers, and no others. */
  readonly brokers: boolean;
  readonly quick: boolean;
  /** Names, or beginnings of names up to a dash: "latency", "claim-backlog". */
  readonly names: readonly string[];
}

function fits(name: string, asked: string): boolean {
  return name === asked || (!known.includes(asked) && name.startsWith(`${asked}-`));
}

function refuse(message: string): never {
  console.error(message);
  process.exit(2);
}

function parse(): Asked {
  const list = `Known are: ${known.join(", ")}, and the flags --json, --long, --brokers and --quick.`;
  const flag = { type: "boolean" } as const;
  const options = { json: flag, long: flag, brokers: flag, quick: flag };
  try {
    const { values, positionals } = parseArgs({ allowPositionals: true, options });
    const unknown = positionals.filter((asked) => !known.some((name) => fits(name, asked)));
    if (unknown.length > 0) refuse(`unknown: ${unknown.join(", ")}. ${list}`);
    const { json = false, long = false, brokers = false, quick = false } = values;
    return { json, long, brokers, quick, names: positionals };
  } catch (error) {
    return refuse(`${error instanceof Error ? error.message : error}. ${list}`);
  }
}

/** One line that is written over on a terminal; elsewhere a line whenever a row begins, and what it measured: a run that is ended early has said so much. */
class Progress {
  readonly #begun = performance.now();
  #row = "";

  begin(row: Row): void {
    this.#row = row.names.join(", ");
    this.say("…");
    if (!process.stderr.isTTY) console.error(`${this.#seconds()}  ${this.#row} …`);
  }

  say(text: string): void {
    if (process.stderr.isTTY) process.stderr.write(`\r\x1b[K${this.#seconds()}  ${this.#row}: ${text}`);
  }

  end(measured: readonly Figure[]): void {
    if (process.stderr.isTTY) process.stderr.write("\r\x1b[K");
    for (const one of measured) console.error(`${this.#seconds()}  ${inShort(one)}`);
  }

  #seconds(): string {
    return `${Math.round((performance.now() - this.#begun) / 1_000)} s`.padStart(5);
  }
}

function benchOf({ quick, names }: Asked, places: Places, progress: Progress, notes: string[]): Bench {
  return {
    database: () => places.make(),
    rounds: quick ? 2 : 5,
    roundMs: quick ? 1_000 : 3_000,
    warmupMs: quick ? 300 : 1_000,
    messages: (count) => (quick ? count / 10 : count),
    wants: (name) => names.length === 0 || names.some((asked) => fits(name, asked)),
    note: (text) => notes.push(text),
    skip: (name, reason) => notes.push(`${name} skipped: ${reason}`),
    progress: (text) => progress.say(text),
  };
}

function isChosen(row: Row, { names, long, brokers }: Asked, bench: Bench): boolean {
  if (names.length > 0) return row.names.some(bench.wants);
  return (row.brokers === true) === brokers && (long || row.long !== true);
}

/** False when a row failed; what the others measured has been printed. */
async function measure(asked: Asked, admin: string): Promise<boolean> {
  const notes: string[] = [...(await conditions(admin).catch((error) => refuse(String(error))))];
  if (asked.quick) notes.push("--quick: shows that the rows run; its figures say nothing");
  const places = new Places(admin);
  process.once("SIGINT", async () => {
    // A server of our own goes with its databases.
    if (given !== undefined) await places.clear().catch(() => undefined);
    process.exit(130);
  });
  const progress = new Progress();
  const bench = benchOf(asked, places, progress, notes);
  const figures: Figure[] = [];
  let whole = true;
  process.on("uncaughtException", (error) => {
    console.error(error);
    // A connection that a row has left behind when it failed; otherwise what runs now may wait for ever.
    if (whole) process.exit(1);
  });
  for (const row of rows) {
    if (!isChosen(row, asked, bench)) continue;
    progress.begin(row);
    const measured: Figure[] = [];
    try {
      measured.push(...(await row.run(bench)));
      if (asked.json) for (const one of measured) console.log(JSON.stringify(one));
    } catch (error) {
      console.error(row.names.join(", "), error);
      whole = false;
    }
    figures.push(...measured);
    progress.end(measured);
    await places.clear().catch(() => undefined);
  }
  if (!asked.json) for (const line of table(figures)) console.log(line);
  for (const note of notes) console.error(note);
  return whole && figures.every(({ holds }) => holds !== false);
}

const asked = parse();
const given = process.env.POSTHORN_BENCH_URL;
const own: OwnServer | undefined =
  given === undefined ? await startServer({ settings: { shared_buffers: "512MB", max_wal_size: "4GB" } }) : undefined;
const good = await measure(asked, given ?? own?.url() ?? "");
await own?.remove();
// A row that failed may have left connections behind.
process.exit(good ? 0 : 1);
