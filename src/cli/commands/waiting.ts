/** `posthorn waiting <name>`: the oldest messages of a queue or subscription that have not ended, with their ids. */
import { ConfigurationError } from "../../core/errors.js";
import { quote } from "../../core/show.js";
import { durationInWords } from "../../core/words.js";
import {
  type UnendedState,
  unendedStates,
  type WaitingMessage,
  type WaitingMessages,
  waitingMessages,
} from "../../store/waiting.js";
import { type Io, oneLine, table } from "../io.js";
import { refuseUnknown } from "../names.js";
import { reading } from "../open.js";
import { flag, type Line, number, texts } from "../parse.js";
import { clock, errorInWords, grouped } from "../words.js";

export async function waiting(line: Line, io: Io): Promise<number> {
  const name = line.argument ?? "";
  const [states, limit] = [statesOf(line), number(line, "limit")];
  const found = await reading(line, async (database) => {
    await refuseUnknown(database, { subscription: name });
    return waitingMessages(database, name, limit, states);
  });
  io.out(flag(line, "json") ? `${JSON.stringify(found)}\n` : asText(found, states, limit, io));
  return 0;
}

function statesOf(line: Line): readonly UnendedState[] | undefined {
  const given = texts(line, "state");
  if (given.length === 0) return undefined;
  return given.map((state) => {
    const known = unendedStates.find((one) => one === state);
    if (known !== undefined) return known;
    throw new ConfigurationError(
      "PH_ARGUMENT_INVALID",
      `--state ${quote(state)} is none of a message that has not ended. Known are: ${unendedStates.join(", ")}.`,
    );
  });
}

const columns = [
  { title: "Id" },
  { title: "Contract" },
  { title: "Key" },
  { title: "State" },
  { title: "Waits" },
  { title: "Attempts", right: true },
  { title: "When" },
  { title: "Why" },
] as const;

function asText(found: WaitingMessages, states: readonly UnendedState[] | undefined, limit: number, io: Io): string {
  const { name, now, more, messages } = found;
  if (messages.length === 0 && !more) {
    const which = states === undefined ? "" : ` that is ${states.join(" or ")}`;
    const later = states === undefined ? " What is scheduled for later is shown with --state scheduled." : "";
    return `Nothing of '${name}'${which} waits or runs.${later}\n`;
  }
  const rows = messages.map((one) => rowOf(one, now));
  return `${rows.length === 0 ? "" : table(io, columns, rows)}${moreInWords(rows.length, limit, more)}`;
}

function rowOf(one: WaitingMessage, now: string): readonly string[] {
  const { message, contract, key, state, since, attempts } = one;
  return [
    message,
    oneLine(contract, 60),
    key === undefined ? "-" : oneLine(key, 40),
    state,
    durationInWords(Math.max(0, Date.parse(now) - Date.parse(since))),
    grouped(attempts),
    whenOf(one, now),
    whyOf(one),
  ];
}

function whenOf({ state, dueAt, at }: WaitingMessage, now: string): string {
  if (state === "running") return at === undefined ? "" : `since ${clock(at, now)}`;
  return dueAt === undefined ? "" : `at ${clock(dueAt, now)}`;
}

/** What its last run said. Of one that runs, where it does. */
function whyOf({ state, worker, error, note }: WaitingMessage): string {
  if (state === "running" && worker !== undefined)
    return `worker ${worker.id} (${oneLine(worker.service, 60)}, pid ${worker.pid} on ${oneLine(worker.host, 60)})`;
  if (note !== undefined) return oneLine(note, 160);
  return error === undefined ? "" : errorInWords(error);
}

function moreInWords(shown: number, limit: number, more: boolean): string {
  const ask = "Why one of them is not done: posthorn why <id>";
  if (!more) return `\nThese are all. ${ask}\n`;
  if (shown === limit) return `\nThe oldest ${grouped(shown)}; --limit shows more. ${ask}\n`;
  return `${shown === 0 ? "" : "\n"}There may be more: of what waits outside of the log not all was looked at. --state looks for others.\n`;
}
