/** `posthorn purge`, `replay` and `erase`: what changes many messages of a queue, subscription or key. */
import { ConfigurationError } from "../../core/errors.js";
import { quote } from "../../core/show.js";
import {
  beginErase,
  beginPurge,
  beginReplay,
  erasable,
  type Operation,
  purgeable,
  replayable,
  type WaitingState,
} from "../../store/operations.js";
import type { Io } from "../io.js";
import { refuseUnknown } from "../names.js";
import { withDatabase } from "../open.js";
import { operator } from "../operator.js";
import { confirmed, driven, rateOf } from "../ordering.js";
import { flag, type Line, text, texts } from "../parse.js";
import { clock, grouped, plural } from "../words.js";

export const purgedStates = ["queued", "scheduled", "retrying", "parked"] as const satisfies readonly WaitingState[];

export async function purge(line: Line, io: Io): Promise<number> {
  const name = line.argument ?? "";
  const states = statesOf(line);
  const ended = await withDatabase(line, async (database) => {
    await refuseUnknown(
      database,
      { subscription: name },
      (intake) =>
        `Stop it: posthorn pause ${intake}; empty its list of what fitted nothing: posthorn invalid discard --intake ${intake} --all --reason <text>.`,
    );
    const count = await purgeable(database, name, states);
    const which = states.length === purgedStates.length ? "" : ` (${states.join(", ")})`;
    if (count === 0 || !(await confirmed(line, io, `purge ${plural(count, "message")} of '${name}'${which}`, count)))
      return undefined;
    const begun = await beginPurge(database, name, { by: operator(), reason: text(line, "reason") }, states, name);
    return driven(database, begun, line, io, { done: "purged" });
  });
  tell(line, io, "purged", ended);
  return 0;
}

function statesOf(line: Line): readonly WaitingState[] {
  const given = texts(line, "state");
  if (given.length === 0) return purgedStates;
  return given.map((state) => {
    const known = purgedStates.find((one) => one === state);
    if (known !== undefined) return known;
    throw new ConfigurationError(
      "PH_ARGUMENT_INVALID",
      `--state ${quote(state)} is none that waits. Known are: ${purgedStates.join(", ")}.`,
    );
  });
}

export async function replay(line: Line, io: Io): Promise<number> {
  const name = line.argument ?? "";
  const contract = text(line, "contract");
  const range = {
    from: timeOf(line, "from"),
    to: text(line, "to") === undefined ? undefined : timeOf(line, "to"),
    contract,
  };
  const ordered = { by: operator(), reason: text(line, "reason") };
  const ended = await withDatabase(line, async (database) => {
    await refuseUnknown(
      database,
      { subscription: name, ...(contract === undefined ? {} : { contract }) },
      (intake) =>
        `Replay what reads its events: posthorn replay <subscription>; have what fitted nothing read again: posthorn invalid redrive --intake ${intake} --all.`,
    );
    const { count } = await replayable(database, name, range);
    const now = new Date().toISOString();
    const until = range.to === undefined ? "now" : clock(range.to, now);
    const what = `replay what was handled of ${plural(count, "message")} that '${name}' reads, said from ${clock(range.from, now)} to ${until}`;
    const yes = await confirmed(line, io, what, count);
    if (!yes) return undefined;
    const begun = await beginReplay(database, name, range, ordered, name);
    return driven(database, begun, line, io, { done: "replayed", perSecond: rateOf(line) });
  });
  tell(line, io, "replayed", ended);
  if (ended?.passed !== undefined && !flag(line, "json")) {
    const { waiting, ended: others, unhandled } = ended.passed;
    const passed = [
      waiting > 0 && `${grouped(waiting)} wait or run`,
      others > 0 && `${grouped(others)} ended otherwise`,
      unhandled > 0 && `${grouped(unhandled)} have no handler`,
    ].filter((part) => typeof part === "string");
    if (passed.length > 0) io.out(`passed over: ${passed.join(", ")}\n`);
  }
  return 0;
}

/** A time with its date, as ISO 8601 writes it. */
function timeOf(line: Line, option: "from" | "to"): string {
  const given = text(line, option);
  const at = given !== undefined && /^\d{4}-\d\d-\d\d/.test(given) ? Date.parse(given) : Number.NaN;
  if (!Number.isNaN(at) && given !== undefined)
    return given.length > 23 || /[Zz]|[+-]\d\d:?\d\d$/.test(given) ? given : new Date(at).toISOString();
  throw new ConfigurationError(
    "PH_ARGUMENT_INVALID",
    `--${option} needs a time such as 2026-05-14T09:00:00Z${given === undefined ? "" : `, got ${quote(given)}`}.`,
  );
}

export async function erase(line: Line, io: Io): Promise<number> {
  const key = text(line, "key");
  if (key === undefined) {
    throw new ConfigurationError(
      "PH_ARGUMENT_INVALID",
      "erase needs --key <key>: the key that the messages were said with.",
    );
  }
  const which = { contract: text(line, "contract"), channel: text(line, "channel") };
  const ended = await withDatabase(line, async (database) => {
    const { contract } = which;
    await refuseUnknown(database, contract === undefined ? {} : { contract });
    const count = await erasable(database, key, which);
    if (
      !(await confirmed(line, io, `erase ${plural(count, "message")} of this key, with all that came of them`, count))
    )
      return undefined;
    const begun = await beginErase(database, key, which, { by: operator(), reason: text(line, "reason") }, key);
    return driven(database, begun, line, io, { done: "erased" });
  });
  tell(line, io, "erased", ended);
  return 0;
}

function tell(line: Line, io: Io, done: string, ended: Operation | undefined): void {
  const count = ended?.done ?? 0;
  if (flag(line, "json"))
    io.out(`${JSON.stringify({ [done]: count, operation: ended?.operation, passed: ended?.passed })}\n`);
  else io.out(`${done}: ${plural(count, "message")}\n`);
}
