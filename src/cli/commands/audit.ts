/** `posthorn audit`: what operators did and what is still under way; goes on with what was interrupted, or ends it. */
import { ConfigurationError } from "../../core/errors.js";
import { quote } from "../../core/show.js";
import { type Operation, operations, proceed, stopOperation } from "../../store/operations.js";
import { type Io, oneLine, table } from "../io.js";
import { reading, withDatabase } from "../open.js";
import { driven, rateOf } from "../ordering.js";
import { flag, type Line, number } from "../parse.js";
import { clock, grouped, plural } from "../words.js";

export async function audit(line: Line, io: Io): Promise<number> {
  const list = await reading(line, (database) => operations(database, number(line, "limit"), flag(line, "unfinished")));
  if (flag(line, "json")) io.out(`${JSON.stringify({ operations: list })}\n`);
  else io.out(list.length === 0 ? "Nothing is recorded.\n" : auditTable(list, io));
  return list.some(({ state }) => state === "interrupted") ? 1 : 0;
}

function auditTable(list: readonly Operation[], io: Io): string {
  const now = new Date().toISOString();
  const columns = [
    { title: "Operation", right: true },
    { title: "Verb" },
    { title: "What" },
    { title: "By" },
    { title: "Begun" },
    { title: "Ended" },
    { title: "State" },
    { title: "Found", right: true },
    { title: "Done", right: true },
    { title: "Why" },
  ] as const;
  return table(
    io,
    columns,
    list.map((one) => [
      one.operation,
      one.verb,
      oneLine(one.target ?? whatOf(one), 60),
      oneLine(one.by, 60),
      clock(one.begunAt, now),
      one.endedAt === undefined ? "-" : clock(one.endedAt, now),
      { text: one.state, colour: one.state === "interrupted" ? "red" : undefined },
      grouped(one.found),
      grouped(one.done),
      oneLine(one.reason ?? "", 80),
    ]),
  );
}

function whatOf({ arguments: given }: Operation): string {
  return String(given.message ?? given.key ?? given.group ?? given.list ?? "all");
}

function numberOf(line: Line): string {
  const given = line.argument ?? "";
  if (/^\d{1,18}$/.test(given)) return given;
  throw new ConfigurationError(
    "PH_ARGUMENT_INVALID",
    `${quote(given)} is no number of an operation. See posthorn audit.`,
  );
}

const participles: Readonly<Record<string, string>> = {
  purge: "purged",
  redrive: "redriven",
  discard: "discarded",
  replay: "replayed",
  erase: "erased",
  remove: "removed",
};

export async function continueOne(line: Line, io: Io): Promise<number> {
  const id = numberOf(line);
  const ended = await withDatabase(line, async (database) => {
    const { busy: _busy, ...begun } = await proceed(database, id, 1);
    const done = participles[begun.verb] ?? begun.verb;
    return driven(database, begun, line, io, { done, perSecond: rateOf(line) });
  });
  const done = participles[ended.verb] ?? ended.verb;
  if (flag(line, "json")) io.out(`${JSON.stringify(ended)}\n`);
  else io.out(`${done}: ${plural(ended.done, "message")} in all; ${ended.state}\n`);
  return 0;
}

export async function stopOne(line: Line, io: Io): Promise<number> {
  const id = numberOf(line);
  const stopped = await withDatabase(line, (database) => stopOperation(database, id));
  if (flag(line, "json")) io.out(`${JSON.stringify({ operation: id, stopped })}\n`);
  else
    io.out(
      stopped ? `Operation ${id} ends where it is; what is done stays done.\n` : `Operation ${id} does not run.\n`,
    );
  return stopped ? 0 : 1;
}
