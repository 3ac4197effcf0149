/** `post.schedule`: its options, checked, and what they make. Everything that can be wrong is told at the declaration. */
import type { AnyContract, InputOf } from "../contracts/contract.js";
import { isContract } from "../contracts/contract.js";
import { requireKind } from "../contracts/require-kind.js";
import { ConfigurationError, WrongKindError } from "../core/errors.js";
import { limits } from "../core/limits.js";
import { checkName } from "../core/names.js";
import { checkOptions, type Fields } from "../core/options.js";
import { quote, show } from "../core/show.js";
import { durationInWords } from "../core/words.js";
import { type Said, say, sayFields } from "../producer/prepare.js";
import type { Headers } from "../producer/say.js";
import type { Missed } from "./due.js";
import { checkCron, checkTimeZone, cronWords, Times, zoneWords } from "./times.js";

/** What every command of a schedule carries; names that begin like these belong to the library. */
export const scheduleHeaders = { schedule: "posthorn-schedule", time: "posthorn-scheduled-for" } as const;
const ownPrefix = "posthorn-";

export interface ScheduleOptions<C extends AnyContract<"command">> {
  /** When: `"0 3 * * *"`, or six fields with seconds first. Refused where it never comes. */
  readonly cron: string;
  /** Whose clock the cron line means, for instance `"Europe/Berlin"` or `"UTC"`. */
  readonly timeZone: string;
  /** The command that is sent. */
  readonly command: C;
  /** What is sent: the same each time, or a function of the time that the cron line names. It must be pure: another process may call it. */
  readonly payload: InputOf<C> | ((at: Date) => InputOf<C>);
  /**
   * What becomes of times that nobody could send at, because no process was up: `"skip"` drops them, `"once"` sends one command for the
   * newest of them, `"all"` one for each, at most `limits.missedTimes`, the newest. A time counts as missed when a later one is due as well, or
   * when it is later than `limits.scheduleLateMs`.
   */
  readonly missed: Missed;
  /**
   * Spreads the commands over so long after their times, so that many schedules do not begin in one moment.
   *
   * Default 0. Range 0 to 86400000; not longer than the shortest time between two of its times.
   */
  readonly jitterMs?: number;
  /** As of `send`. */
  readonly headers?: Headers;
}

/** A schedule as declared in this process. */
export interface Schedule {
  readonly name: string;
  /** The first time of its cron line after a moment, without jitter. Default: now, by the clock of this process. */
  next(after?: Date): Date;
}

function checkCommand(value: unknown, path: string): AnyContract<"command"> {
  if (isContract(value)) return requireKind(value, "command", "schedule");
  const message = `${path} must be a command as command() returned it, got ${show(value)}. Pass the contract itself, not its name or a copy.`;
  throw new WrongKindError("PH_WRONG_KIND", message, { path });
}

const { headers } = sayFields.send;

/** The options of `schedule`, as data. */
export const scheduleFields = {
  cron: {
    type: "custom",
    doc: "When: minute, hour, day of month, month, day of week, and seconds before them if there are six; refused where it never comes",
    words: cronWords,
    required: true,
    check: checkCron,
  },
  timeZone: {
    type: "custom",
    doc: "Whose clock the cron line means",
    words: zoneWords,
    required: true,
    check: checkTimeZone,
  },
  command: { type: "custom", doc: "What is sent", words: "a command", required: true, check: checkCommand },
  payload: {
    type: "custom",
    doc: "The payload: the same each time, or a function of the time that the cron line names",
    words: "a payload of the command, or a pure function from a Date to one",
    required: true,
    check: (value: unknown) => value,
  },
  missed: {
    type: "choice",
    doc: `What becomes of times that nobody could send at: skip drops them, once sends one command for the newest, all one for each, the newest ${limits.missedTimes} at most`,
    values: ["skip", "once", "all"],
    required: true,
  },
  jitterMs: {
    type: "duration",
    doc: "Spreads the commands over so long after their times: the same delay in every process, another for each time; not longer than the shortest time between two of them",
    min: 0,
    max: limits.scheduleJitterMs,
    default: 0,
  },
  headers,
} as const satisfies Fields;

/** Times that are looked at for the shortest distance between two. */
const comparedTimes = 50;

export class ScheduleDeclaration implements Schedule {
  readonly name: string;
  readonly cron: string;
  readonly timeZone: string;
  readonly command: AnyContract<"command">;
  readonly missed: Missed;
  readonly jitterMs: number;
  /** The source of the function, by which other processes see that it has changed. */
  readonly source: string | null;
  /** The command at its first time; of an asynchronous schema a promise. */
  readonly first: Said | Promise<Said>;
  readonly #payload: unknown;
  readonly #headers: Headers;
  readonly #times: Times;

  constructor(given: unknown, options: unknown) {
    this.name = checkName(given, "schedule");
    const path = `schedule ${this.name}`;
    const checked = checkOptions(options, scheduleFields, path);
    this.cron = checked.cron;
    this.timeZone = checked.timeZone;
    this.command = checked.command;
    this.missed = missedOf(checked.missed);
    this.jitterMs = checked.jitterMs;
    this.#payload = checked.payload;
    this.source = typeof checked.payload === "function" ? String(checked.payload) : null;
    this.#headers = checkHeaders(checked.headers ?? {}, path);
    this.#times = new Times(this.cron, this.timeZone);
    this.#checkTimes(path);
    this.first = this.say(this.next());
    // Awaited when it is declared in the database.
    if (this.first instanceof Promise) this.first.catch(() => undefined);
  }

  next(after: Date = new Date()): Date {
    const at = after instanceof Date ? after.getTime() : Number.NaN;
    const next = Number.isNaN(at) ? undefined : this.#times.next(at);
    if (next !== undefined) return new Date(next);
    throw new ConfigurationError("PH_OPTION_INVALID", `next() of ${this.name} takes a date, got ${show(after)}.`);
  }

  /** The command for one time, as `send` would check it. */
  say(at: Date): Said | Promise<Said> {
    const payload = typeof this.#payload === "function" ? this.#payload(new Date(at)) : this.#payload;
    const all = { ...this.#headers, [scheduleHeaders.schedule]: this.name, [scheduleHeaders.time]: at.toISOString() };
    return say("command", "schedule", this.command, payload, { headers: all });
  }

  /** The headers of every command, as JSON text. */
  get headers(): string | null {
    return Object.keys(this.#headers).length === 0 ? null : JSON.stringify(this.#headers);
  }

  #checkTimes(path: string): void {
    const coming = this.#times.following(Date.now(), comparedTimes);
    if (coming.length === 0) {
      const message = `${path}.cron never comes: no date fits ${quote(this.cron)}. Correct the day or the month.`;
      throw new ConfigurationError("PH_OPTION_INVALID", message, { path: `${path}.cron` });
    }
    const shortest = Math.min(...coming.slice(1).map((at, i) => at - (coming[i] ?? at)));
    if (this.jitterMs <= shortest) return;
    const message = `${path}.jitterMs is ${durationInWords(this.jitterMs)}, longer than the ${durationInWords(shortest)} between two times of ${quote(this.cron)}. Make it shorter.`;
    throw new ConfigurationError("PH_OPTION_INVALID", message, { path: `${path}.jitterMs` });
  }
}

function missedOf(value: string): Missed {
  return value === "once" || value === "all" ? value : "skip";
}

function checkHeaders(given: Headers, path: string): Headers {
  const taken = Object.keys(given).find((name) => name.toLowerCase().startsWith(ownPrefix));
  if (taken === undefined) return given;
  const message = `${path}.headers has ${quote(taken)}: names that begin with "${ownPrefix}" are the library's. Choose another.`;
  throw new ConfigurationError("PH_OPTION_INVALID", message, { path: `${path}.headers` });
}
