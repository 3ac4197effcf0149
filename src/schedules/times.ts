/**
 * The times of a cron line in a time zone: pure, no clock of its own.
 *
 * croner reads the line and knows the zones. A time of day that the line names without a wildcard or step is a time of day: where the clocks
 * are put forward over it, it comes at the first moment after the gap; where they are put back and it exists twice, it comes once, the first
 * time. Lines with a wildcard or step in hours, minutes or seconds are intervals and go on evenly through both changes.
 */
import { Cron } from "croner";
import { ConfigurationError } from "../core/errors.js";
import { limits } from "../core/limits.js";
import { quote, show } from "../core/show.js";
import { suggest } from "../core/suggest.js";
import { clause } from "../core/words.js";

const nicknames = ["@yearly", "@annually", "@monthly", "@weekly", "@daily", "@midnight", "@hourly"];

export const cronWords = "a cron line of 5 fields, or 6 with seconds first";
export const zoneWords = 'the name of a time zone, for instance "Europe/Berlin" or "UTC"';

/** A cron line with single blanks. Errors: `ConfigurationError` with the reason. */
export function checkCron(value: unknown, path: string): string {
  const refuse = (why: string, cause?: unknown): never => {
    throw new ConfigurationError("PH_OPTION_INVALID", `${path} must be ${cronWords}${why}.`, { path }, cause);
  };
  if (typeof value !== "string" || value.length > limits.cronLength) return refuse(`, got ${show(value)}`);
  const fields = value.trim().split(/\s+/);
  const line = fields.join(" ");
  // croner would take a date as well, which comes once and never again.
  const nickname = fields.length === 1 && nicknames.includes(line.toLowerCase());
  if (!nickname && fields.length !== 5 && fields.length !== 6) {
    return refuse(`, got ${show(value)}; ${nicknames.join(", ")} are known too`);
  }
  try {
    cronOf(line, "UTC");
  } catch (cause) {
    return refuse(`; ${quote(line)} is none: ${reasonOf(cause)}`, cause);
  }
  return line;
}

function reasonOf(cause: unknown): string {
  return clause((cause instanceof Error ? cause.message : String(cause)).replace(/^CronPattern: /, ""));
}

/** The name of a zone as given. An offset such as +02:00 is none: it knows no daylight saving. */
export function checkTimeZone(value: unknown, path: string): string {
  if (typeof value === "string" && /^[A-Za-z]/.test(value) && isZone(value)) return value;
  const near = typeof value === "string" ? suggest(value, Intl.supportedValuesOf("timeZone")) : undefined;
  const hint = near === undefined ? "" : ` Did you mean "${near}"?`;
  throw new ConfigurationError("PH_OPTION_INVALID", `${path} must be ${zoneWords}, got ${show(value)}.${hint}`, {
    path,
  });
}

function isZone(name: string): boolean {
  try {
    new Intl.DateTimeFormat("en", { timeZone: name });
    return true;
  } catch {
    return false;
  }
}

function cronOf(line: string, timezone: string): Cron {
  // Without a function to call, croner sets no timer.
  return new Cron(line, { timezone, paused: true, mode: "5-or-6-parts", fixedTimeRule: "no-wildcard" });
}

/** Times are in milliseconds since 1970, always whole seconds. */
export class Times {
  readonly #cron: Cron;

  constructor(cron: string, timeZone: string) {
    this.#cron = cronOf(cron, timeZone);
  }

  /** The first time after a moment; undefined for a line that never comes, such as the 31st of February. */
  next(after: number): number | undefined {
    return this.#cron.nextRun(new Date(after))?.getTime();
  }

  /** The first times after a moment. */
  following(after: number, count: number): readonly number[] {
    return this.#cron.nextRuns(count, new Date(after)).map((time) => time.getTime());
  }

  /** The newest times up to a moment and at it, oldest first. */
  newest(upto: number, count: number): readonly number[] {
    // What croner returns lies before the second that it is given.
    const before = new Date(Math.floor(upto / 1_000) * 1_000 + 1_000);
    return this.#cron
      .previousRuns(count, before)
      .map((time) => time.getTime())
      .reverse();
  }
}
