/** `posthorn why <id>`: one sentence for each receiver. */
import { ConfigurationError } from "../../core/errors.js";
import { quote } from "../../core/show.js";
import { unknownMessage } from "../../store/segments.js";
import { isPublicId } from "../../store/status.js";
import { type MessageFacts, why as read } from "../../store/why.js";
import { type Io, paint } from "../io.js";
import { reading } from "../open.js";
import { flag, type Line } from "../parse.js";
import { sentenceOf, withoutReceivers } from "../sentences.js";

/** Errors: `ConfigurationError` for what can be no id. */
export function checkId(given: string | undefined): string {
  if (isPublicId(given)) return given;
  const hint = /^in-\d+$/.test(given ?? "")
    ? `It is one of an invalid message of an intake, which was never written here: see posthorn invalid show ${given}.`
    : "Ids look like 42-00c0ffee00c0ffee.";
  throw new ConfigurationError("PH_ARGUMENT_INVALID", `${quote(given ?? "")} is not the id of a message. ${hint}`);
}

export async function why(line: Line, io: Io): Promise<number> {
  const id = checkId(line.argument);
  const facts = await reading(line, async (database) => {
    const found = await read(database, id);
    if (found === null) throw await unknownMessage(database, id);
    return found;
  });
  io.out(flag(line, "json") ? `${JSON.stringify(asJson(facts))}\n` : asText(facts, io));
  return 0;
}

function asText(facts: MessageFacts, io: Io): string {
  if (facts.receivers.length === 0) return `${withoutReceivers(facts)}\n`;
  const lines = facts.receivers.map((receiver) => {
    const sentence = sentenceOf(facts, receiver);
    return facts.kind === "event" ? `${paint(io, "bold", `${receiver.subscription}:`)} ${sentence}` : sentence;
  });
  return `${lines.join("\n")}\n`;
}

function asJson(facts: MessageFacts): object {
  const { receivers, ...message } = facts;
  return {
    ...message,
    sentence: receivers.length === 0 ? withoutReceivers(facts) : null,
    receivers: receivers.map((receiver) => ({ ...receiver, sentence: sentenceOf(facts, receiver) })),
  };
}
