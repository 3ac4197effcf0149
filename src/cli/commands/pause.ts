/** `posthorn pause`, `resume` and `drain`: stops the fleet from taking anything, and waits until nothing is left. */
import { setTimeout as wait } from "node:timers/promises";
import { ConfigurationError } from "../../core/errors.js";
import { isDrained, pause, resume, type Unsettled, unsettled } from "../../store/operations.js";
import { type Io, oneLine } from "../io.js";
import { refuseUnknown, refuseUnknownReader } from "../names.js";
import { withDatabase } from "../open.js";
import { operator } from "../operator.js";
import { flag, type Line, number, text } from "../parse.js";
import { clock, grouped, plural } from "../words.js";

export async function pauseOne(line: Line, io: Io): Promise<number> {
  const name = line.argument ?? "";
  const paused = await withDatabase(line, async (database) => {
    await refuseUnknownReader(database, name);
    return pause(database, name, { by: operator(), reason: text(line, "reason") });
  });
  if (flag(line, "json")) io.out(`${JSON.stringify(paused)}\n`);
  else if (paused.changed)
    io.out(
      `Paused '${name}'. The whole fleet knows within about a second. What runs goes on to its end; what is said, or waits at a broker, is kept; schedules go on sending.\n`,
    );
  else io.out(`'${name}' is paused already, ${sinceWhen(paused.at, paused.by)}.\n`);
  return 0;
}

export async function resumeOne(line: Line, io: Io): Promise<number> {
  const name = line.argument ?? "";
  const resumed = await withDatabase(line, async (database) => {
    await refuseUnknownReader(database, name);
    return resume(database, name, { by: operator() });
  });
  if (flag(line, "json")) io.out(`${JSON.stringify(resumed)}\n`);
  else if (resumed.changed)
    io.out(
      `Resumed '${name}', which was paused ${sinceWhen(resumed.at, resumed.by)}. Workers take messages within a second.\n`,
    );
  else io.out(`'${name}' was not paused.\n`);
  return 0;
}

function sinceWhen(at: string | undefined, by: string | undefined): string {
  return `since ${at === undefined ? "an unknown time" : clock(at, new Date().toISOString())} by ${oneLine(by ?? "somebody", 80)}`;
}

/** Of an intake. */
const drainsInstead =
  "Nothing waits in it: what it took in waits in what reads it. Drain the queues and subscriptions that do: posthorn drain <name>.";

const lookMs = 250;
/** Where nobody watches, lines are for a log. */
const logEveryMs = 5_000;

/** Opens the database once: on the embedded one it goes through the socket of whoever works. */
export async function drain(line: Line, io: Io): Promise<number> {
  const name = line.argument ?? "";
  const until = performance.now() + number(line, "within-ms");
  const { drained, left } = await withDatabase(line, async (database) => {
    await refuseUnknown(database, { subscription: name }, () => drainsInstead);
    const first = await unsettled(database, name);
    if (first.paused !== null) {
      throw new ConfigurationError(
        "PH_PAUSED",
        `'${name}' is paused ${sinceWhen(first.paused.at, first.paused.by)}, so nothing leaves it. Resume it first: posthorn resume ${name}.`,
        { name },
      );
    }
    let toldAt = Number.NEGATIVE_INFINITY;
    for (let left = first; ; left = await unsettled(database, name)) {
      if (await isDrained(database, name)) return { drained: true, left };
      if (performance.now() >= until) return { drained: false, left };
      if (!flag(line, "json") && (io.watched || performance.now() - toldAt >= logEveryMs)) {
        io.err(io.watched ? `\r${leftInWords(left)}\u001b[K` : `${leftInWords(left)}\n`);
        toldAt = performance.now();
      }
      await wait(lookMs);
    }
  });
  if (!flag(line, "json") && io.watched) io.err("\n");
  if (flag(line, "json")) io.out(`${JSON.stringify({ drained, ...left })}\n`);
  else
    io.out(
      drained
        ? `'${name}' is drained: nothing waits, and nothing runs.\n`
        : `'${name}' is not drained: ${leftInWords(left)}.\n`,
    );
  return drained ? 0 : 1;
}

function leftInWords({ waiting, scheduled, retrying, parked, running, stuck, paused, workers }: Unsettled): string {
  const parts = [
    `${grouped(waiting)} waiting`,
    `${grouped(running)} running`,
    scheduled > 0 && `${grouped(scheduled)} scheduled`,
    retrying > 0 && `${grouped(retrying)} retrying`,
    parked > 0 && `${grouped(parked)} parked`,
    stuck > 0 && `${plural(stuck, "message")} behind dead ones, which somebody has to redrive or discard`,
    paused !== null && "paused meanwhile",
    workers === 0 && "no worker works on it",
  ];
  return parts.filter((part) => typeof part === "string").join(", ");
}
