/** `posthorn intakes`: how they stand, which `posthorn status` shows as well, renaming one, and removing one that is gone from the code. */
import { checkName } from "../../core/names.js";
import { durationInWords } from "../../core/words.js";
import { type IntakeLine, intakeLines } from "../../store/intakes.js";
import { beginRemoveIntake, remainingOfIntake, renameIntake } from "../../store/operations.js";
import { renamedAtBroker, staysAtBroker } from "../at-broker.js";
import { type Cell, type Io, oneLine, table } from "../io.js";
import { refuseUnknownIntake } from "../names.js";
import { reading, withDatabase } from "../open.js";
import { operator } from "../operator.js";
import { confirmed, driven } from "../ordering.js";
import { flag, type Line, text } from "../parse.js";
import { clock, grouped, plural } from "../words.js";

export async function listIntakes(line: Line, io: Io): Promise<number> {
  const intakes = await reading(line, intakeLines);
  if (flag(line, "json")) io.out(`${JSON.stringify({ intakes })}\n`);
  else io.out(intakes.length === 0 ? "No intake is known yet.\n" : intakeTable(intakes, io));
  return 0;
}

export async function removeIntake(line: Line, io: Io): Promise<number> {
  const name = line.argument ?? "";
  let atBroker: string | undefined;
  const ended = await withDatabase(line, async (database) => {
    await refuseUnknownIntake(database, name, (reader) => `Remove it: posthorn subscriptions remove ${reader}.`);
    const { invalid } = await remainingOfIntake(database, name);
    const known = (await intakeLines(database)).find((one) => one.name === name);
    if (known !== undefined) atBroker = staysAtBroker(known.broker, known.place);
    if (!(await confirmed(line, io, `remove the intake '${name}' with ${messagesInvalid(invalid)}`, invalid)))
      return undefined;
    const begun = await beginRemoveIntake(database, name, { by: operator(), reason: text(line, "reason") }, name);
    return driven(database, begun, line, io, { done: "removed" });
  });
  if (flag(line, "json"))
    io.out(
      `${JSON.stringify(ended === undefined ? { removed: null } : { removed: name, messages: ended.done, operation: ended.operation, atBroker })}\n`,
    );
  else if (ended === undefined) io.out("Nothing was removed.\n");
  else
    io.out(
      `removed: ${name}, with ${messagesInvalid(ended.done)}; what it took in stays\n${atBroker === undefined ? "" : `${atBroker}\n`}`,
    );
  return 0;
}

export async function moveName(line: Line, io: Io): Promise<number> {
  const [name, to] = [line.argument ?? "", checkName(line.second, "intake")];
  const renamed = await withDatabase(line, async (database) => {
    await refuseUnknownIntake(database, name, () => "Only an intake is given another name.");
    return renameIntake(database, name, to, { by: operator(), reason: text(line, "reason") });
  });
  const { joined, invalid, broker, place, service } = renamed;
  const atBroker = renamedAtBroker(broker, place, { name, service });
  if (flag(line, "json")) io.out(`${JSON.stringify({ renamed: name, to, joined, invalid, atBroker })}\n`);
  else {
    const how = joined ? `is one with ${to} now, and what either took in` : `is ${to} now, and what it took in`;
    io.out(`renamed: ${name} ${how} is recognised there; ${messagesInvalid(invalid)} in its list\n`);
    if (atBroker !== undefined) io.out(`${atBroker}\n`);
  }
  return 0;
}

function messagesInvalid(count: number): string {
  return plural(count, "invalid message", "invalid messages");
}

const columns = [
  { title: "Intake" },
  { title: "From" },
  { title: "Connected" },
  { title: "Runs on" },
  { title: "Written", right: true },
  { title: "Duplicates", right: true },
  { title: "Invalid", right: true },
  { title: "Skipped", right: true },
  { title: "Last message" },
] as const;

export function intakeTable(lines: readonly IntakeLine[], io: Io): string {
  const now = new Date();
  const rows = lines.map((line): readonly (Cell | string)[] => [
    line.name,
    oneLine(`${line.broker} ${line.place}`, 60),
    connection(line, now),
    runsOn(line, now),
    grouped(line.written),
    grouped(line.duplicates),
    { text: grouped(line.listed), colour: line.listed > 0 ? "red" : undefined },
    { text: grouped(line.skipped), colour: hasOnlySkipped(line) ? "yellow" : undefined },
    line.lastMessageAt === null ? "-" : clock(line.lastMessageAt, now.toISOString()),
  ]);
  const why = lines.flatMap(({ name, trouble }) => (trouble === null ? [] : [`${name}: ${oneLine(trouble, 200)}\n`]));
  return `${table(io, columns, rows)}${why.join("")}${lines.flatMap((line) => [...skippedBy(line, now), ...refusedBy(line, now)]).join("")}`;
}

/** A prefix that is mistyped looks so; an intake that writes may pass over as much as it likes. */
function hasOnlySkipped({ written, skippedAt }: IntakeLine): boolean {
  return written === 0 && skippedAt !== null;
}

function skippedBy(line: IntakeLine, now: Date): readonly string[] {
  const { name, skipped, skippedType, skippedAt } = line;
  if (!hasOnlySkipped(line) || skippedAt === null) return [];
  const last = clock(skippedAt, now.toISOString());
  const type = JSON.stringify(oneLine(skippedType ?? "", 200));
  return [
    `${name} has written nothing, and passed over ${plural(skipped, "message")}, the last at ${last}: no contract has the type ${type}\n`,
  ];
}

/** While it goes on: what was once turned away is in --json. */
function refusedBy({ name, refused, refusedAt, refusal }: IntakeLine, now: Date): readonly string[] {
  if (refusedAt === null) return [];
  const last = clock(refusedAt, now.toISOString());
  return [`${name} has refused ${plural(refused, "message")}, the last at ${last}: ${oneLine(refusal ?? "", 240)}\n`];
}

function runsOn({ holders, stoppedAt }: IntakeLine, now: Date): Cell | string {
  const [first] = holders;
  if (first === undefined) {
    const since = stoppedAt === null ? "" : ` since ${clock(stoppedAt, now.toISOString())}`;
    return { text: `nobody${since}`, colour: "yellow" };
  }
  return holders.length > 1 ? `${holders.length} processes` : oneLine(`${first.host} ${first.pid}`, 40);
}

function connection({ connected, awaySince, paused }: IntakeLine, now: Date): Cell | string {
  if (paused !== null) return { text: "paused", colour: "yellow" };
  if (connected) return "yes";
  const forMs = awaySince === null ? undefined : Math.max(0, now.getTime() - Date.parse(awaySince));
  return { text: forMs === undefined ? "no" : `no, for ${durationInWords(forMs)}`, colour: "red" };
}
