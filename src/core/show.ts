/**
 * Says in words what a value is, for error messages. Never throws, never prints more than a line, whatever it is given.
 */

const shownLetters = 40;

/** Cuts long or hostile text to one short quoted line. */
export function quote(text: string): string {
  const cut = text.length > shownLetters ? `${text.slice(0, shownLetters)}…` : text;
  const quoted = JSON.stringify(cut);
  return text.length > shownLetters ? `${quoted} (${text.length} letters)` : quoted;
}

/** "the string \"5\"", "NaN", "an array", "an instance of Map". */
export function show(value: unknown): string {
  switch (typeof value) {
    case "string":
      return `the string ${quote(value)}`;
    case "number":
      return Object.is(value, -0) ? "-0" : Number.isFinite(value) ? `the number ${value}` : String(value);
    case "bigint":
      return "a bigint";
    case "boolean":
    case "undefined":
      return String(value);
    case "symbol":
      return "a symbol";
    case "function":
      return "a function";
    default:
      return typeof value === "object" && value !== null ? showObject(value) : "null";
  }
}

function showObject(value: object): string {
  try {
    if (Array.isArray(value)) return "an array";
    if (isPlain(value)) return "an object";
    const made: unknown = value.constructor;
    const name = typeof made === "function" ? made.name : "";
    if (name === "Promise") return "a Promise (is an `await` missing?)";
    return /^[A-Za-z_$][\w$]{0,39}$/.test(name) ? `an instance of ${name}` : "an instance of a class";
  } catch {
    return "an object that cannot be read";
  }
}

/** An object literal of any realm, or one without a prototype. */
export function isPlain(value: object): boolean {
  const prototype: unknown = Object.getPrototypeOf(value);
  if (prototype === null || prototype === Object.prototype) return true;
  return typeof prototype === "object" && !Array.isArray(value) && Object.getPrototypeOf(prototype) === null;
}
