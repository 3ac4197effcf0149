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
/** Longer ones are keys in files, which nothing has in base64 once more. */
const plainLength = 2_000;

export type Given = string | undefined;

/** One that is fetched is another one later; so many are remembered. */
const mostLearnt = 10;

export class Secrets {
  /** By secret: the texts that it is found by, as `plain` makes them. */
  readonly #forms = new Map<string, readonly string[]>();
  readonly #learnt: string[] = [];

  /** `user`: base64 has it before the password, as basic authorization does. */
  constructor(given: readonly Given[], user?: string) {
    for (const secret of given) this.add(secret, user);
  }

  add(secret: Given, user = ""): void {
    if (secret === undefined || secret === "" || this.#forms.has(secret)) return;
    this.#forms.set(secret, formsOf(secret, user));
  }

  /** One that was fetched: it stands for the latest ones only. */
  learn(secret: Given): void {
    if (secret === undefined || this.#forms.has(secret)) return;
    this.add(secret);
    this.#learnt.push(secret);
    if (this.#learnt.length > mostLearnt) this.#forms.delete(this.#learnt.shift() ?? "");
  }

  /** Whether anything of it holds one. */
  isIn(value: unknown): boolean {
    const all = inspect(value, { depth: deepest, showHidden: true, maxStringLength: null });
    return this.hide(all) !== all;
  }

  hide(text: string): string {
    if (this.#forms.size === 0) return text;
    const seen = plain(text);
    const places = [...this.#forms.values()].flat().flatMap((form) => placesOf(form, seen));
    if (places.length === 0) return text;
    let [shown, upto] = ["", 0];
    for (const { from, to } of places.sort((a, b) => a.from - b.from)) {
      if (from >= upto) shown += text.slice(upto, from) + hidden;
      upto = Math.max(upto, to);
    }
    return shown + text.slice(upto);
  }
}

function formsOf(secret: string, user: string): readonly string[] {
  const texts = [secret];
  if (secret.length > plainLength) return [plain(secret).text, plain(inJson(secret)).text];
  // What is written in base64 or hex may have been escaped before.
  for (const form of [String, encodeURIComponent, inJson]) {
    const [who, what] = [form(user.toWellFormed()), form(secret.toWellFormed())];
    texts.push(unpadded(Buffer.from(`${who}:${what}`)));
    const bytes = Buffer.from(what);
    if (bytes.length >= coreBytes) texts.push(bytes.toString("hex"), unpadded(bytes), ...coresOf(bytes));
  }
  return texts.map((text) => plain(text).text);
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

/** Letters of a text without any encoding, one for each byte of UTF-8, and where each stood. */
interface Plain {
  readonly text: string;
  readonly from: readonly number[];
  readonly to: readonly number[];
}

/** Encodings that may lie in each other. */
const mostLayers = 6;
const encoded = /%([\da-f]{2})|&#(\d{1,7});|&#x([\da-f]{1,6});|&(amp|lt|gt|quot|apos);|\\+(?:u([\da-f]{4}))?/gi;
const entities: Readonly<Record<string, string>> = { amp: "&", lt: "<", gt: ">", quot: '"', apos: "'" };
/** What base64url writes otherwise, and a form a space. */
const same: Readonly<Record<string, string>> = { "-": "+", " ": "+", _: "/" };

function plain(text: string): Plain {
  let seen = inBytes(text);
  for (let layer = 0; layer < mostLayers; layer += 1) {
    const inner = withoutLayer(seen);
    if (inner.text.length === seen.text.length) break;
    seen = inner;
  }
  return { ...seen, text: seen.text.toLowerCase().replace(/[-_ ]/g, (letter) => same[letter] ?? letter) };
}

function inBytes(text: string): Plain {
  const from: number[] = [];
  const to: number[] = [];
  let at = 0;
  for (const char of text) {
    const bytes = char < "\x80" ? 1 : Buffer.byteLength(char);
    for (let i = 0; i < bytes; i += 1) {
      from.push(at);
      to.push(at + char.length);
    }
    at += char.length;
  }
  return { text: Buffer.from(text).toString("latin1"), from, to };
}

/** Percent signs, entities and escapes are what they stand for; what escapes alone is left out. */
function withoutLayer(seen: Plain): Plain {
  const parts: string[] = [];
  const from: number[] = [];
  const to: number[] = [];
  let upto = 0;
  const keep = (end: number) => {
    parts.push(seen.text.slice(upto, end));
    for (let i = upto; i < end; i += 1) {
      from.push(seen.from[i] ?? 0);
      to.push(seen.to[i] ?? 0);
    }
  };
  for (const match of seen.text.matchAll(encoded)) {
    keep(match.index);
    upto = match.index + match[0].length;
    const bytes = meantBy(match);
    parts.push(bytes);
    for (let i = 0; i < bytes.length; i += 1) {
      from.push(seen.from[match.index] ?? 0);
      to.push(seen.to[upto - 1] ?? 0);
    }
  }
  keep(seen.text.length);
  return { text: parts.join(""), from, to };
}

function meantBy([, byte, decimal, hex, name, unit]: RegExpMatchArray): string {
  if (byte !== undefined) return String.fromCharCode(Number.parseInt(byte, 16));
  if (name !== undefined) return entities[name.toLowerCase()] ?? "";
  const point = decimal === undefined ? Number.parseInt(hex ?? unit ?? "", 16) : Number(decimal);
  return point <= 0x10ffff ? Buffer.from(String.fromCodePoint(point)).toString("latin1") : "";
}

function placesOf(form: string, { text, from, to }: Plain): readonly { readonly from: number; readonly to: number }[] {
  const places: { readonly from: number; readonly to: number }[] = [];
  if (form === "") return places;
  for (let at = text.indexOf(form); at >= 0; at = text.indexOf(form, at + 1)) {
    const end = at + form.length;
    const alone = !/[a-z\d]/.test(`${text[at - 1] ?? ""}${text[end] ?? ""}`);
    if (form.length >= shortLength || alone) places.push({ from: from[at] ?? 0, to: to[end - 1] ?? 0 });
  }
  return places;
}
