/**
 * What the broker of an intake has turned away: told to the log, and counted for the alert and for `posthorn status`.
 *
 * Anybody may send to an open port, as often as he likes. So a refusal costs a few numbers in memory; the log gets the first at once and then one line a
 * minute, or one an hour for what no sender means; and the database gets it beside what is reported each second anyway.
 */
import type { Refusal } from "../brokers/broker.js";
import type { Logger } from "../core/logger.js";
import { clause, count } from "../core/words.js";
import type { RefusedReport } from "../store/intake.js";
import { type Counted, flat, inWords, Telling } from "./telling.js";

export interface RefusalsOptions {
  readonly name: string;
  /** Where the broker is, for people. */
  readonly where: string;
  readonly logger: Logger;
}

/** Between two lines of the log. */
const tellMs = { meant: 60_000, other: 3_600_000 } as const;
/** So long after the last one it is over: longer than the pauses of the first attempts of a sender, which tries again for hours. */
const quietMs = 900_000;
/** A broker has a few reasons. One that makes many all the same has its others counted together. */
const mostReasons = 32;
const others = "for other reasons";

export class Refusals {
  readonly #options: RefusalsOptions;
  /** Reasons as they came, and as they may be shown. */
  readonly #texts = new Map<string, string>();
  readonly #telling = new Telling((counted) => this.#tell(counted));
  #total = 0;
  /** What goes on since the last long pause. */
  #now = 0;
  #lastAt: number | undefined;
  #why: string | null = null;
  #whyIsMeant = false;

  constructor(options: RefusalsOptions) {
    this.#options = options;
  }

  note({ reason, meant }: Refusal): void {
    const at = performance.now();
    if (this.#isOver(at)) this.#begin();
    const text = this.#textOf(reason);
    this.#total += 1;
    this.#lastAt = at;
    if (meant) this.#now += 1;
    // What no sender means hides none of what one does.
    if (meant || !this.#whyIsMeant) this.#why = text;
    this.#whyIsMeant ||= meant;
    this.#telling.note(text, meant ? tellMs.meant : tellMs.other);
  }

  /** How it stands; `before` is the total when the worker that reports began. */
  report(before: number): RefusedReport {
    const total = this.#total - before;
    const at = performance.now();
    if (this.#lastAt === undefined || this.#isOver(at)) return { total, now: null, agoMs: null, why: null };
    return { total, now: this.#now, agoMs: Math.round(at - this.#lastAt), why: this.#why };
  }

  get total(): number {
    return this.#total;
  }

  /** At the end of the work, whatever the time. */
  tellRest(): void {
    this.#telling.tellRest();
  }

  #isOver(at: number): boolean {
    return this.#lastAt !== undefined && at - this.#lastAt >= quietMs;
  }

  #begin(): void {
    this.#now = 0;
    this.#why = null;
    this.#whyIsMeant = false;
  }

  #tell(counted: Counted): void {
    const { name, where, logger } = this.#options;
    const { total: refused, counts } = counted;
    logger.warn(
      `the intake "${name}" has refused ${count(refused)} ${refused === 1 ? "message" : "messages"} at ${where}${inWords(counted)}`,
      { intake: name, where, refused, reasons: Object.fromEntries(counts) },
    );
  }

  /** What a broker says, cut and on one line: it may be one that somebody has made himself. */
  #textOf(reason: string): string {
    const known = this.#texts.get(reason);
    if (known !== undefined) return known;
    if (this.#texts.size >= mostReasons) return others;
    const text = clause(flat(reason)) || others;
    this.#texts.set(reason, text);
    return text;
  }
}
