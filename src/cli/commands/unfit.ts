/** `posthorn invalid` for what intakes took in and no contract fits: list, show, redrive, discard. Its ids are no ids of messages: `in-42`. */

import type { Executor } from "../../core/database.js";
import { ConfigurationError, UnknownMessageError } from "../../core/errors.js";
import {
  countUnfit,
  discardUnfit,
  redriveUnfit,
  type UnfitEntry,
  type UnfitFilter,
  unfitEntries,
} from "../../store/intakes.js";
import { type Io, oneLine, paint, table } from "../io.js";
import { refuseUnknownIntake } from "../names.js";
import { reading, withDatabase } from "../open.js";
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
  await refuseUnknownIntake(executor, name, (reader) => `Name it with --queue or --subscription: ${reader}.`);
  return { intake: name };
}

/** An option that is passed over would have more redriven or discarded than was asked for, or faster. */
function refuseNames(line: Line): void {
  const given = Object.keys(refused).find((option) => line.options.has(option));
  if (given === undefined) return;
  throw new ConfigurationError(
    "PH_ARGUMENT_INVALID",
    `--${given} does not go with ${text(line, "intake") === undefined ? "an entry of an intake" : "--intake"}: ${refused[given]}. Leave it out, or take entries one by one by their id, in-<number>. Nothing was changed.`,
  );
}

const refused: Readonly<Record<string, string>> = {
  queue: "what fits nothing has no queue",
  subscription: "what fits nothing has no subscription",
  contract: "what fits nothing has no contract",
  group: "what fits nothing has not failed in a handler",
  rate: "its entries are read again at a pace of their own, and removed at once",
};

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
      oneLine(`${stateOf(entry)}${entry.reason}`, 100),
    ]),
  );
}

function stateOf({ redriveAt, takenIn }: UnfitEntry): string {
  if (redriveAt !== null) return "(to be read again) ";
  return takenIn ? "(taken in since) " : "";
}

export async function showUnfit(line: Line, io: Io): Promise<number> {
  const entry = await reading(line, async (database) => {
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
    ...(entry.takenIn ? [["Taken in", "a message of this id has been taken in since: discard this one"]] : []),
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

export interface UnfitChange {
  readonly verb: "redrive" | "discard";
  readonly act: (executor: Executor, filter: UnfitFilter) => Promise<number>;
}

/** What was done. */
interface Changed {
  readonly count: number;
  /** Of what is redriven: those of which a message of the same identity was taken in, and which end as its duplicates. */
  readonly takenIn: number;
  /** Of what is redriven: those of intakes that nobody runs. */
  readonly unrun: number;
}

export const redrivingUnfit: UnfitChange = {
  verb: "redrive",
  act: (executor, filter) => redriveUnfit(executor, filter, operator()),
};

export function discardingUnfit(reason: string): UnfitChange {
  return { verb: "discard", act: (executor, filter) => discardUnfit(executor, filter, operator(), reason) };
}

export async function changeUnfit(
  executor: Executor,
  filter: UnfitFilter,
  { verb, act }: UnfitChange,
): Promise<Changed> {
  // Counted before: afterwards they may be gone.
  const among = async (which: UnfitFilter): Promise<number> =>
    verb === "redrive" ? (await countUnfit(executor, { ...filter, ...which })).count : 0;
  const [takenIn, unrun] = [await among({ takenIn: true }), await among({ unrun: true })];
  return { count: await act(executor, filter), takenIn, unrun };
}

export function changedAsJson({ verb }: UnfitChange, { count, takenIn }: Changed): object {
  return verb === "redrive" ? { redriven: count, takenIn } : { discarded: count };
}

export function changedInWords({ verb }: UnfitChange, changed: Changed, what = ""): string {
  const { count, takenIn } = changed;
  if (verb === "discard") return `discarded: ${plural(count, "invalid message", "invalid messages")}${what}\n`;
  const line = `redriven: ${plural(count, "invalid message", "invalid messages")}${what}${then(changed)}\n`;
  if (takenIn === 0) return line;
  const end = takenIn === 1 ? "it ends as a duplicate and is" : "they end as duplicates and are";
  return `${line}Of ${grouped(takenIn)} of them a message of the same id has been taken in since: ${end} not written again.\n`;
}

/** Also a paused intake reads again; one that no process runs does not. */
function then({ count, unrun }: Changed): string {
  if (count === 0) return "";
  if (unrun >= count) return "; no process runs the intake: they are read again once one does";
  const those = unrun === 0 ? "" : `, but for ${grouped(unrun)} of intakes that no process runs: these once one does`;
  return `; whoever runs the intake reads them again within a second${those}`;
}

/** For a line that is about intakes alone. */
export async function changeUnfitOf(line: Line, io: Io, change: UnfitChange): Promise<number> {
  const whole = flag(line, "all");
  const { verb } = change;
  if (whole === (line.argument !== undefined)) {
    throw new ConfigurationError(
      "PH_ARGUMENT_INVALID",
      `${verb} needs one id, or --intake <name> --all, and not both.`,
    );
  }
  const done = await withDatabase(line, async (database) => {
    if (!whole) {
      const changed = await changeUnfit(database, { ...(await filterOfIntake(database, line)), ...one(line) }, change);
      if (changed.count === 0) throw notListed(line, " Nothing was changed.");
      return changed;
    }
    const filter = await filterOfIntake(database, line);
    const { count, upto } = await countUnfit(database, filter);
    const what = `${verb} ${plural(count, "invalid message", "invalid messages")}`;
    if (upto === null || !(await confirmed(line, io, what, count))) return { count: 0, takenIn: 0, unrun: 0 };
    return changeUnfit(database, { ...filter, upto }, change);
  });
  io.out(flag(line, "json") ? `${JSON.stringify(changedAsJson(change, done))}\n` : changedInWords(change, done));
  return 0;
}

function one(line: Line): UnfitFilter {
  const id = shape.exec(line.argument ?? "")?.[1];
  return id === undefined ? {} : { id };
}

function notListed(line: Line, then = ""): UnknownMessageError {
  const id = line.argument ?? "";
  return new UnknownMessageError("PH_NOT_LISTED", `${id} is not among the invalid messages of an intake.${then}`, {
    id,
  });
}
