/** Reads a line of arguments by the table of commands. Nothing is ignored: what is not in the table is refused with the nearest that is. */
import { parseArgs } from "node:util";
import { ConfigurationError, NotBuiltError } from "../core/errors.js";
import { quote } from "../core/show.js";
import { suggest } from "../core/suggest.js";
import { type Command, commands, everywhere, type Option } from "./table.js";

export interface Line {
  readonly name: string;
  readonly argument: string | undefined;
  readonly second?: string | undefined;
  /** Checked; options that were not given are absent, or have their default. */
  readonly options: ReadonlyMap<string, string | number | true | readonly string[]>;
}

type Tokens = NonNullable<ReturnType<typeof parseArgs>["tokens"]>;
type Given = Extract<Tokens[number], { kind: "option" }>;

const shortForms: Readonly<Record<string, string>> = { h: "help", v: "version" };

function refuse(message: string, facts: Readonly<Record<string, unknown>> = {}): never {
  throw new ConfigurationError("PH_ARGUMENT_INVALID", message, facts);
}

/**
 * Errors: `ConfigurationError` (PH_ARGUMENT_INVALID) for what the table does not hold; `NotBuiltError` for a command that is planned.
 */
export function parseLine(args: readonly string[]): Line {
  const types = new Map(
    [everywhere, ...Object.values(commands).map(({ options }) => options)].flatMap((options) =>
      Object.entries<Option>(options).map(([name, { type }]) => [name, type] as const),
    ),
  );
  const options = Object.fromEntries(
    [...types].map(([name, type]) => [name, { type: type === "flag" ? "boolean" : "string", multiple: true } as const]),
  );
  const read = parseArgs({ args: [...args], options, strict: false, allowPositionals: true, tokens: true });
  const given: Given[] = [];
  const words: string[] = [];
  for (const token of read.tokens) {
    if (token.kind === "positional") words.push(token.value);
    if (token.kind === "option") given.push({ ...token, name: shortForms[token.name] ?? token.name });
  }
  if (given.some(({ name }) => name === "version")) {
    return { name: "version", argument: undefined, options: new Map() };
  }
  if (given.some(({ name }) => name === "help") || words.length === 0) return helpOf(words, given);
  const { name, rest } = commandOf(words);
  const command = commands[name];
  if (command === undefined) throw new TypeError(name);
  if (command.planned) {
    throw new NotBuiltError("PH_NOT_BUILT", `posthorn ${name} is planned and not built yet.`, { command: name });
  }
  const [argument, second] = givenArguments(name, command, rest);
  return { name, argument, second, options: optionsOf(name, command, given) };
}

function helpOf(words: readonly string[], given: readonly Given[]): Line {
  const options = new Map<string, true>(given.some(({ name }) => name === "json") ? [["json", true]] : []);
  return { name: "help", argument: topicOf(words), options };
}

/** Of "pause email" it is "pause": whoever asks in the middle of a line has the argument there already. */
function topicOf(words: readonly string[]): string | undefined {
  const isTopic = (topic: string) =>
    Object.keys(commands).some((name) => name === topic || name.startsWith(`${topic} `));
  const topics = words.map((_, i) => words.slice(0, i + 1).join(" "));
  return topics.findLast(isTopic) ?? topics.at(-1);
}

function commandOf(words: readonly string[]): { readonly name: string; readonly rest: readonly string[] } {
  const [first = "", second = ""] = words;
  if (Object.hasOwn(commands, `${first} ${second}`)) return { name: `${first} ${second}`, rest: words.slice(2) };
  if (Object.hasOwn(commands, first)) {
    if (first === "help") {
      const topic = topicOf(words.slice(1));
      return { name: first, rest: topic === undefined ? [] : [topic] };
    }
    return { name: first, rest: words.slice(1) };
  }
  const below = Object.keys(commands).filter((name) => name.startsWith(`${first} `));
  if (second === "" && below.includes(`${first} list`)) return { name: `${first} list`, rest: [] };
  if (below.length > 0) {
    const verbs = below.map((name) => name.slice(first.length + 1));
    refuse(`posthorn ${first} needs one of ${verbs.join(", ")}${second === "" ? "" : `, got ${quote(second)}`}.`);
  }
  const known = [...new Set(Object.keys(commands).map((name) => name.split(" ")[0] ?? name))];
  const near = suggest(first, known);
  const hint = near === undefined ? "" : ` Did you mean "${near}"?`;
  return refuse(`There is no command ${quote(first)}.${hint} Known are: ${known.join(", ")}.`);
}

function givenArguments(name: string, { argument, second }: Command, rest: readonly string[]): readonly string[] {
  const known = [argument, second].filter((one) => one !== undefined);
  if (rest.length > known.length) {
    const takes = known.length === 0 ? "no argument" : known.map((one) => `one ${one.name}`).join(" and ");
    refuse(`posthorn ${name} takes ${takes}, got ${rest.map(quote).join(" ")}.`);
  }
  const missing = known[rest.length];
  if (missing?.required) refuse(`posthorn ${name} needs <${missing.name}>: ${missing.doc}.`);
  return rest;
}

function optionsOf(name: string, command: Command, given: readonly Given[]): Line["options"] {
  const found = new Map<string, string | number | true | readonly string[]>();
  for (const [key, option] of Object.entries(command.options)) {
    if (option.default !== undefined) found.set(key, option.default);
  }
  const seen = new Set<string>();
  for (const { name: key, rawName, value } of given) {
    const option = command.options[key];
    if (option === undefined || !Object.hasOwn(command.options, key)) {
      const known = Object.keys(command.options);
      const near = suggest(key, known);
      const hint =
        near === undefined ? ` Known are: ${known.map((one) => `--${one}`).join(", ")}.` : ` Did you mean --${near}?`;
      refuse(`posthorn ${name} has no option ${quote(rawName)}.${hint}`, { option: key });
    }
    if (seen.has(key) && !option.many && option.type !== "flag")
      refuse(`${rawName} is given twice. Give it once.`, { option: key });
    seen.add(key);
    const checked = checkedValue(option, rawName, value);
    const before = found.get(key);
    found.set(key, option.many ? [...(Array.isArray(before) ? before : []), String(checked)] : checked);
  }
  return found;
}

function checkedValue(option: Option, name: string, value: string | undefined): string | number | true {
  if (option.type === "flag") return value === undefined ? true : refuse(`${name} takes no value.`, { option: name });
  if (value === undefined || value === "") return refuse(`${name} needs a value: ${option.doc}.`, { option: name });
  if (option.type === "text") return value;
  const number = /^\d{1,15}$/.test(value) ? Number(value) : Number.NaN;
  const { min = 0, max = Number.MAX_SAFE_INTEGER } = option;
  if (number >= min && number <= max) return number;
  return refuse(`${name} must be an integer from ${min} to ${max}, got ${quote(value)}.`, { option: name });
}

export function flag({ options }: Line, name: string): boolean {
  return options.get(name) === true;
}

export function text({ options }: Line, name: string): string | undefined {
  const value = options.get(name);
  return typeof value === "string" ? value : undefined;
}

export function texts({ options }: Line, name: string): readonly string[] {
  const value = options.get(name);
  return Array.isArray(value) ? value : [];
}

export function number({ options }: Line, name: string): number {
  return Number(options.get(name));
}
