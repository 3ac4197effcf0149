/** `posthorn errors`: what goes wrong, grouped by what the failures have in common; and what waits behind an open circuit, which has no error of its own. */
import { type ErrorGroup, errorGroups } from "../../store/operate.js";
import { type BacklogLine, backlog } from "../../store/status.js";
import { circuitAndWaiting, isOpen } from "../circuits.js";
import { type Io, oneLine, paint, table } from "../io.js";
import { namesOf, refuseUnknown } from "../names.js";
import { reading } from "../open.js";
import { flag, type Line, number } from "../parse.js";
import { clock, errorInWords, grouped } from "../words.js";

/** Messages of each list that are read; the newest. */
const read = 10_000;

export async function errors(line: Line, io: Io): Promise<number> {
  const names = namesOf(line);
  const { groups, open } = await reading(line, async (database) => {
    await refuseUnknown(database, names);
    const groups = await errorGroups(database, names, number(line, "limit"), read);
    const lines = await backlog(database);
    const asked = lines.filter(({ name }) => names.subscription === undefined || names.subscription === name);
    return { groups, open: asked.filter(({ circuit }) => isOpen(circuit)) };
  });
  if (flag(line, "json")) io.out(`${JSON.stringify({ groups, circuits: open.map(asJson) })}\n`);
  else {
    io.out(groups.length === 0 ? "No waiting or dead message has an error.\n" : asText(groups, io));
    if (open.length > 0) io.out(`\n${open.flatMap(circuitAndWaiting).join("")}`);
  }
  return 0;
}

function asJson({ name, backlog: waiting, circuit }: BacklogLine): object {
  return { name, waiting, circuit };
}

function asText(groups: readonly ErrorGroup[], io: Io): string {
  const now = new Date().toISOString();
  const columns = [
    { title: "Group" },
    { title: "Queue or subscription" },
    { title: "Contract" },
    { title: "Times", right: true },
    { title: "Messages", right: true },
    { title: "First" },
    { title: "Last" },
    { title: "Example" },
    { title: "Error" },
  ] as const;
  const rows = groups.map((group) => [
    group.fingerprint,
    group.subscription,
    group.contract,
    grouped(group.count),
    grouped(group.messages),
    clock(group.firstSeen, now),
    clock(group.lastSeen, now),
    group.example,
    `${errorInWords(group)}${group.at === null ? "" : ` ${paint(io, "dim", `at ${oneLine(group.at, 80)}`)}`}`,
  ]);
  return table(io, columns, rows);
}
