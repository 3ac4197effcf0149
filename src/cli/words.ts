/** Numbers, times and errors as the command line says them. */
import { count as grouped } from "../core/words.js";
import { oneLine } from "./io.js";

export { grouped };

const small = ["no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"];

/** 2 as "two", 40 as "40". */
export function numberInWords(value: number): string {
  return small[value] ?? grouped(value);
}

const ordinals = ["", "first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth"];

/** 3 as "third", 22 as "22nd". */
export function ordinal(value: number): string {
  const word = ordinals[value];
  if (word) return word;
  const [tens, ones] = [value % 100, value % 10];
  const ending = tens >= 11 && tens <= 13 ? "th" : (["th", "st", "nd", "rd"][ones] ?? "th");
  return `${grouped(value)}${ending}`;
}

/** "one worker has", "two workers have". */
export function workersHave(value: number): string {
  return value === 1 ? "one worker has" : `${numberInWords(value)} workers have`;
}

export function plural(value: number, one: string, many = `${one}s`): string {
  return `${grouped(value)} ${value === 1 ? one : many}`;
}

const two = (value: number): string => String(value).padStart(2, "0");

/** The time of day here; with the date where it is not that of `now`. */
export function clock(iso: string, now: string): string {
  const at = new Date(iso);
  const time = `${two(at.getHours())}:${two(at.getMinutes())}:${two(at.getSeconds())}`;
  return dateOf(at) === dateOf(new Date(now)) ? time : `${dateOf(at)} ${time}`;
}

function dateOf(at: Date): string {
  return `${at.getFullYear()}-${two(at.getMonth() + 1)}-${two(at.getDate())}`;
}

/** "40 s", "12 min", "3 h": an estimate has one unit. */
export function about(seconds: number): string {
  if (seconds < 1) return "less than a second";
  if (seconds < 100) return `about ${Math.round(seconds)} s`;
  if (seconds < 6_000) return `about ${Math.round(seconds / 60)} min`;
  if (seconds < 172_800) return `about ${Math.round(seconds / 3_600)} h`;
  return `about ${Math.round(seconds / 86_400)} days`;
}

/** "ECONNREFUSED: connect ECONNREFUSED 127.0.0.1:25", with the name where there is no code. */
export function errorInWords(error: {
  readonly name: string;
  readonly message: string;
  readonly code?: string | null;
}): string {
  const head = error.code ?? error.name;
  // It is a part of a sentence, which goes on behind it.
  const said = oneLine(error.message, 160).replace(/(?<!\.)\.$/, "");
  return said === "" ? oneLine(head, 60) : `${oneLine(head, 60)}: ${said}`;
}

/** When the reason of a circuit was said, where that is not what opened it; undefined where it is. */
export function newestAnswerAt(circuit: {
  readonly openedAt?: string;
  readonly failures?: number;
  readonly reasonAt?: string;
}): string | undefined {
  const { openedAt, failures, reasonAt } = circuit;
  if (reasonAt === undefined || openedAt === undefined) return undefined;
  const later = Date.parse(reasonAt) - Date.parse(openedAt) >= 1_000;
  return later || failures !== undefined ? reasonAt : undefined;
}
