/**
 * Checks objects of options against tables of fields.
 *
 * A table is data: the validator, the types of the checked options and docs/reference/options.md all come from it. Nothing is
 * coerced and nothing ignored: an unknown key is refused with the nearest known one, a planned one by name. A key that is
 * present with the value undefined counts as not given.
 */
import { ConfigurationError, NotBuiltError } from "./errors.js";
import { limits } from "./limits.js";
import { isPlain, quote, show } from "./show.js";
import { listOf, suggest, suggestion } from "./suggest.js";

interface FieldBase {
  readonly doc: string;
  /** A field is required, or has a default, or may be absent. */
  readonly required?: true;
}
export interface NumberField extends FieldBase {
  readonly type: "integer" | "duration";
  readonly min: number;
  readonly max: number;
  readonly unit?: string;
  readonly default?: number;
}
export interface BooleanField extends FieldBase {
  readonly type: "boolean";
  readonly default?: boolean;
}
export interface StringField extends FieldBase {
  readonly type: "string";
  readonly maxLength: number;
  readonly default?: string;
  /** The value never appears in a message: it may hold a password. */
  readonly secret?: true;
}
export interface ChoiceField extends FieldBase {
  readonly type: "choice";
  readonly values: readonly string[];
  readonly default?: string;
}
export interface ObjectField extends FieldBase {
  readonly type: "object";
  readonly fields: Fields;
}
/** Anything that a table cannot say; `check` gets the value and its path, returns what to use, and throws. */
export interface CustomField<T = unknown> extends FieldBase {
  readonly type: "custom";
  /** The type in words, for the reference. */
  readonly words: string;
  readonly check: (value: unknown, path: string) => T;
}
/** Planned and not built: refused by name. */
export interface PlannedField extends FieldBase {
  readonly type: "planned";
}
export type Field = NumberField | BooleanField | StringField | ChoiceField | ObjectField | CustomField | PlannedField;
export type Fields = Readonly<Record<string, Field>>;

type ValueOf<F extends Field> = F extends NumberField
  ? number
  : F extends BooleanField
    ? boolean
    : F extends StringField
      ? string
      : F extends { readonly type: "choice"; readonly values: readonly (infer V)[] }
        ? V
        : F extends { readonly type: "object"; readonly fields: infer G extends Fields }
          ? OptionsOf<G>
          : F extends { readonly type: "custom"; readonly check: (value: unknown, path: string) => infer T }
            ? T
            : never;
type Always<T extends Fields> = {
  [N in keyof T]: T[N] extends { readonly required: true } | { readonly default: unknown } ? N : never;
}[keyof T];
type Sometimes<T extends Fields> = {
  [N in keyof T]: T[N] extends PlannedField | { readonly required: true } | { readonly default: unknown } ? never : N;
}[keyof T];
/** The checked options of a table: required ones and those with a default are there, planned ones never. */
export type OptionsOf<T extends Fields> = { readonly [N in Always<T>]: ValueOf<T[N]> } & {
  readonly [N in Sometimes<T>]?: ValueOf<T[N]>;
};

/** What messages know beside the table. */
export interface Wording {
  /** Which of the required fields are decisions of a policy: these are called so where they lack. */
  readonly decisions?: readonly string[];
  /** Options of something else that is easily mixed up with this: each with the sentence that leads there. */
  readonly elsewhere?: Readonly<Record<string, string>>;
}

/**
 * Checks `value` against the table and returns a frozen object of its own with the defaults filled in.
 *
 * Errors: `ConfigurationError` for a value, key or absence; `NotBuiltError` for a planned option.
 */
export function checkOptions<const T extends Fields>(
  value: unknown,
  fields: T,
  path: string,
  wording: Wording = {},
): OptionsOf<T> {
  const given = readObject(value, path);
  refuseUnknown(given, fields, path, wording);
  refuseMissing(given, fields, path, wording);
  const checked: Record<string, unknown> = {};
  for (const [name, field] of Object.entries(fields)) {
    const option = given.get(name);
    if (option !== undefined) checked[name] = checkValue(option, field, `${path}.${name}`);
    else if ("default" in field) checked[name] = field.default;
  }
  return Object.freeze(checked) as OptionsOf<T>;
}

/** Reads each property once, so that a getter cannot show one value to the check and another to the engine. */
function readObject(value: unknown, path: string): ReadonlyMap<string, unknown> {
  if (typeof value !== "object" || value === null || !looksPlain(value)) {
    throw new ConfigurationError("PH_OPTION_INVALID", `${path} takes an object of options, got ${show(value)}.`, {
      path,
    });
  }
  let named: boolean;
  let options: ReadonlyMap<string, unknown>;
  try {
    named = Object.getOwnPropertySymbols(value).length === 0;
    options = new Map(Object.entries(value));
  } catch (cause) {
    throw new ConfigurationError("PH_OPTION_INVALID", `${path} has an option that throws when read.`, { path }, cause);
  }
  if (named) return options;
  throw new ConfigurationError("PH_OPTION_UNKNOWN", `${path} has a symbol as the name of an option.`, { path });
}

/** A proxy may throw at the question. */
function looksPlain(value: object): boolean {
  try {
    return isPlain(value);
  } catch {
    return false;
  }
}

function refuseUnknown(
  given: ReadonlyMap<string, unknown>,
  fields: Fields,
  path: string,
  { elsewhere = {} }: Wording,
): void {
  for (const [name, option] of given) {
    const field = Object.hasOwn(fields, name) ? fields[name] : undefined;
    if (field === undefined) {
      const known = Object.keys(fields).filter((key) => fields[key]?.type !== "planned");
      const lead = Object.hasOwn(elsewhere, name) ? ` ${elsewhere[name]} ${listOf(known)}` : suggestion(name, known);
      const message = `${path} has an unknown option ${quote(name)}.${lead}`;
      throw new ConfigurationError("PH_OPTION_UNKNOWN", message, {
        path,
        option: name.slice(0, limits.nameLength),
        known,
      });
    }
    if (field.type === "planned" && option !== undefined) refusePlanned(`${path}.${name}`);
  }
}

/** Refuses a planned option or value by name. */
export function refusePlanned(path: string): never {
  const message = `${path} is planned and not built yet. Leave it out: it is refused, because to ignore it would break a promise.`;
  throw new NotBuiltError("PH_NOT_BUILT", message, { path });
}

/** All of them at once: whoever writes a policy sees everything that is still to be decided. */
function refuseMissing(
  given: ReadonlyMap<string, unknown>,
  fields: Fields,
  path: string,
  { decisions = [] }: Wording,
): void {
  const missing = Object.entries(fields).filter(([name, { required }]) => required && given.get(name) === undefined);
  if (missing.length === 0) return;
  const names = missing.map(([name]) => name);
  const lines = missing.map(([name, field]) => `\n  ${name}: ${field.doc} (${typeInWords(field)})`);
  const kinds = [
    named(
      "option",
      names.filter((name) => !decisions.includes(name)),
    ),
    named(
      "decision",
      names.filter((name) => decisions.includes(name)),
    ),
  ];
  const what = kinds.filter((kind) => kind !== undefined).join(" and ");
  const message = `${path} lacks ${what}. Add:${lines.join("")}`;
  throw new ConfigurationError("PH_OPTION_MISSING", message, { path, missing: names });
}

/** "the option from", "6 decisions retry, …". */
function named(noun: string, names: readonly string[]): string | undefined {
  if (names.length === 0) return undefined;
  return names.length === 1 ? `the ${noun} ${names[0]}` : `${names.length} ${noun}s ${names.join(", ")}`;
}

function checkValue(value: unknown, field: Field, path: string): unknown {
  switch (field.type) {
    case "integer":
    case "duration":
      return isInteger(value, field.min, field.max) ? value : refuseValue(value, field, path);
    case "boolean":
      return typeof value === "boolean" ? value : refuseValue(value, field, path);
    case "string": {
      const fits = typeof value === "string" && value.length > 0 && value.length <= field.maxLength;
      return fits ? checkLetters(value, path) : refuseValue(value, field, path);
    }
    case "choice":
      return typeof value === "string" && field.values.includes(value) ? value : refuseValue(value, field, path);
    case "object":
      return checkOptions(value, field.fields, path);
    case "custom":
      return field.check(value, path);
    case "planned":
      return refusePlanned(path);
  }
}

/** What no database and no broker takes is refused where it is written, and not by either of them later. */
function checkLetters(value: string, path: string): string {
  if (!value.includes("\0") && value.isWellFormed()) return value;
  const message = `${path} has a NUL character or half of a surrogate pair, which is no text that can be stored or sent.`;
  throw new ConfigurationError("PH_OPTION_INVALID", message, { path });
}

function isInteger(value: unknown, min: number, max: number): value is number {
  return Number.isSafeInteger(value) && !Object.is(value, -0) && Number(value) >= min && Number(value) <= max;
}

function refuseValue(value: unknown, field: Field, path: string): never {
  const near = field.type === "choice" && typeof value === "string" ? suggest(value, field.values) : undefined;
  const hint = near === undefined ? "" : ` Did you mean "${near}"?`;
  const message = `${path} must be ${typeInWords(field)}, got ${showFor(field, value)}.${hint}`;
  throw new ConfigurationError("PH_OPTION_INVALID", message, { path });
}

function showFor(field: Field, value: unknown): string {
  const hidden = field.type === "string" && field.secret === true && typeof value === "string";
  return hidden ? `a string of ${value.length} letters` : show(value);
}

/** "an integer from 1 to 1000", for messages and for the reference. */
export function typeInWords(field: Field): string {
  switch (field.type) {
    case "integer":
      return `an integer from ${field.min} to ${field.max}${field.unit === undefined ? "" : ` ${field.unit}`}`;
    case "duration":
      return `an integer from ${field.min} to ${field.max} (milliseconds)`;
    case "boolean":
      return "true or false";
    case "string":
      return `a string of 1 to ${field.maxLength} letters`;
    case "choice":
      return `one of ${field.values.map((value) => JSON.stringify(value)).join(", ")}`;
    case "object":
      return `an object with ${Object.keys(field.fields).join(", ")}`;
    case "custom":
      return field.words;
    case "planned":
      return "planned, not built yet";
  }
}
