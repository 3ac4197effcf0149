/**
 * Texts of foreign errors before they are kept or told. Brokers clean their own; this is the second look, at what looks like a credential wherever
 * it comes from, because a reason is stored, shown and sent to logs.
 */
import { limits } from "./limits.js";
import { clause } from "./words.js";

const hidden = "***";

/** The user and password of a URL; what follows a word for a secret; and what an authorization header holds. */
const secrets: readonly (readonly [RegExp, string])[] = [
  [/([a-z][a-z\d+.-]*:\/\/)[^\s/?#@]*(?:@[^\s/?#@]*)*@/gi, "$1"],
  [
    /\b((?:pass(?:word|wd|phrase)?|secret(?:[-_]?access[-_]?key)?|access[-_]?key(?:[-_]?id)?|api[-_]?key|token|sas[-_]?key|signature)["']?\s*[=:]\s*)("[^"]*"|'[^']*'|[^\s,;&"'}]+)/gi,
    `$1${hidden}`,
  ],
  [/\b(authorization["']?\s*[=:]\s*["']?)[^\s,;"']+(?:\s+[^\s,;"']+)?/gi, `$1${hidden}`],
  [/\b(bearer\s+)[A-Za-z\d+/_.~=-]{8,}/gi, `$1${hidden}`],
];

/** Also without what PostgreSQL cannot store: what another program says may hold anything, and a cut may part a pair of surrogates. */
export function cleaned(text: string): string {
  let clean = text.slice(0, limits.errorBytes).replaceAll("\0", "\ufffd").toWellFormed();
  for (const [secret, instead] of secrets) clean = clean.replace(secret, instead);
  return clean;
}

/** What an error says, as the part of a sentence. Never throws: what foreign code throws may be anything. */
export function reasonOf(error: unknown): string {
  try {
    return clause(cleaned(said(error))) || "it does not say why";
  } catch {
    return "an error that cannot be read";
  }
}

function said(error: unknown): string {
  if (!(error instanceof Error)) return typeof error === "string" ? error : "an error that is none";
  const code = "code" in error && typeof error.code === "string" ? error.code : "";
  // Of several addresses that were tried in vain, the message of the whole is empty.
  if (error instanceof AggregateError && error.message === "")
    return error.errors.map((one) => clause(said(one))).join("; ");
  return code === "" || error.message.includes(code) ? error.message : `${clause(error.message)} (${code})`;
}
