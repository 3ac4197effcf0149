/**
 * What was given to us and nobody may read: passwords, tokens, keys. Another program may give them back in what it says, in a form of its own, so each is
 * hidden however it is written: percent-encoded as a whole, in part or twice, escaped as JSON or HTML, in base64 or base64url, alone or within more, in hex.
 *
 * The one place that decides what of a foreign error is passed on. What looks like a credential and was not given to us is for `cleaned` to find.
 */
import { inspect, types } from "node:util";
import { PosthornError } from "./errors.js";

const hidden = "…";
/** Shorter ones are parts of many words: they are hidden as words of their own. */
const shortLength = 4;
/** Fewer bytes leave too little in base64 to tell them by. */
const coreBytes = 6;
/** Longer ones are keys in files, which travel in no URL. */
const plainLength = 2_000;

export type Given = string | undefined;

export class Secrets {
  readonly #texts = new Set<string>();
  #pattern: RegExp | undefined;

  /** `user`: base64 has it before the password, as basic authorization does. */
  constructor(given: readonly Given[], user?: string) {
    for (const secret of given) this.add(secret, user);
  }

  /** Also one that is learnt later. */
  add(secret: Given, user = ""): void {
    if (secret === undefined || secret === "" || this.#texts.has(secret)) return;
    this.#pattern = undefined;
    this.#texts.add(secret);
    if (secret.length > plainLength) return;
    // What is written in base64 or hex may have been escaped before.
    for (const form of [String, encodeURIComponent, inJson]) {
      this.#texts.add(unpadded(Buffer.from(`${form(user)}:${form(secret)}`)));
      const bytes = Buffer.from(form(secret));
      if (bytes.length < coreBytes) continue;
      this.#texts.add(bytes.toString("hex")).add(unpadded(bytes));
      for (const core of coresOf(bytes)) this.#texts.add(core);
    }
  }

  /** Whether anything of it holds one. */
  isIn(value: unknown): boolean {
    const all = inspect(value, { depth: deepest, showHidden: true, maxStringLength: null });
    return this.hide(all) !== all;
  }

  hide(text: string): string {
    if (this.#texts.size === 0) return text;
    // The longest first, so that none leaves the rest of a longer one behind.
    this.#pattern ??= new RegExp(
      [...this.#texts]
        .sort((a, b) => b.length - a.length)
        .map(patternOf)
        .join("|"),
      "giu",
    );
    return text.replace(this.#pattern, hidden);
  }
}

/**
 * What a client threw, without what is secret. One in which nothing is found, and which has nothing but what every error has, is passed on as it is;
 * of others message, name, code, causes and the errors in it are kept, and nothing of what the client hung on them: requests, headers, options.
 */
export function withoutSecrets(error: unknown, secrets: Secrets, depth = 0): unknown {
  if (typeof error === "string") return secrets.hide(error);
  if (typeof error !== "object" || error === null) return error;
  if (!isError(error)) return new Error("it threw what is no error");
  const { message, stack = "", cause } = error;
  // A chain of causes may lead back to where it began.
  const inner = depth < deepest ? withoutSecrets(cause, secrets, depth + 1) : undefined;
  if (error instanceof PosthornError) {
    // Its words are ours.
    if (inner !== cause) Object.defineProperty(error, "cause", { value: inner });
    return error;
  }
  const before: readonly unknown[] = error instanceof AggregateError ? error.errors : [];
  const errors = before.map((one) => (depth < deepest ? withoutSecrets(one, secrets, depth + 1) : undefined));
  const same = inner === cause && errors.every((one, i) => one === before[i]);
  const plain = Object.keys(error).every((name) => harmless.has(name));
  if (same && plain && secrets.hide(message) === message && secrets.hide(stack) === stack) return error;
  const options = inner === undefined ? undefined : { cause: inner };
  const text = secrets.hide(message);
  const clean = errors.length > 0 ? new AggregateError(errors, text, options) : new Error(text, options);
  if (error.name !== clean.name) clean.name = secrets.hide(error.name);
  const code = "code" in error ? error.code : undefined;
  return code === undefined
    ? clean
    : Object.assign(clean, { code: typeof code === "string" ? secrets.hide(code) : code });
}

const deepest = 8;
/** What Node says of a connection. */
const harmless: ReadonlySet<string> = new Set(["code", "errno", "syscall", "address", "port", "hostname", "name"]);

/** Also one of another realm, which is no `instanceof`. */
function isError(value: object): value is Error {
  return value instanceof Error || types.isNativeError(value);
}

function inJson(text: string): string {
  return JSON.stringify(text).slice(1, -1);
}

function unpadded(bytes: Buffer): string {
  return bytes.toString("base64").replace(/=+$/, "");
}

/** The letters that base64 has for these bytes wherever they stand within others: three letters hold parts of neighbours, and are left out. */
function coresOf(bytes: Buffer): readonly string[] {
  return [0, 1, 2].map((before) => {
    const whole = unpadded(Buffer.concat([Buffer.alloc(before), bytes]));
    const start = Math.ceil((before * 8) / 6);
    return whole.slice(start, Math.floor(((before + bytes.length) * 8) / 6));
  });
}

/** A text in any of its forms. */
function patternOf(text: string): string {
  const pattern = [...text].map(text.length > plainLength ? literal : anyForm).join("");
  return text.length < shortLength ? `(?<![\\p{L}\\p{N}])${pattern}(?![\\p{L}\\p{N}])` : pattern;
}

function literal(char: string): string {
  return char.replace(/[\\^$.*+?()[\]{}|/]/g, "\\$&");
}

const entities: Readonly<Record<string, string>> = { "&": "amp", "<": "lt", ">": "gt", '"': "quot", "'": "apos" };
const backslash = "(?:\\\\|%(?:25)*5c)";
/** A letter that base64url writes otherwise, and what else stands for one. */
const others: Readonly<Record<string, string>> = {
  "+": "|-",
  "/": "|_",
  " ": "|\\+",
  "\n": `|${backslash}{1,20}n`,
  "\r": `|${backslash}{1,20}r`,
  "\t": `|${backslash}{1,20}t`,
};

function anyForm(char: string): string {
  const percent = [...Buffer.from(char)].map((byte) => `%(?:25)*${byte.toString(16).padStart(2, "0")}`).join("");
  const bare = `${literal(char)}|${percent}${others[char] ?? ""}`;
  if (/[\w-]/.test(char)) return `(?:${bare})`;
  const point = char.codePointAt(0) ?? 0;
  const named = entities[char] === undefined ? "" : `|${entities[char]}`;
  const html = `&(?:#0*${point}|#x0*${point.toString(16)}${named});`;
  const json = point > 0xffff ? "" : `|${backslash}{1,20}u${point.toString(16).padStart(4, "0")}`;
  return `(?:${/["\\/]/.test(char) ? `${backslash}{0,20}` : ""}(?:${bare}|${html})${json})`;
}
