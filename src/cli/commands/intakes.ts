/** How intakes stand, as a table of `posthorn status`. */
import { durationInWords } from "../../core/words.js";
import type { IntakeLine } from "../../store/intakes.js";
import { type Cell, type Io, oneLine, table } from "../io.js";
import { clock, grouped, plural } from "../words.js";

const columns = [
  { title: "Intake" },
  { title: "From" },
  { title: "Connected" },
  { title: "Runs on" },
  { title: "Written", right: true },
  { title: "Duplicates", right: true },
  { title: "Invalid", right: true },
  { title: "Last message" },
] as const;

export function intakeTable(lines: readonly IntakeLine[], io: Io): string {
  const now = new Date();
  const rows = lines.map((line): readonly (Cell | string)[] => [
    line.name,
    oneLine(`${line.broker} ${line.place}`, 60),
    connection(line, now),
    runsOn(line),
    grouped(line.written),
    grouped(line.duplicates),
    { text: grouped(line.listed), colour: line.listed > 0 ? "red" : undefined },
    line.lastMessageAt === null ? "-" : clock(line.lastMessageAt, now.toISOString()),
  ]);
  const why = lines.flatMap(({ name, trouble }) => (trouble === null ? [] : [`${name}: ${oneLine(trouble, 200)}\n`]));
  return `${table(io, columns, rows)}${why.join("")}${lines.flatMap((line) => refusedBy(line, now)).join("")}`;
}

/** While it goes on: what was once turned away is in --json. */
function refusedBy({ name, refused, refusedAt, refusal }: IntakeLine, now: Date): readonly string[] {
  if (refusedAt === null) return [];
  const last = clock(refusedAt, now.toISOString());
  return [`${name} has refused ${plural(refused, "message")}, the last at ${last}: ${oneLine(refusal ?? "", 240)}\n`];
}

function runsOn({ holders }: IntakeLine): Cell | string {
  const [first] = holders;
  if (first === undefined) return { text: "nobody", colour: "yellow" };
  return holders.length > 1 ? `${holders.length} processes` : oneLine(`${first.host} ${first.pid}`, 40);
}

function connection({ connected, awaySince, paused }: IntakeLine, now: Date): Cell | string {
  if (paused !== null) return { text: "paused", colour: "yellow" };
  if (connected) return "yes";
  const forMs = awaySince === null ? undefined : Math.max(0, now.getTime() - Date.parse(awaySince));
  return { text: forMs === undefined ? "no" : `no, for ${durationInWords(forMs)}`, colour: "red" };
}
