/**
 * The Retry-After of an HTTP answer (RFC 9110, 10.2.3): seconds, or a date in one of the three forms of 5.6.7.
 *
 * What another server says is not trusted: anything else is no answer, and the wait is bounded.
 */
import { limits } from "./limits.js";

/** A `Response` of fetch, or what has headers like one. */
export interface Answer {
  readonly headers: { get(name: string): string | null };
}

/**
 * The wait that a Retry-After asks for, in milliseconds; undefined when it is absent or is none. A date that has passed is 0. A date counts from
 * `now`, in milliseconds since 1970; by default the clock here.
 *
 * Limits: at most `limits.retryAfterMostMs`. Never throws.
 */
export function retryAfterMs(header: string | null | undefined, now: number = Date.now()): number | undefined {
  // No date and no sensible number is longer; a hostile one is not even looked at.
  if (typeof header !== "string" || header.length > 100) return undefined;
  const text = header.trim();
  const waitMs = /^\d+$/.test(text) ? Number(text) * 1_000 : (httpDate(text) ?? Number.NaN) - now;
  return Number.isNaN(waitMs) ? undefined : Math.min(limits.retryAfterMostMs, Math.max(0, waitMs));
}

/** The same for an answer. Its own clock, where it shows one, tells how far away its date is. Never throws. */
export function retryAfterOf(answer: Answer): number | undefined {
  try {
    const date = answer.headers.get("date");
    const theirs = typeof date === "string" && date.length <= 100 ? httpDate(date.trim()) : undefined;
    return retryAfterMs(answer.headers.get("retry-after"), theirs);
  } catch {
    return undefined;
  }
}

const months = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
const time = String.raw`(?<hour>\d\d):(?<minute>\d\d):(?<second>\d\d)`;
const forms = [
  // Sun, 06 Nov 1994 08:49:37 GMT
  new RegExp(
    String.raw`^(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun), (?<day>\d\d) (?<month>[A-Z][a-z]{2}) (?<year>\d{4}) ${time} GMT$`,
  ),
  // Sunday, 06-Nov-94 08:49:37 GMT
  new RegExp(
    String.raw`^(?:Mon|Tues|Wednes|Thurs|Fri|Satur|Sun)day, (?<day>\d\d)-(?<month>[A-Z][a-z]{2})-(?<year>\d\d) ${time} GMT$`,
  ),
  // Sun Nov  6 08:49:37 1994
  new RegExp(
    String.raw`^(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun) (?<month>[A-Z][a-z]{2}) (?<day>[ \d]\d) ${time} (?<year>\d{4})$`,
  ),
];

/** Milliseconds since 1970; undefined for what is no date of HTTP. */
function httpDate(text: string): number | undefined {
  for (const form of forms) {
    const { groups } = form.exec(text) ?? {};
    if (groups === undefined) continue;
    const { year = "", month = "", day = "", hour = "", minute = "", second = "" } = groups;
    const inYear = months.indexOf(month);
    const date = Date.UTC(fullYear(year), inYear, Number(day), Number(hour), Number(minute), Number(second));
    // 31 February is no date, 25 o'clock no time; a leap second is one.
    const there = new Date(date);
    const real = there.getUTCMonth() === inYear && there.getUTCDate() === Number(day);
    const inDay = Number(hour) < 24 && Number(minute) < 60 && Number(second) <= 60;
    return inDay && (real || Number(second) === 60) && inYear >= 0 ? date : undefined;
  }
  return undefined;
}

/** Two digits mean the year that is nearest in the past once they would be more than 50 years ahead. */
function fullYear(year: string): number {
  if (year.length === 4) return Number(year);
  const now = new Date().getUTCFullYear();
  const guess = now - (now % 100) + Number(year);
  return guess > now + 50 ? guess - 100 : guess;
}
