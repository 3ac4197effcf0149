/**
 * Words for what posthorn.why found: one sentence for one receiver of a message.
 *
 * It decides nothing about the state; it says what follows from the facts, and says no more than they hold.
 */
import type { MessageFacts, ReceiverFacts, WorkerFacts } from "../store/why.js";
import { countedUpTo } from "../store/why.js";
import { oneLine } from "./io.js";
import { about, clock, errorInWords, grouped, numberInWords, ordinal, plural, workersHave } from "./words.js";

/** For an event that nobody subscribes to. */
export function withoutReceivers({ channel, contract }: MessageFacts): string {
  return `nobody subscribes to '${channel}', so nobody gets this ${contract}`;
}

export function sentenceOf(message: MessageFacts, receiver: ReceiverFacts): string {
  switch (receiver.state) {
    case null:
      return `'${receiver.subscription}' began ${on(message, receiver.at)}, after this event was published, and does not get it`;
    case "queued":
      return queued(message, receiver);
    case "scheduled":
      return scheduled(message, receiver);
    case "expired":
      return expired(message, receiver);
    case "retrying":
      return retrying(message, receiver);
    case "running":
      return running(message, receiver);
    case "succeeded":
      return succeeded(message, receiver);
    case "dead":
      return dead(message, receiver);
    case "invalid":
      return invalid(message, receiver);
    case "discarded":
      return `discarded ${on(message, receiver.at)} by ${oneLine(receiver.by ?? "nobody known")}: ${oneLine(receiver.reason ?? "")}`;
    default:
      return receiver.state;
  }
}

/** "at 14:05:10", "on 2025-11-03 at …" is not needed: the date stands before the time. */
function on({ now }: MessageFacts, iso: string | undefined): string {
  return iso === undefined ? "at an unknown time" : `at ${clock(iso, now)}`;
}

function queued(message: MessageFacts, receiver: ReceiverFacts): string {
  const { lastEntry, delivery = 1, subscription } = receiver;
  const redriven = lastEntry?.outcome === "redriven";
  const since = redriven
    ? `redriven ${on(message, lastEntry.endedAt)} by ${oneLine(lastEntry.by ?? "somebody")}; `
    : "";
  const obstacle = obstacleOf(message, receiver);
  if (obstacle !== undefined) return `${since}${obstacle}`;
  const returned = delivery > 1 && !redriven ? "was handed back and waits" : "waits";
  return `${since}${returned} for its turn in '${subscription}': ${turn(receiver)}`;
}

/** "1,204 before it, about 40 s". */
function turn({ before = 0, perSecond }: ReceiverFacts): string {
  if (before === 0) return "none before it";
  if (before > countedUpTo) return `more than ${grouped(countedUpTo)} before it`;
  const estimate =
    perSecond === undefined || perSecond === null || perSecond <= 0 ? "" : `, ${about(before / perSecond)}`;
  return `${grouped(before)} before it${estimate}`;
}

/** Why nobody can take it; undefined when somebody can. An event without a handler is passed over when its turn comes. */
function obstacleOf(message: MessageFacts, receiver: ReceiverFacts): string | undefined {
  const { attended, subscription, delivery = 1 } = receiver;
  if (attended.workers === 0) {
    const { lastSign } = attended;
    if (lastSign === null) return `no worker has ever worked on '${subscription}'`;
    return `no worker works on '${subscription}'; the last was seen ${on(message, lastSign)}`;
  }
  const able = attended.versions.some(({ version }) => version === message.version);
  if (able || (message.kind === "event" && delivery === 1)) return undefined;
  const others = attended.versions.map(({ version, workers }) => `${workersHave(workers)} version ${version}`);
  const rest =
    others.length > 0
      ? others.join(", ")
      : `${workersHave(attended.workers)} handlers for other messages of '${subscription}'`;
  return `no worker has a handler for ${message.contract} version ${message.version}; ${rest}`;
}

function scheduled(message: MessageFacts, receiver: ReceiverFacts): string {
  const { behind, dueAt, subscription } = receiver;
  if (behind !== undefined) return `runs once more when ${behind}, which asked for the same and runs now, has ended`;
  const since = `scheduled for ${dueAt === undefined ? "an unknown time" : clock(dueAt, message.now)}`;
  if (dueAt === undefined || Date.parse(dueAt) > Date.parse(message.now)) return since;
  return `${since}, and due; ${obstacleOf(message, receiver) ?? `waits for a free slot in '${subscription}': ${turn(receiver)}`}`;
}

function expired(message: MessageFacts, { at, delivery = 1 }: ReceiverFacts): string {
  const run = delivery === 1 ? "no run had begun in time" : `its ${ordinal(delivery)} delivery had not begun in time`;
  return `expired ${on(message, at)}: ${run}, and none will`;
}

function retrying(message: MessageFacts, receiver: ReceiverFacts): string {
  const { attempts = 0, dueAt, reason, error, crashes = 0 } = receiver;
  const which = ordinal(attempts + 1);
  const due = dueAt !== undefined && Date.parse(dueAt) <= Date.parse(message.now);
  const cause =
    reason === "crashed"
      ? `because ${crashes > 1 ? `${numberInWords(crashes)} workers` : "a worker"} died under it`
      : `after ${error === undefined ? "a failure" : errorInWords(error)}`;
  if (!due) return `${which} attempt ${on(message, dueAt)}, ${cause}`;
  const waits =
    obstacleOf(message, receiver) ?? `waits for a free slot in '${receiver.subscription}': ${turn(receiver)}`;
  return `${which} attempt is due since ${dueAt === undefined ? "now" : clock(dueAt, message.now)}, ${cause}; ${waits}`;
}

function running(message: MessageFacts, receiver: ReceiverFacts): string {
  const { attempts = 0, at, worker } = receiver;
  const which = `${ordinal(attempts + 1)} attempt`;
  if (worker === undefined || worker === null)
    return `${which} began ${on(message, at)} on a worker that has just left`;
  if (worker.dead) {
    return `its worker died in the ${which}, which began ${on(message, at)}: ${nameOf(worker)}, ${worker.dead}; the next worker that looks frees it`;
  }
  return `runs since ${at === undefined ? "now" : clock(at, message.now)} on ${nameOf(worker)}, ${which}`;
}

function nameOf({ id, service, host, pid }: WorkerFacts): string {
  return `worker ${id} (${service}, pid ${pid} on ${oneLine(host, 60)})`;
}

function succeeded(message: MessageFacts, { reason, at, delivery = 1, subscription }: ReceiverFacts): string {
  if (reason === "skipped") {
    return `skipped ${on(message, at)}: no worker on '${subscription}' had a handler for ${message.contract}`;
  }
  return `succeeded ${on(message, at)}, ${delivery === 1 ? "at the first attempt" : `at its ${ordinal(delivery)} delivery`}`;
}

function dead(message: MessageFacts, receiver: ReceiverFacts): string {
  const { at, reason, attempts, crashes = 0, error } = receiver;
  if (attempts === undefined) {
    return `ended ${on(message, at)} (${reason}); what was kept about it has passed its time and is gone, so it cannot be redriven`;
  }
  const since = `dead since ${at === undefined ? "an unknown time" : clock(at, message.now)}`;
  const again = `redrive it with \`${redriveOf("dead-letters", message, receiver)}\``;
  if (reason === "outcome unknown") {
    return `${since}: its worker died in the only attempt, and whether it took effect is unknown; if it did not, ${again}`;
  }
  if (reason === "killed its workers") return `${since}: ${plural(crashes, "worker")} died under it; ${again}`;
  const last = error === undefined ? "" : `: ${errorInWords(error)}`;
  return `${since} after ${plural(attempts, "attempt")}${last}; ${again}`;
}

function invalid(message: MessageFacts, receiver: ReceiverFacts): string {
  const { at, issues = [] } = receiver;
  const [first] = issues;
  const issue =
    first === undefined ? "" : `: ${oneLine(first.path === "" ? first.message : `${first.path}: ${first.message}`)}`;
  const more = issues.length > 1 ? ` (and ${issues.length - 1} more)` : "";
  const since = at === undefined ? "an unknown time" : clock(at, message.now);
  return `invalid since ${since}, it does not fit its schema${issue}${more}; after a fix, redrive it with \`${redriveOf("invalid", message, receiver)}\``;
}

/** Of an event, only for the one receiver. */
function redriveOf(list: string, message: MessageFacts, receiver: ReceiverFacts): string {
  const only = message.receivers.length > 1 ? ` --subscription ${receiver.subscription}` : "";
  return `posthorn ${list} redrive ${message.message}${only}`;
}
