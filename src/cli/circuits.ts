/** What is said of circuits that are open, in sentences. */
import type { CircuitFacts } from "../store/circuit.js";
import type { BacklogLine } from "../store/status.js";
import { oneLine } from "./io.js";
import { clock, grouped, newestAnswerAt, plural } from "./words.js";

/** With how many messages wait behind it; nothing while it is closed. */
export function circuitAndWaiting(line: BacklogLine): readonly string[] {
  const { name, circuit, backlog } = line;
  if (!isOpen(circuit)) return [];
  const waits = backlog === 1 ? "1 message waits" : `${grouped(backlog)} messages wait`;
  return [`${sinceInWords(name, circuit)}. ${waits}: posthorn waiting ${name}\n`];
}

/** With when it is tried; nothing while it is closed. */
export function circuitAndProbe({ name, circuit }: BacklogLine): readonly string[] {
  if (!isOpen(circuit)) return [];
  const { probeAt, state } = circuit;
  const at = probeAt === undefined ? "" : clock(probeAt, new Date().toISOString());
  const next = state === "open" ? `Nobody takes a message before ${at}.` : `One message is tried since ${at}.`;
  return [`${sinceInWords(name, circuit)}. ${next}\n`];
}

export function isOpen(circuit: CircuitFacts | null): circuit is CircuitFacts {
  return circuit !== null && circuit.state !== "closed";
}

function sinceInWords(name: string, circuit: CircuitFacts): string {
  const now = new Date().toISOString();
  const since = circuit.openedAt === undefined ? "" : ` since ${clock(circuit.openedAt, now)}`;
  return `The circuit of ${name} is open${since}${causeOf(circuit, now)}`;
}

/** What opened it; and what was said since, which may be something else. */
function causeOf(circuit: CircuitFacts, now: string): string {
  const { failures, reason } = circuit;
  const opened = failures === undefined ? "" : ` after ${plural(failures, "failure")}`;
  if (reason === undefined) return opened === "" ? " by its handler" : opened;
  // What a broker says may be a sentence.
  const said = oneLine(reason, 160).replace(/\.$/, "");
  const newestAt = newestAnswerAt(circuit);
  return newestAt === undefined
    ? `${opened}: ${said}`
    : `${opened}; the newest answer, at ${clock(newestAt, now)}: ${said}`;
}
