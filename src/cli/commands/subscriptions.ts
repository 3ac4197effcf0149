/** `posthorn subscriptions`: which there are, and removing one with what it has not read. */
import { beginRemove, type ListedSubscription, listSubscriptions, remaining } from "../../store/operations.js";
import { type Io, oneLine, table } from "../io.js";
import { refuseUnknown } from "../names.js";
import { reading, withDatabase } from "../open.js";
import { operator } from "../operator.js";
import { confirmed, driven } from "../ordering.js";
import { flag, type Line, text } from "../parse.js";
import { clock, grouped } from "../words.js";

export async function listReaders(line: Line, io: Io): Promise<number> {
  const list = await reading(line, listSubscriptions);
  if (flag(line, "json")) io.out(`${JSON.stringify({ subscriptions: list })}\n`);
  else io.out(list.length === 0 ? "No queue or subscription is known yet.\n" : readerTable(list, io));
  return 0;
}

function readerTable(list: readonly ListedSubscription[], io: Io): string {
  const now = new Date().toISOString();
  const columns = [
    { title: "Queue or subscription" },
    { title: "Reads" },
    { title: "Since" },
    { title: "Unread", right: true },
    { title: "Workers", right: true },
    { title: "Service" },
    { title: "" },
  ] as const;
  return table(
    io,
    columns,
    list.map(({ name, kind, channel, since, unread, workers, service, paused }) => [
      name,
      `${kind === "command" ? "queue" : "topic"} ${channel}`,
      clock(since, now),
      grouped(unread),
      workers === 0 ? { text: "none", colour: "yellow" } : grouped(workers),
      service ?? "-",
      paused === null
        ? ""
        : { text: `paused since ${clock(paused.at, now)} by ${oneLine(paused.by, 60)}`, colour: "yellow" },
    ]),
  );
}

export async function removeReader(line: Line, io: Io): Promise<number> {
  const name = line.argument ?? "";
  const ended = await withDatabase(line, async (database) => {
    await refuseUnknown(database, { subscription: name }, (intake) => `Remove it: posthorn intakes remove ${intake}.`);
    const { unread, waiting, parked, deadLetters, invalid } = await remaining(database, name);
    const parts = [
      `${grouped(unread)} unread`,
      `${grouped(waiting)} waiting`,
      `${grouped(parked)} parked`,
      `${grouped(deadLetters)} dead`,
      `${grouped(invalid)} invalid`,
    ];
    const count = unread + waiting + parked + deadLetters + invalid;
    if (!(await confirmed(line, io, `remove the subscription '${name}' with ${parts.join(", ")}`, count)))
      return undefined;
    const begun = await beginRemove(database, name, { by: operator(), reason: text(line, "reason") }, name);
    return driven(database, begun, line, io, { done: "removed" });
  });
  if (flag(line, "json"))
    io.out(
      `${JSON.stringify({ removed: ended === undefined ? null : name, messages: ended?.done, operation: ended?.operation })}\n`,
    );
  else if (ended === undefined) io.out("Nothing was removed.\n");
  else io.out(`removed: ${name}, with ${grouped(ended.done)} messages that it had not handled\n`);
  return 0;
}
