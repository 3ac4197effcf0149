/** What is sent when a schedule is due: pure. Which of several workers sends it is decided in SQL. */
import { createHash } from "node:crypto";
import { limits } from "../core/limits.js";
import type { Times } from "./times.js";

export type Missed = "skip" | "once" | "all";

/** The time of a schedule that comes next, and how its times are spread. */
export interface Waiting {
  readonly name: string;
  readonly missed: Missed;
  readonly jitterMs: number;
  /** As the database has it: it stays the next one even where this process would compute another. */
  readonly nextAt: number;
}

export interface Due {
  /** Times whose commands are sent now, oldest first. */
  readonly send: readonly number[];
  /** The time that comes next after all that is due. */
  readonly upcoming: number;
  /** Whether times are passed over, because another is due already or they are late. */
  readonly passedOver: boolean;
}

/** How much later than its time a command is sent: the same in every process, and another for each time. */
export function jitterOf(name: string, at: number, jitterMs: number): number {
  if (jitterMs === 0) return 0;
  const share = createHash("sha256").update(`${name} ${at}`).digest().readUInt32BE() / 2 ** 32;
  return Math.floor(share * (jitterMs + 1));
}

const fewTimes = 16;

/**
 * Everything that is due at `now`, by the decision about missed times. A time is missed when a later one is due as well, or when it is late
 * by more than `limits.scheduleLateMs`.
 */
export function dueOf({ name, missed, jitterMs, nextAt }: Waiting, times: Times, now: number): Due {
  const dueAt = (at: number): number => at + jitterOf(name, at, jitterMs);
  const most = missed === "all" ? limits.missedTimes : 1;
  const later = laterThan(nextAt, times, now, most + 1);
  while (dueAt(later.at(-1) ?? 0) > now) later.pop();
  // Where more were found than are sent, the time that was next is older than all of them.
  const cut = later.length > most;
  const all = cut ? later : [nextAt, ...later];
  const newest = all.at(-1) ?? nextAt;
  const upcoming = times.next(newest);
  if (upcoming === undefined) throw new RangeError(`The schedule "${name}" has no time after ${new Date(newest)}.`);
  const late = now - dueAt(newest) > limits.scheduleLateMs;
  const send = missed === "skip" && late ? [] : all.slice(-most);
  return { send, upcoming, passedOver: cut || send.length < all.length };
}

/** The newest times up to `now` that come after `nextAt`; at most `most`. Nearly always there are none or few, and counting costs. */
function laterThan(nextAt: number, times: Times, now: number, most: number): number[] {
  if ((times.next(nextAt) ?? now + 1) > now) return [];
  for (let count = fewTimes; ; count *= 8) {
    const found = times.newest(now, Math.min(most, count));
    const enough = count >= most || (found[0] ?? 0) <= nextAt;
    if (enough) return found.filter((at) => at > nextAt);
  }
}
