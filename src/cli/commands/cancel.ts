/** `posthorn cancel`: takes a command back, or asks its running handler to stop. */
import { cancelMessage } from "../../store/cancel.js";
import { why } from "../../store/why.js";
import type { Io } from "../io.js";
import { withDatabase } from "../open.js";
import { operator } from "../operator.js";
import { flag, type Line } from "../parse.js";
import { sentenceOf } from "../sentences.js";
import { checkId } from "./why.js";

export async function cancel(line: Line, io: Io): Promise<number> {
  const id = checkId(line.argument);
  const { answer, facts } = await withDatabase(line, async (database) => ({
    answer: await cancelMessage(database, id, operator()),
    facts: await why(database, id),
  }));
  const receiver = facts?.receivers[0];
  const sentence = facts === null || receiver === undefined ? "" : sentenceOf(facts, receiver);
  if (flag(line, "json")) io.out(`${JSON.stringify({ message: id, answer, state: receiver?.state ?? null })}\n`);
  else if (answer === "too-late") io.err(`Too late to cancel ${id}: ${sentence}\n`);
  else if (answer === "cancelled") io.out(`Cancelled ${id}.\n`);
  else io.out(`Asked ${id} to stop: its signal fires; it is cancelled if its run fails now.\n`);
  return answer === "too-late" ? 1 : 0;
}
