/** `posthorn status`: what waits, runs and went wrong, who works, and what crosses its bound. */
import { setTimeout as wait } from "node:timers/promises";
import type { Executor } from "../../core/database.js";
import { limits } from "../../core/limits.js";
import { clause, durationInWords } from "../../core/words.js";
import { limitsInWords } from "../../policies/describe.js";
import { type IntakeLine, intakeLines } from "../../store/intakes.js";
import { type Alert, crossedAlerts, type FleetWorker, fleet } from "../../store/operate.js";
import { type ScalingLine, scaling } from "../../store/scaling.js";
import { type ListedSchedule, listSchedules } from "../../store/schedules.js";
import { type BacklogLine, backlog, type LimitsNow } from "../../store/status.js";
import { circuitAndProbe } from "../circuits.js";
import { type Cell, type Io, oneLine, paint, table } from "../io.js";
import { reading } from "../open.js";
import { flag, type Line, number } from "../parse.js";
import { clock, grouped } from "../words.js";
import { alertTable } from "./alerts.js";
import { intakeTable } from "./intakes.js";
import { scheduleTable } from "./schedules.js";

export interface Look {
  readonly lines: readonly BacklogLine[];
  readonly workers: readonly FleetWorker[];
  readonly alerts: readonly Alert[];
  readonly schedules: readonly ListedSchedule[];
  readonly scaling: readonly ScalingLine[];
  readonly intakes: readonly IntakeLine[];
}

export async function look(executor: Executor): Promise<Look> {
  const lines = await backlog(executor);
  const workers = await fleet(executor);
  const schedules = await listSchedules(executor, limits.scheduleLateMs);
  const intakes = await intakeLines(executor);
  return {
    lines,
    workers,
    schedules,
    intakes,
    scaling: await scaling(executor),
    alerts: await crossedAlerts(executor),
  };
}

export async function status(line: Line, io: Io): Promise<number> {
  if (flag(line, "watch")) return watch(line, io);
  const seen = await reading(line, look);
  io.out(flag(line, "json") ? `${JSON.stringify(seen)}\n` : statusText(seen, io));
  return seen.alerts.length > 0 ? 1 : 0;
}

/** Opens the database for each look: on the embedded one nobody is kept from it in between. */
async function watch(line: Line, io: Io): Promise<number> {
  const stop = new AbortController();
  for (const signal of ["SIGINT", "SIGTERM"] as const) process.once(signal, () => stop.abort());
  let code = 0;
  while (!stop.signal.aborted) {
    const seen = await reading(line, look);
    code = seen.alerts.length > 0 ? 1 : 0;
    if (flag(line, "json")) io.out(`${JSON.stringify(seen)}\n`);
    else io.out(`${io.terminal ? "\u001b[H\u001b[2J" : ""}${statusText(seen, io)}${io.terminal ? "" : "\n"}`);
    await wait(number(line, "every-ms"), undefined, { signal: stop.signal }).catch(() => undefined);
  }
  return code;
}

const columns = [
  { title: "Queue or subscription" },
  { title: "Reads" },
  { title: "Waiting", right: true },
  { title: "Oldest", right: true },
  { title: "Running", right: true },
  { title: "Retrying", right: true },
  { title: "Dead", right: true },
  { title: "Invalid", right: true },
  { title: "Workers", right: true },
] as const;

export function statusText({ lines, workers, alerts, schedules, intakes }: Look, io: Io): string {
  const queues = lines.length === 0 ? "No queue or subscription is known yet.\n" : table(io, columns, lines.map(rowOf));
  const dead = workers.filter((worker) => worker.dead !== null);
  const died = dead.map(
    ({ id, service, host, pid, dead: reason }) =>
      `Worker ${id} (${service}, pid ${pid} on ${oneLine(host, 60)}) is dead: ${reason}. The next worker that looks frees what it held.\n`,
  );
  const circuits = lines.flatMap(circuitAndProbe);
  const paused = [...lines, ...intakes].flatMap(pauseOf);
  const relays = lines.flatMap(({ name, relay }) =>
    relay === null ? [] : [`${name} is relayed to ${relay.broker} ${oneLine(relay.where, 160)}.\n`],
  );
  const open =
    alerts.length === 0
      ? paint(io, "green", "No alert is open.\n")
      : `${paint(io, "red", `Open alerts: ${alerts.length}`)}\n${alertTable(alerts, io)}`;
  const planned = schedules.length === 0 ? [] : [scheduleTable(schedules, io)];
  const beside = [relays, paused, limitTexts(lines), died, circuits]
    .filter((list) => list.length > 0)
    .map((list) => list.join(""));
  const comesIn = intakes.length === 0 ? [] : [intakeTable(intakes, io)];
  return [queues, ...comesIn, ...planned, ...beside, open].join("\n");
}

/** "Limits of 'email': no faster than 500 in 1 s …; no permit at the moment". */
function limitTexts(lines: readonly BacklogLine[]): readonly string[] {
  return lines.flatMap(({ name, limits }) => (limits === null ? [] : [limitsText(name, limits)]));
}

function limitsText(name: string, limits: LimitsNow): string {
  const { permits = 1, putAside = 0, full, fleetConcurrency, running = 0 } = limits;
  const now = [
    permits <= 0 && "no permit at the moment",
    fleetConcurrency !== undefined && `${grouped(running)} running`,
    putAside > 0 && `${grouped(putAside)} put aside for their keys`,
    full && "full, producers are refused",
  ].filter((one) => typeof one === "string");
  return `Limits of '${name}': ${[...limitsInWords(limits), ...now].join("; ")}.\n`;
}

function pauseOf({ name, paused }: Pick<BacklogLine, "name" | "paused">): readonly string[] {
  if (paused === null) return [];
  const why = paused.reason === undefined ? "" : `: ${clause(oneLine(paused.reason, 160))}`;
  return [
    `${name} is paused since ${clock(paused.at, new Date().toISOString())} by ${oneLine(paused.by, 80)}${why}.\n`,
  ];
}

function rowOf(line: BacklogLine): readonly (Cell | string)[] {
  const bad = (value: number): Cell => ({ text: grouped(value), colour: value > 0 ? "red" : undefined });
  const waiting = line.backlog + line.running > 0;
  return [
    line.name,
    `${line.kind === "command" ? "queue" : "topic"} ${line.channel}`,
    grouped(line.backlog),
    waiting ? durationInWords(line.ageMs) : "-",
    grouped(line.running),
    grouped(line.retrying),
    bad(line.deadLetters),
    bad(line.invalid),
    line.unattended ? { text: "none", colour: "yellow" } : grouped(line.workers),
  ];
}
