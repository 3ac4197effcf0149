/**
 * Checks how the name of a contract reads: an event states a fact, a command gives an order, a query asks.
 *
 * English decides less than one would like ("ReadSet" is either), so the rule refuses only what is clear: an event that cannot be
 * read as a fact, a command or query that cannot be read as anything else. What can be read both ways passes as both.
 */
import { ConfigurationError } from "../core/errors.js";
import type { Kind } from "./contract.js";
import {
  afterPast,
  clearVerbs,
  irregularPast,
  notPast,
  nounVerbs,
  questionWords,
  sameInPast,
  simplePast,
} from "./words.js";

/**
 * Refuses a name that reads as another kind of message.
 *
 * Errors: `ConfigurationError` PH_NAME_INVALID with the way out.
 */
export function checkReading(kind: Kind, name: string): void {
  const words = splitWords(name);
  const fits = kind === "event" ? canBeFact(words) : !isFact(words) || (kind === "query" && isQuestion(words));
  if (!fits) throw new ConfigurationError("PH_NAME_INVALID", refusals[kind](name), { name, kind });
}

const refusals: Readonly<Record<Kind, (name: string) => string>> = {
  event: (name) =>
    `The event ${name} does not read as a fact. An event says what has happened, with its verb in the past: OrderPlaced, PaymentCaptured, StockRanOut. ` +
    `Rename it; or, if ${name} asks for something to be done, define it with command("${name}", …), and if it asks for an answer, with query("${name}", …).`,
  command: (name) =>
    `The command ${name} reads as a fact. A command says what is to be done, with its verb first: SendEmail, CapturePayment, ArchiveExpiredOrders. ` +
    `Rename it; or, if ${name} states what has happened, define it with event("${name}", …).`,
  query: (name) =>
    `The query ${name} reads as a fact. A query asks for an answer: PriceOf, CheckPassword, IsOrderPaid. ` +
    `Rename it; or, if ${name} states what has happened, define it with event("${name}", …).`,
};

/** "HTTPServerStarted2" gives http, server, started, 2. */
export function splitWords(name: string): readonly string[] {
  return (name.match(/[A-Z]+(?![a-z])|[A-Z][a-z]*|\d+/g) ?? []).map((word) => word.toLowerCase());
}

const prefixes = /^(?:re|un|over|under|out|mis|with|fore|inter|pre)(?=[a-z]{3})/;

/** A past form and nothing else: placed, sent, rebuilt. */
export function isPast(word: string): boolean {
  const stem = word.replace(prefixes, "");
  if (irregularPast.has(word) || irregularPast.has(stem) || isSimplePast(word)) return true;
  if (!word.endsWith("ed") || word.length < 4 || notPast.has(word)) return false;
  // -eed is a verb's own ending (proceed), except where a verb in -ee has its past.
  return !word.endsWith("eed") || /^(?:dis)?agreed$|^(?:freed|guaranteed|decreed|refereed|emceed|teed)$/.test(word);
}

function isSimplePast(word: string): boolean {
  return simplePast.has(word) || simplePast.has(word.replace(prefixes, ""));
}

function mayBePast(word: string): boolean {
  return (
    isPast(word) || sameInPast.has(word) || sameInPast.has(word.replace(/^(?:re|un|over|under|out)(?=[a-z]{3})/, ""))
  );
}

/** Some past form, and not plainly an order. A single word that is both, as Split, counts as an order. */
function canBeFact(words: readonly string[]): boolean {
  const [first = "", ...rest] = words;
  if (clearVerbs.has(first) && !nounVerbs.has(first)) return false;
  return isPast(first) || rest.some(mayBePast);
}

/** Begins with a past form, or ends with one, perhaps with a particle or a place behind it; and does not begin as an order. */
function isFact(words: readonly string[]): boolean {
  const [first = "", ...rest] = words;
  if (isOrder(first)) return false;
  if (isPast(first)) return true;
  return rest.some((word, index) => isSimplePast(word) || (ends(rest, index) && closesFact(first, word)));
}

/** Nothing follows but a particle or a place, and no "as" stands before it: that makes an attribute (FlagAccountAsSuspended). */
function ends(words: readonly string[], index: number): boolean {
  const next = words[index + 1];
  return (next === undefined || afterPast.has(next)) && words[index - 1] !== "as";
}

function closesFact(first: string, word: string): boolean {
  return isPast(word) || (mayBePast(word) && !nounVerbs.has(first));
}

/** Plainly a verb and no noun. */
function isOrder(word: string): boolean {
  return (clearVerbs.has(word) || sameInPast.has(word)) && !nounVerbs.has(word);
}

function isQuestion([first = ""]: readonly string[]): boolean {
  return questionWords.has(first);
}
