import { inspect } from "node:util";
import { PosthornError } from "./errors.js";

/**
 * Where the library tells what nobody asked for. The console fits as it is; for pino, whose facts come first:
 * `{ info: (text, facts) => pino.info(facts, text), … }`. Never a payload, never a password.
 */
export interface Logger {
  info(message: string, facts?: object): void;
  warn(message: string, facts?: object): void;
  error(message: string, facts?: object): void;
}

/**
 * Facts on one line, and below it the stacks of errors that code is to be mended by. An error that may be repeated comes from the surroundings, its message says
 * all, and it comes again and again while a database is away: it stays on the line.
 */
function brief(facts: object | undefined): string {
  if (facts === undefined) return "";
  const shown: [string, unknown][] = [];
  const stacks: string[] = [];
  for (const [name, value] of Object.entries(facts)) {
    if (value instanceof PosthornError && value.retryable) shown.push([name, `${value.message} (${value.code})`]);
    else if (value instanceof Error) stacks.push(inspect(value));
    else if (isFailure(value)) stacks.push(value.stack);
    else shown.push([name, value]);
  }
  const line =
    shown.length === 0 ? [] : [inspect(Object.fromEntries(shown), { breakLength: Number.POSITIVE_INFINITY })];
  return [...line, ...stacks].join("\n");
}

/** What a handler threw, as it is kept. */
function isFailure(value: unknown): value is { readonly stack: string } {
  return typeof value === "object" && value !== null && "stack" in value && typeof value.stack === "string";
}

/** The fact of information that ends what a warning or an error has begun: who saw the one wants to see the other. */
export const recovered = { recovered: true } as const;

/** Warnings and errors to the console, and that what they told of is over; other information to nobody. All of it to stderr, since stdout is the program's own. */
export const consoleLogger: Logger = {
  info: (message, facts) => {
    if (facts !== undefined && "recovered" in facts) console.warn(`posthorn: ${message}`, brief(facts));
  },
  warn: (message, facts) => console.warn(`posthorn: ${message}`, brief(facts)),
  error: (message, facts) => console.error(`posthorn: ${message}`, brief(facts)),
};

export const silentLogger: Logger = { info: () => undefined, warn: () => undefined, error: () => undefined };
