/**
 * Tells the log of what comes in any number, in time and never without bound: the first at once, and then one line for each pause, with the counts of all since.
 *
 * Texts are those that count; who notes them sees to it that there are few, and that they hold nothing of a message.
 */
import { cleaned } from "../core/clean.js";
import { count, durationInWords } from "../core/words.js";

/** Looks again within this time however long the pause is: what comes meanwhile may be more urgent. */
const lookMs = 60_000;

/** What was noted since the last line. */
export interface Counted {
  /** Each text with its count, the most frequent first. */
  readonly counts: readonly (readonly [text: string, times: number])[];
  readonly total: number;
  /** Since the last line; undefined for the first. */
  readonly sinceMs: number | undefined;
}

export class Telling {
  readonly #tell: (counted: Counted) => void;
  #counts = new Map<string, number>();
  /** The shortest of those that were noted. */
  #pauseMs = Number.POSITIVE_INFINITY;
  #toldAt: number | undefined;
  #timer: NodeJS.Timeout | undefined;

  constructor(tell: (counted: Counted) => void) {
    this.#tell = tell;
  }

  /** `pauseMs`: so long after the last line at the latest it is told. */
  note(text: string, pauseMs: number): void {
    this.#counts.set(text, (this.#counts.get(text) ?? 0) + 1);
    this.#pauseMs = Math.min(this.#pauseMs, pauseMs);
    this.#tellInTime(performance.now());
  }

  /** At the end of the work, whatever the time. */
  tellRest(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    if (this.#counts.size > 0) this.#tellNow(performance.now());
  }

  #tellInTime(at: number): void {
    const left = this.#toldAt === undefined ? 0 : this.#toldAt + this.#pauseMs - at;
    if (left <= 0) {
      this.#tellNow(at);
      return;
    }
    this.#timer ??= setTimeout(
      () => {
        this.#timer = undefined;
        this.#tellInTime(performance.now());
      },
      Math.min(left, lookMs),
    ).unref();
  }

  #tellNow(at: number): void {
    const sinceMs = this.#toldAt === undefined ? undefined : Math.round(at - this.#toldAt);
    const counts = [...this.#counts].sort(([, one], [, other]) => other - one);
    clearTimeout(this.#timer);
    this.#timer = undefined;
    this.#toldAt = at;
    this.#counts = new Map();
    this.#pauseMs = Number.POSITIVE_INFINITY;
    this.#tell({ counts, total: counts.reduce((sum, [, times]) => sum + times, 0), sinceMs });
  }
}

/** " in 1 min: 3 of this; 1 of that"; where there is one in all, without its number. */
export function inWords({ counts, total, sinceMs }: Counted): string {
  const since = sinceMs === undefined ? "" : ` in ${durationInWords(sinceMs)}`;
  return `${since}: ${counts.map(([text, times]) => (total === 1 ? text : `${count(times)} ${text}`)).join("; ")}`;
}

const flatLength = 200;

/** What somebody else says, cut and on one line. */
export function flat(text: string): string {
  const line = cleaned(text).replace(/[\p{Cc}\p{Cf}\u2028\u2029]+/gu, " ");
  return line.slice(0, flatLength).toWellFormed().trim();
}
