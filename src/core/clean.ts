/**
 * Texts of foreign errors before they are kept or told. Brokers take out what was given to them (`Secrets`); this is the second look, at what looks like a
 * credential wherever it comes from, because a reason is stored, shown and sent to logs.
 */
import { limits } from "./limits.js";
import { clause } from "./words.js";

const hidden = "***";

/** The user and password before a host, in a URL or bare; what follows a word for a secret; and what is one by its look. */
const secrets: readonly (readonly [RegExp, string | ((found: string, ...parts: string[]) => string)])[] = [
  [/([a-z][a-z\d+.-]*:\/\/)[^\s/?#@]*(?:@[^\s/?#@]*)*@/gi, "$1"],
  // One that is not percent-encoded as it should be has more of these letters; a port and a path are none.
  [/([a-z][a-z\d+.-]*:\/\/)[^\s/?#@:]*:(?!\d{1,5}(?:[/?#]|$))[^\s@]*@(?:[^\s/?#@]*@)*(?=[\w[])/gi, "$1"],
  // The URL as a whole was percent-encoded.
  [/([a-z][a-z\d+.-]*%(?:25)*3a(?:%(?:25)*2f){2})(?:(?!%(?:25)*(?:40|2f|3f|23))[^\s@/?#&])*%(?:25)*40/gi, "$1"],
  // Without a scheme, as some clients call the place that they connect to.
  [/(?<=^|[\s<>"'`(),;=[{|]|\/\/)[^\s/@:<>"'`(),;=[{|]*:[^\s/@<>"'`(),;]+@(?=[\w[])/g, ""],
  [
    /((?:pass(?:word|wd|phrase)?|secret(?:[-_]?access[-_]?key)?|access[-_]?key(?:[-_]?id)?|api[-_]?key|token|sas[-_]?key|credentials?|sig(?:nature)?)["']?\s*[=:]\s*)("[^"]*"|'[^']*'|[^\s,;&"'}]+)/gi,
    `$1${hidden}`,
  ],
  [/\b(authorization["']?\s*[=:]\s*["']?)[^\s,;"']+(?:\s+[^\s,;"']+)?/gi, `$1${hidden}`],
  [/\b(bearer\s+)[A-Za-z\d+/_.~=-]{8,}/gi, `$1${hidden}`],
  [/\b(basic\s+)([A-Za-z\d+/_=-]{4,})/gi, (found, word, pair) => (isPair(pair) ? `${word}${hidden}` : found)],
  // Keys of webhooks, keys of AWS, JSON web tokens.
  [/\bwhs(?:ec|k)_[\w+/=-]+/g, hidden],
  [/\b(?:AKIA|ASIA)[A-Z\d]{12,}\b/g, hidden],
  [/\beyJ[\w-]{8,}\.[\w-]+\.[\w-]*/g, hidden],
];

/** What basic authorization holds: a user and a password. "basic authentication" is none. */
function isPair(base64: string): boolean {
  return /^[^\p{Cc}\ufffd:]*:[^\p{Cc}\ufffd]*$/u.test(Buffer.from(base64, "base64").toString("utf8"));
}

/** Also without what PostgreSQL cannot store: what another program says may hold anything, and a cut may part a pair of surrogates. */
export function cleaned(text: string): string {
  let clean = text.slice(0, limits.errorBytes).replaceAll("\0", "\ufffd").toWellFormed();
  for (const [secret, instead] of secrets) {
    clean = typeof instead === "string" ? clean.replace(secret, instead) : clean.replace(secret, instead);
  }
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
