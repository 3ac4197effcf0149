/**
 * Words for what posthorn.why found: one sentence for one receiver of a message.
 *
 * It decides nothing about the state; it says what follows from the facts, and says no more than they hold.
 */
import { clause } from "../core/words.js";
import { rateInWords } from "../policies/describe.js";
import type { MessageFacts, ReceiverFacts, WorkerFacts } from "../store/why.js";
import { countedUpTo } from "../store/why.js";
import { oneLine } from "./io.js";
import {
  about,
  clock,
  errorInWords,
  grouped,
  newestAnswerAt,
  numberInWords,
  ordinal,
  plural,
  workersHave,
} from "./words.js";

/** For an event that nobody subscribes to. */
export function withoutReceivers({ channel, contract }: MessageFacts): string {
  return `nobody subscribes to '${channel}', so nobody gets this ${contract}`;
}

export function sentenceOf(message: MessageFacts, receiver: ReceiverFacts): string {
  switch (receiver.state) {
    case null:
      return `'${receiver.subscription}' began ${on(message, receiver.at)}, after this event was published, and does not get it`;
    case "queued":
      return `${queued(message, receiver)}${stepsDone(receiver)}${tooLate(message, receiver)}`;
    case "scheduled":
      return `${scheduled(message, receiver)}${tooLate(message, receiver)}`;
    case "expired":
      return expired(message, receiver);
    case "retrying":
      return `${retrying(message, receiver)}${stepsDone(receiver)}${othersWait(receiver)}${tooLate(message, receiver)}`;
    case "parked":
      return parked(message, receiver);
    case "running":
      return `${running(message, receiver)}${stepsDone(receiver)}`;
    case "succeeded":
      return succeeded(message, receiver);
    case "dead":
      return `${dead(message, receiver)}${stepsDone(receiver)}${othersWait(receiver)}`;
    case "invalid":
      return `${invalid(message, receiver)}${othersWait(receiver)}`;
    case "cancelled":
      return `cancelled ${on(message, receiver.at)} by ${oneLine(receiver.by ?? "nobody known")}, ${oneLine(receiver.reason ?? "")}`;
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
  const again = lastEntry?.outcome === "replayed";
  const since =
    again || redriven
      ? `${lastEntry.outcome} ${on(message, lastEntry.endedAt)} by ${oneLine(lastEntry.by ?? "somebody")}; `
      : "";
  const obstacle = obstacleOf(message, receiver);
  if (obstacle !== undefined) return `${since}${obstacle}`;
  const limit = limitOf(message, receiver);
  if (limit !== undefined) return `${since}${limit}`;
  const returned = delivery > 1 && !redriven && !again ? "was handed back and waits" : "waits";
  return `${since}${returned} for its turn in '${subscription}': ${turn(receiver)}`;
}

/** Which limit of the fleet it waits for; undefined when none keeps it back. */
function limitOf(message: MessageFacts, receiver: ReceiverFacts): string | undefined {
  const { subscription, limits, reason, dueAt } = receiver;
  if (limits === undefined) return undefined;
  const { rateLimit, keyRateLimit, fleetConcurrency, keyConcurrency, permits, running = 0 } = limits;
  if (reason === "throttled") {
    const rate = keyRateLimit && `no faster than ${rateInWords(keyRateLimit)} for one key`;
    const atOnce = keyConcurrency && `no more than ${grouped(keyConcurrency)} at once for one key`;
    const what = [rate, atOnce].filter((one) => one !== undefined).join(" and ");
    return `waits for its key: messages of '${subscription}' begin ${what}; its turn is ${on(message, dueAt)}`;
  }
  if (rateLimit !== undefined && (permits ?? 1) <= 0) {
    const perSecond = (rateLimit.messages / rateLimit.perMs) * 1_000;
    return `waits for a permit of the rate limit of '${subscription}', ${rateInWords(rateLimit)}: ${turn({ ...receiver, perSecond })}`;
  }
  if (fleetConcurrency !== undefined && running >= fleetConcurrency) {
    const which = fleetConcurrency === 1 ? "the one" : `one of the ${grouped(fleetConcurrency)}`;
    return `waits for ${which} that may run at once of '${subscription}' in the whole fleet: ${turn(receiver)}`;
  }
  return undefined;
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
  const { attended, subscription, delivery = 1, paused } = receiver;
  if (paused !== undefined) {
    const why = paused.reason === undefined ? "" : `: ${oneLine(paused.reason, 160)}`;
    return `'${subscription}' is paused since ${clock(paused.at, message.now)} by ${oneLine(paused.by, 80)}${why}`;
  }
  if (attended.workers === 0) {
    const { lastSign } = attended;
    if (lastSign === null) return `no worker has ever worked on '${subscription}'`;
    return `no worker works on '${subscription}'; the last was seen ${on(message, lastSign)}`;
  }
  const able = attended.versions.some(({ version }) => version === message.version);
  if (able || (message.kind === "event" && delivery === 1)) return circuitOf(message, receiver);
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

/** It waits still, and nobody has looked at it since its time was over. */
function tooLate(message: MessageFacts, { expiresAt }: ReceiverFacts): string {
  if (expiresAt === undefined || Date.parse(expiresAt) > Date.parse(message.now)) return "";
  return `; its time was over ${on(message, expiresAt)}, so it will not run`;
}

/** "the circuit of 'email' is open since 14:02:10 after 5 failures; next probe at 14:03:10"; undefined while it is closed. */
function circuitOf(message: MessageFacts, { circuit, subscription, relay }: ReceiverFacts): string | undefined {
  if (circuit === undefined || circuit.state === "closed") return undefined;
  const { openedAt, failures, reason, probeAt, probes = 0, state } = circuit;
  const newestAt = newestAnswerAt(circuit);
  const since = openedAt === undefined ? "now" : clock(openedAt, message.now);
  // What a relay says of its broker may be a sentence.
  const who = relay === undefined ? "a handler" : "the relay";
  const words = reason === undefined ? "" : clause(oneLine(reason, 160));
  const said = reason === undefined || newestAt !== undefined ? "" : `, as ${who} said: ${words}`;
  const cause = failures === undefined ? said : ` after ${plural(failures, "failure")}${said}`;
  const failed = probes === 0 ? "" : `, ${plural(probes, "probe")} failed since`;
  const tried = newestAt === undefined ? failed : `${failed}, the newest answer ${on(message, newestAt)}: ${words}`;
  const next = state === "half-open" ? `one message is tried since ${on(message, probeAt).slice(3)}` : nextProbe();
  return `the circuit of '${subscription}' is open since ${since}${cause}${tried}; ${next}`;

  function nextProbe(): string {
    const due = probeAt !== undefined && Date.parse(probeAt) <= Date.parse(message.now);
    return due ? "the next message that a worker takes is tried" : `next probe ${on(message, probeAt)}`;
  }
}

/**
 * "put off by the handler until 14:05:10, for the third time: the answer 429 …". Of a relay: "put off by the relay 'partners' until 14:05:10: the broker is
 * away, kafka …"; what a relay notes names its broker.
 */
function postponed(message: MessageFacts, receiver: ReceiverFacts, due: boolean): string {
  const { dueAt, lastEntry, subscription, relay } = receiver;
  const { note, times = 1 } = lastEntry ?? {};
  const by = relay === undefined ? "the handler" : `the relay '${subscription}'`;
  const until = `put off by ${by} until ${on(message, dueAt).slice(3)}`;
  const often = times === 1 ? "" : `, for the ${ordinal(times)} time`;
  const why = note === undefined ? "" : `: ${oneLine(note, 160)}`;
  if (!due) return `${until}${often}${why}`;
  const waits = obstacleOf(message, receiver) ?? `waits for a free slot in '${subscription}': ${turn(receiver)}`;
  return `was ${until}${often}${why}; ${waits}`;
}

function retrying(message: MessageFacts, receiver: ReceiverFacts): string {
  const { attempts = 0, dueAt, reason, error, crashes = 0 } = receiver;
  const which = ordinal(attempts + 1);
  const due = dueAt !== undefined && Date.parse(dueAt) <= Date.parse(message.now);
  if (reason === "postponed") return postponed(message, receiver, due);
  const cause =
    reason === "crashed"
      ? `because ${crashes > 1 ? `${numberInWords(crashes)} workers` : "a worker"} died under it`
      : `after ${error === undefined ? "a failure" : errorInWords(error)}`;
  if (!due) return `${which} attempt ${on(message, dueAt)}, ${cause}`;
  const waits =
    obstacleOf(message, receiver) ??
    limitOf(message, receiver) ??
    `waits for a free slot in '${receiver.subscription}': ${turn(receiver)}`;
  return `${which} attempt is due since ${dueAt === undefined ? "now" : clock(dueAt, message.now)}, ${cause}; ${waits}`;
}

/** "; 2 steps are done, the last 'charge'" */
function stepsDone({ steps }: ReceiverFacts): string {
  if (steps === undefined || steps === null) return "";
  return `; ${plural(steps.done, "step")} ${steps.done === 1 ? "is" : "are"} done, the last '${oneLine(steps.last)}'`;
}

/** "; 37 others of key 'A1' wait behind it" */
function othersWait({ order }: ReceiverFacts): string {
  if (order === undefined || order.behind === 0 || order.ahead > 0) return "";
  const others = order.behind === 1 ? "1 other" : `${grouped(order.behind)} others`;
  return `; ${others} of key '${oneLine(order.key)}' ${order.behind === 1 ? "waits" : "wait"} behind it`;
}

function parked(message: MessageFacts, { order, subscription }: ReceiverFacts): string {
  if (order === undefined) return `waits in '${subscription}' behind another message of its key`;
  const { key, ahead, first } = order;
  const behind = `waits behind ${plural(ahead, "message")} of key '${oneLine(key)}' in '${subscription}'`;
  const tell = `see \`posthorn why ${first.message}\``;
  switch (first.state) {
    case "dead":
    case "invalid":
      return `${behind}, the first of which is ${first.state} and lies in the way; ${tell}`;
    case "running":
      return `${behind}, the first of which runs now`;
    case "retrying":
      return `${behind}, the first of which is tried again ${on(message, first.dueAt ?? undefined)}; ${tell}`;
    default:
      return `${behind}, the first of which is ${first.state}`;
  }
}

function running(message: MessageFacts, receiver: ReceiverFacts): string {
  const { attempts = 0, at, worker } = receiver;
  const which = `${ordinal(attempts + 1)} attempt`;
  if (worker === undefined || worker === null)
    return `${which} began ${on(message, at)} on a worker that has just left`;
  if (worker.dead) {
    return `its worker died in the ${which}, which began ${on(message, at)}: ${nameOf(worker)}, ${worker.dead}; the next worker that looks frees it`;
  }
  return `runs since ${at === undefined ? "now" : clock(at, message.now)} on ${nameOf(worker)}, ${which}${told(message, receiver)}`;
}

/** ", 40 % done; asked to stop at 14:05:10 by shop". */
function told(message: MessageFacts, { progress, cancelRequestedAt, cancelRequestedBy }: ReceiverFacts): string {
  const far = typeof progress === "number" ? `, ${Math.floor(progress * 100)} % done` : "";
  const said = progress === undefined || far !== "" ? far : `, says ${oneLine(JSON.stringify(progress), 120)}`;
  if (cancelRequestedAt === undefined) return said;
  return `${said}; asked to stop ${on(message, cancelRequestedAt)} by ${oneLine(cancelRequestedBy ?? "somebody")}`;
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
  if (reason?.startsWith("rejected: ")) return `${since}, ${oneLine(reason, 160)}; ${again}`;
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
