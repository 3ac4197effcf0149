/** `posthorn schedules`: what is sent by the clock, and how to end it. */
import { ConfigurationError } from "../../core/errors.js";
import { limits } from "../../core/limits.js";
import { quote } from "../../core/show.js";
import { suggestion } from "../../core/suggest.js";
import { type ListedSchedule, listSchedules, removeSchedule } from "../../store/schedules.js";
import { type Cell, type Io, oneLine, table } from "../io.js";
import { reading, withDatabase } from "../open.js";
import { flag, type Line } from "../parse.js";
import { clock } from "../words.js";

export async function listAll(line: Line, io: Io): Promise<number> {
  const schedules = await reading(line, (database) => listSchedules(database, limits.scheduleLateMs));
  if (flag(line, "json")) io.out(`${JSON.stringify({ schedules })}\n`);
  else io.out(schedules.length === 0 ? "No schedule is declared.\n" : scheduleTable(schedules, io));
  return schedules.some(({ overdue }) => overdue) ? 1 : 0;
}

export async function remove(line: Line, io: Io): Promise<number> {
  const name = line.argument ?? "";
  await withDatabase(line, async (database) => {
    if (await removeSchedule(database, name)) return;
    const known = (await listSchedules(database, limits.scheduleLateMs)).map((one) => one.name);
    throw new ConfigurationError(
      "PH_ARGUMENT_INVALID",
      `No schedule is called ${quote(name)}.${suggestion(name, known)}`,
      { name },
    );
  });
  io.out(flag(line, "json") ? `${JSON.stringify({ removed: name })}\n` : `removed: ${name}\n`);
  return 0;
}

const columns = [
  { title: "Schedule" },
  { title: "Cron" },
  { title: "Zone" },
  { title: "Command" },
  { title: "Missed" },
  { title: "Next" },
  { title: "Last" },
  { title: "Last message" },
  { title: "By" },
  { title: "" },
] as const;

export function scheduleTable(schedules: readonly ListedSchedule[], io: Io): string {
  const now = new Date().toISOString();
  return table(
    io,
    columns,
    schedules.map((one) => [
      one.name,
      one.cron,
      one.timeZone,
      one.command,
      one.missed,
      clock(one.nextAt, now),
      one.lastAt === null ? "-" : clock(one.lastAt, now),
      one.lastMessage ?? "-",
      one.service,
      troubleOf(one, now),
    ]),
  );
}

function troubleOf({ overdue, error, failedAt }: ListedSchedule, now: string): Cell | string {
  if (error !== null) {
    const since = failedAt === null ? "" : ` at ${clock(failedAt, now)}`;
    return { text: `its command could not be made${since}: ${oneLine(error, 100)}`, colour: "red" };
  }
  return overdue ? { text: "overdue", colour: "red" } : "";
}
