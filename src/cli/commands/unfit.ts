/** `posthorn invalid` for what intakes took in and no contract fits: list, show, redrive, discard. Its ids are no ids of messages: `in-42`. */

import type { Executor } from "../../core/database.js";
import { ConfigurationError, UnknownMessageError } from "../../core/errors.js";
import { quote } from "../../core/show.js";
import { suggestion } from "../../core/suggest.js";
import {
  countUnfit,
  discardUnfit,
  redriveUnfit,
  type UnfitEntry,
  type UnfitFilter,
  unfitEntries,
} from "../../store/intakes.js";
import { registered } from "../../store/operate.js";
import { type Io, oneLine, paint, table } from "../io.js";
import { withDatabase } from "../open.js";
import { operator } from "../operator.js";
import { confirmed } from "../ordering.js";
import { flag, type Line, text } from "../parse.js";
import { clock, grouped, plural } from "../words.js";

const shape = /^in-(\d{1,18})$/;

/** Whether a line is about an intake: it names one, or an entry of one. */
export function isOfIntake(line: Line): boolean {
  return text(line, "intake") !== undefined || shape.test(line.argument ?? "");
}

export function unfitId({ id }: UnfitEntry): string {
  return `in-${id}`;
}

/** Errors: `ConfigurationError`, also where the line narrows by what an entry of an intake does not have. */
export async function filterOfIntake(executor: Executor, line: Line): Promise<UnfitFilter> {
  if (isOfIntake(line)) refuseNames(line);
  const name = text(line, "intake");
  if (name === undefined) return {};
  const known = (await registered(executor)).intakes.map((one) => one.name);
  if (known.includes(name)) return { intake: name };
  throw new ConfigurationError("PH_ARGUMENT_INVALID", `No intake is called ${quote(name)}.${suggestion(name, known)}`, {
    name,
  });
}

/** An option that is passed over would have more redriven or discarded than was asked for. */
function refuseNames(line: Line): void {
  const given = ["queue", "subscription", "contract"].find((option) => text(line, option) !== undefined);
  if (given === undefined) return;
  throw new ConfigurationError(
    "PH_ARGUMENT_INVALID",
    `--${given} does not go with ${text(line, "intake") === undefined ? "an entry of an intake" : "--intake"}: what fits nothing has no ${given}. Leave it out, or take entries one by one by their id, in-<number>. Nothing was changed.`,
  );
}

export function unfitTable(entries: readonly UnfitEntry[], io: Io): string {
  const now = new Date().toISOString();
  const columns = [
    { title: "Id" },
    { title: "Intake" },
    { title: "Type" },
    { title: "Since" },
    { title: "Bytes", right: true },
    { title: "Why" },
  ] as const;
  return table(
    io,
    columns,
    entries.map((entry) => [
      unfitId(entry),
      entry.intake,
      oneLine(entry.type ?? "-", 60),
      clock(entry.foundAt, now),
      grouped(entry.bytes),
      oneLine(`${entry.redriveAt === null ? "" : "(to be read again) "}${entry.reason}`, 100),
    ]),
  );
}

export async function showUnfit(line: Line, io: Io): Promise<number> {
  const entry = await withDatabase(line, async (database) => {
    const [found] = await unfitEntries(database, one(line), 1, true);
    if (found === undefined) throw notListed(line);
    return found;
  });
  io.out(flag(line, "json") ? `${JSON.stringify({ items: [asJson(entry)] })}\n` : shown(entry, io));
  return 0;
}

/** The body as text where it is text, else as base64. */
export function asJson({ body, ...entry }: UnfitEntry): object {
  if (body === null) return { ...entry, id: `in-${entry.id}` };
  const bytes = Buffer.from(body, "base64");
  const read = textOf(bytes);
  return { ...entry, id: `in-${entry.id}`, ...(read === undefined ? { bodyBase64: body } : { body: read }) };
}

function textOf(bytes: Uint8Array): string | undefined {
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch {
    return undefined;
  }
}

function shown(entry: UnfitEntry, io: Io): string {
  const now = new Date().toISOString();
  const given = (name: string, value: string | null): readonly (readonly [string, string])[] =>
    value === null ? [] : [[name, oneLine(value)]];
  const facts = [
    ["Id", unfitId(entry)],
    ["Intake", entry.intake],
    ["Reason", oneLine(entry.reason, 2_000)],
    ...given("Type", entry.type),
    ...given("Source", entry.source),
    ["Invalid since", clock(entry.foundAt, now)],
    ...given("Event", entry.event),
    ...given("Key", entry.key),
    ...given("Broker's id", entry.brokerId),
    ...given("Position", entry.position),
    ...given("Content type", entry.contentType),
    ["Bytes", `${grouped(entry.bytes)}${entry.whole ? "" : ", of which not all is kept"}`],
    ...(entry.times > 1 ? [["Came", `${grouped(entry.times)} times`]] : []),
    ...(entry.redriveAt === null ? [] : [["Redriven", `${clock(entry.redriveAt, now)}, not read again yet`]]),
  ] as const;
  const wide = Math.max(...facts.map(([name]) => name?.length ?? 0));
  const head = facts.map(([name = "", value]) => `${paint(io, "dim", name.padEnd(wide))}  ${value}\n`).join("");
  const plain = (value: string): string =>
    value.replace(/\p{Cc}/gu, (one) => (one === "\n" || one === "\t" ? one : "\ufffd"));
  const bytes = Buffer.from(entry.body ?? "", "base64");
  const body = textOf(bytes);
  const headers = JSON.stringify(entry.headers ?? {}, null, 2);
  return `${head}${paint(io, "dim", "Headers")}\n${plain(headers)}\n${paint(io, "dim", body === undefined ? "Body, in base64" : "Body")}\n${body === undefined ? (entry.body ?? "") : plain(body)}\n`;
}

export async function redriveUnfitOf(line: Line, io: Io): Promise<number> {
  return change(line, io, "redrive", (executor, filter) => redriveUnfit(executor, filter, operator()));
}

export async function discardUnfitOf(line: Line, io: Io, reason: string): Promise<number> {
  return change(line, io, "discard", (executor, filter) => discardUnfit(executor, filter, operator(), reason));
}

async function change(
  line: Line,
  io: Io,
  verb: "redrive" | "discard",
  act: (executor: Executor, filter: UnfitFilter) => Promise<number>,
): Promise<number> {
  const whole = flag(line, "all");
  if (whole === (line.argument !== undefined)) {
    throw new ConfigurationError(
      "PH_ARGUMENT_INVALID",
      `${verb} needs one id, or --intake <name> --all, and not both.`,
    );
  }
  const count = await withDatabase(line, async (database) => {
    if (!whole) {
      const done = await act(database, { ...(await filterOfIntake(database, line)), ...one(line) });
      if (done === 0) throw notListed(line);
      return done;
    }
    const filter = await filterOfIntake(database, line);
    const { count: found, upto } = await countUnfit(database, filter);
    if (found === 0 || upto === null) return 0;
    const what = `${verb} ${plural(found, "invalid message", "invalid messages")}`;
    return (await confirmed(line, io, what, found)) ? act(database, { ...filter, upto }) : 0;
  });
  const done = verb === "redrive" ? "redriven" : "discarded";
  if (flag(line, "json")) io.out(`${JSON.stringify({ [done]: count })}\n`);
  else {
    const then = verb === "redrive" && count > 0 ? "; whoever runs the intake reads them again within a second" : "";
    io.out(`${done}: ${plural(count, "invalid message", "invalid messages")}${then}\n`);
  }
  return 0;
}

function one(line: Line): UnfitFilter {
  const id = shape.exec(line.argument ?? "")?.[1];
  return id === undefined ? {} : { id };
}

function notListed(line: Line): UnknownMessageError {
  const id = line.argument ?? "";
  return new UnknownMessageError(
    "PH_NOT_LISTED",
    `${id} is not among the invalid messages of an intake. Nothing was changed.`,
    {
      id,
    },
  );
}
