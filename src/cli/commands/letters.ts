/** `posthorn dead-letters` and `posthorn invalid`: list, show, redrive, discard. */
import type { Executor } from "../../core/database.js";
import { ConfigurationError, UnknownMessageError } from "../../core/errors.js";
import { quote } from "../../core/show.js";
import { countUnfit, type UnfitEntry, unfitEntries } from "../../store/intakes.js";
import {
  countLetters,
  discard,
  type Letter,
  type LetterFilter,
  type List,
  letters,
  redrive,
  type Touched,
} from "../../store/operate.js";
import { beginLetters } from "../../store/operations.js";
import { unknownMessage } from "../../store/segments.js";
import { why } from "../../store/why.js";
import { type Io, oneLine, paint, table } from "../io.js";
import { namesOf, refuseUnknown } from "../names.js";
import { reading, withDatabase } from "../open.js";
import { operator } from "../operator.js";
import { confirmed, driven, rateOf } from "../ordering.js";
import { flag, type Line, number, text } from "../parse.js";
import { sentenceOf } from "../sentences.js";
import { clock, errorInWords, grouped, plural } from "../words.js";
import {
  asJson,
  changedAsJson,
  changedInWords,
  changeUnfit,
  changeUnfitOf,
  discardingUnfit,
  filterOfIntake,
  isOfIntake,
  redrivingUnfit,
  showUnfit,
  type UnfitChange,
  unfitTable,
} from "./unfit.js";
import { checkId } from "./why.js";

const nouns: Readonly<Record<List, readonly [one: string, many: string]>> = {
  "dead-letters": ["dead letter", "dead letters"],
  invalid: ["invalid message", "invalid messages"],
};

/** One message has few receivers. */
const mostReceivers = 500;

export async function listLetters(list: List, line: Line, io: Io): Promise<number> {
  const filter = filterOf(list, line);
  const most = number(line, "limit");
  const { items, total, ofIntakes } = await reading(line, async (database) => {
    await refuseUnknown(database, filter);
    const found = isOfIntake(line) ? [] : await letters(database, filter, most);
    const count = isOfIntake(line) ? 0 : (await countLetters(database, filter)).count;
    return { items: found, total: count, ofIntakes: await listUnfit(list, line, database, most) };
  });
  if (flag(line, "json")) {
    const shown = items.map(({ payload: _payload, headers: _headers, history: _history, ...item }) => item);
    const taken = list === "invalid" ? { intakes: { total: ofIntakes.total, items: ofIntakes.items.map(asJson) } } : {};
    io.out(`${JSON.stringify({ total, items: shown, ...taken })}\n`);
    return 0;
  }
  const tables = [
    items.length === 0 ? "" : `${listTable(items, io)}${moreOf(list, items.length, total)}`,
    ofIntakes.items.length === 0
      ? ""
      : `${unfitTable(ofIntakes.items, io)}${moreOf(list, ofIntakes.items.length, ofIntakes.total)}`,
  ].filter((one) => one !== "");
  io.out(tables.length === 0 ? `No ${nouns[list][1]}.\n` : tables.join("\n"));
  return 0;
}

function moreOf(list: List, shown: number, total: number): string {
  if (total <= shown) return "";
  return `\nThe newest ${shown} of ${plural(total, ...nouns[list])}; --limit shows more.\n`;
}

/** What intakes took in and nothing fits: none where the line asks for a queue, subscription or contract. */
async function listUnfit(
  list: List,
  line: Line,
  executor: Executor,
  most: number,
): Promise<{ readonly items: readonly UnfitEntry[]; readonly total: number }> {
  if (!isOfIntake(line) && !coversIntakes(list, line)) return { items: [], total: 0 };
  const filter = await filterOfIntake(executor, line);
  return { items: await unfitEntries(executor, filter, most), total: (await countUnfit(executor, filter)).count };
}

/** Whether what a line means reaches to what intakes took in: it does unless something narrows it to what an entry of an intake does not have. */
function coversIntakes(list: List, line: Line): boolean {
  const { subscription, contract } = namesOf(line);
  return list === "invalid" && (subscription ?? contract ?? text(line, "group")) === undefined;
}

function listTable(items: readonly Letter[], io: Io): string {
  const now = new Date().toISOString();
  const columns = [
    { title: "Id" },
    { title: "Queue or subscription" },
    { title: "Contract" },
    { title: "Since" },
    { title: "Attempts", right: true },
    { title: "Why" },
  ] as const;
  return table(
    io,
    columns,
    items.map((item) => [
      item.message,
      item.subscription,
      item.contract,
      clock(item.at, now),
      item.attempts === undefined ? "-" : grouped(item.attempts),
      oneLine(causeOf(item), 100),
    ]),
  );
}

function causeOf({ reason, error, issues }: Letter): string {
  const [issue] = issues ?? [];
  if (issue !== undefined) return issue.path === "" ? issue.message : `${issue.path}: ${issue.message}`;
  if (error === null || reason === "outcome unknown" || reason === "killed its workers") return reason ?? "";
  return errorInWords(error);
}

export async function showLetter(list: List, line: Line, io: Io): Promise<number> {
  if (list === "invalid" && isOfIntake(line)) return showUnfit(line, io);
  const id = checkId(line.argument);
  const items = await reading(line, async (database) => {
    const found = await letters(database, { list, message: id }, 1_000, true);
    if (found.length === 0) throw await notListed(database, list, id);
    return found;
  });
  if (flag(line, "json")) io.out(`${JSON.stringify({ items })}\n`);
  else io.out(items.map((item) => shown(item, io)).join("\n"));
  return 0;
}

function shown(item: Letter, io: Io): string {
  const now = new Date().toISOString();
  const facts = [
    ["Id", item.message],
    ["Queue or subscription", item.subscription],
    ["Contract", `${item.contract} version ${item.version}`],
    ...(item.key === null ? [] : [["Key", oneLine(item.key)]]),
    ["Published", clock(item.publishedAt, now)],
    [item.issues === undefined ? "Dead since" : "Invalid since", clock(item.at, now)],
    ...(item.reason === undefined ? [] : [["Reason", oneLine(item.reason)]]),
    ...(item.attempts === undefined ? [] : [["Attempts", grouped(item.attempts)]]),
    ...(item.crashes ? [["Crashes", grouped(item.crashes)]] : []),
    ...(item.keptUntil === undefined ? [] : [["Kept until", clock(item.keptUntil, now)]]),
    ...(item.issues ?? []).map(({ path, message }) => [
      "Issue",
      oneLine(path === "" ? message : `${path}: ${message}`),
    ]),
  ];
  const wide = Math.max(...facts.map(([name = ""]) => name.length));
  const head = facts.map(([name = "", value]) => `${paint(io, "dim", name.padEnd(wide))}  ${value}\n`).join("");
  const history = (item.history ?? []).map(({ attempt, outcome, endedAt, worker, error }) => {
    const who =
      worker === undefined
        ? ""
        : ` on worker ${worker.id} (${worker.service}, pid ${worker.pid} on ${oneLine(worker.host, 60)})`;
    const what = error === undefined ? "" : `: ${errorInWords(error)}`;
    return `  ${endedAt === undefined ? "" : `${clock(endedAt, now)}  `}attempt ${attempt} ${outcome}${who}${what}\n`;
  });
  // JSON escapes what a terminal would obey, but for C1 controls.
  const json = (value: unknown): string => JSON.stringify(value, null, 2).replace(/[\u007f-\u009f]/g, "�");
  const headers = item.headers === null ? "" : `${paint(io, "dim", "Headers")}\n${json(item.headers)}\n`;
  return `${head}${paint(io, "dim", "History")}\n${history.join("")}${headers}${paint(io, "dim", "Payload")}\n${json(item.payload)}\n`;
}

export async function redriveLetters(list: List, line: Line, io: Io): Promise<number> {
  if (list === "invalid" && isOfIntake(line)) return changeUnfitOf(line, io, redrivingUnfit);
  return change(list, line, io, {
    verb: "redrive",
    done: "redriven",
    reason: undefined,
    page: (executor, filter, limit) => redrive(executor, filter, operator(), limit),
    unfit: redrivingUnfit,
  });
}

export async function discardLetters(list: List, line: Line, io: Io): Promise<number> {
  const reason = text(line, "reason");
  if (reason === undefined || reason.trim() === "" || reason.length > 500) {
    throw new ConfigurationError(
      "PH_ARGUMENT_INVALID",
      "discard needs --reason <text> of 1 to 500 letters: why these messages are not to be handled. It is kept with them.",
    );
  }
  if (list === "invalid" && isOfIntake(line)) return changeUnfitOf(line, io, discardingUnfit(reason));
  return change(list, line, io, {
    verb: "discard",
    done: "discarded",
    reason,
    page: (executor, filter, limit) => discard(executor, filter, operator(), reason, limit),
    unfit: discardingUnfit(reason),
  });
}

interface Change {
  readonly verb: "redrive" | "discard";
  readonly done: string;
  readonly reason: string | undefined;
  readonly page: (executor: Executor, filter: LetterFilter, limit: number) => Promise<readonly Touched[]>;
  /** The same for entries of intakes. */
  readonly unfit: UnfitChange;
}

async function change(list: List, line: Line, io: Io, act: Change): Promise<number> {
  const whole = flag(line, "all") || text(line, "group") !== undefined;
  if (whole === (line.argument !== undefined)) {
    throw new ConfigurationError("PH_ARGUMENT_INVALID", `${act.verb} needs one id, or --all or --group, and not both.`);
  }
  return whole ? changeAll(list, line, io, act) : changeOne(list, line, io, act);
}

async function changeOne(list: List, line: Line, io: Io, act: Change): Promise<number> {
  const id = checkId(line.argument);
  const done = await withDatabase(line, async (database) => {
    const filter = filterOf(list, line);
    await refuseUnknown(database, filter);
    const touched = await act.page(database, { ...filter, message: id }, mostReceivers);
    if (touched.length === 0) throw await notListed(database, list, id, " Nothing was changed.");
    return touched;
  });
  if (flag(line, "json")) io.out(`${JSON.stringify({ [act.done]: done.length, messages: done })}\n`);
  else io.out(done.map(({ message, subscription }) => `${act.done}: ${message} of '${subscription}'\n`).join(""));
  return 0;
}

async function changeAll(list: List, line: Line, io: Io, act: Change): Promise<number> {
  const group = text(line, "group");
  const filter = { ...filterOf(list, line), ...(group === undefined ? {} : { group }) };
  const { done, operation, ofIntakes } = await withDatabase(line, async (database) => {
    await refuseUnknown(database, filter);
    const { count } = await countLetters(database, filter);
    if (count === 0 && group !== undefined) throw noSuchGroup(list, group);
    const unfit = coversIntakes(list, line) ? await countUnfit(database, {}) : { count: 0, upto: null };
    const all = count + unfit.count;
    const mixed = count > 0 && unfit.count > 0 ? `, ${grouped(unfit.count)} of them of intakes` : "";
    const what = `${act.verb} ${plural(all, ...nouns[list])}${mixed}`;
    if (all === 0 || !(await confirmed(line, io, what, all))) return nothing;
    // These first: what follows takes its time, and is gone on with by its number where it is interrupted.
    const ofIntakes = unfit.upto === null ? none : await changeUnfit(database, { upto: unfit.upto }, act.unfit);
    if (count === 0) return { ...nothing, ofIntakes };
    const begun = await beginLetters(database, act.verb, filter, { by: operator(), reason: act.reason });
    const driving = { done: act.done, perSecond: rateOf(line) };
    return { ...(await driven(database, begun, line, io, driving)), ofIntakes };
  });
  if (flag(line, "json")) {
    const intakes = coversIntakes(list, line) ? { intakes: changedAsJson(act.unfit, ofIntakes) } : {};
    io.out(`${JSON.stringify({ [act.done]: done, operation, ...intakes })}\n`);
    return 0;
  }
  if (done > 0 || ofIntakes.count === 0) io.out(`${act.done}: ${plural(done, ...nouns[list])}\n`);
  if (ofIntakes.count > 0) io.out(changedInWords(act.unfit, ofIntakes, " of intakes"));
  return 0;
}

const none = { count: 0, takenIn: 0, unrun: 0 };
const nothing = { done: 0, operation: undefined, ofIntakes: none };

/** A fingerprint that is mistyped is not to look like a group that was dealt with. */
function noSuchGroup(list: List, group: string): Error {
  return new UnknownMessageError(
    "PH_NOT_LISTED",
    `No ${nouns[list][0]} died of an error of the group ${quote(group)}. Take the whole fingerprint as posthorn errors shows it. Nothing was changed.`,
    { group },
  );
}

/** Why there is nothing to do: the message is unknown, or what became of it instead. */
async function notListed(executor: Executor, list: List, id: string, then = ""): Promise<Error> {
  const facts = await why(executor, id);
  if (facts === null) return unknownMessage(executor, id);
  const states = facts.receivers.map((receiver) => `${receiver.subscription}: ${sentenceOf(facts, receiver)}`);
  return new UnknownMessageError(
    "PH_NOT_LISTED",
    `${id} is not among the ${nouns[list][1]}${states.length === 0 ? "" : `; ${states.join("; ")}`}.${then}`,
    { id },
  );
}

function filterOf(list: List, line: Line): LetterFilter {
  return { list, ...namesOf(line) };
}
