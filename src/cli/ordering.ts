/** What commands have in common that change many messages: they ask first, show how far they are, and say how to go on with what was interrupted. */
import type { Executor } from "../core/database.js";
import { ConfigurationError } from "../core/errors.js";
import { drive } from "../maintenance/operation.js";
import type { Operation } from "../store/operations.js";
import type { Io } from "./io.js";
import { flag, type Line } from "./parse.js";
import { grouped } from "./words.js";

/** Asks whoever is there; refuses where nobody is. `what` is a verb with its object: "purge 3 messages of 'email'". */
export async function confirmed(line: Line, io: Io, what: string, count: number): Promise<boolean> {
  if (flag(line, "yes")) return true;
  if (!io.answers) {
    throw new ConfigurationError(
      "PH_CONFIRMATION_MISSING",
      `This would ${what}, and nobody can be asked here. Pass --yes to do it; nothing was changed.`,
      { count },
    );
  }
  return /^y(es)?$/i.test((await io.ask(`${what.charAt(0).toUpperCase()}${what.slice(1)}? [y/N] `)).trim());
}

/** The pace that was asked for; undefined for none. */
export function rateOf({ options }: Line): number | undefined {
  const rate = options.get("rate");
  return typeof rate === "number" ? rate : undefined;
}

interface Driving {
  /** "purged". */
  readonly done: string;
  readonly perSecond?: number | undefined;
}

/** Fewer are done before anybody reads a line about them. */
const fewMessages = 500;
/** Where nobody watches, lines are for a log. */
const logEveryMs = 5_000;

/** Does what is left of an operation. A kill leaves it where it is; its number stands on stderr from the beginning. */
export async function driven(
  executor: Executor,
  begun: Operation,
  line: Line,
  io: Io,
  { done, perSecond }: Driving,
): Promise<Operation> {
  const quiet = flag(line, "json") || (begun.found <= fewMessages && perSecond === undefined);
  if (!quiet)
    io.err(`Operation ${begun.operation}; if it is interrupted: posthorn audit continue ${begun.operation}\n`);
  let toldAt = performance.now();
  const tell = (operation: Operation): void => {
    const words = `${done} ${grouped(operation.done)} of ${grouped(Math.max(operation.found, operation.done))}`;
    io.err(io.watched ? `\r${words}` : `${words}\n`);
    toldAt = performance.now();
  };
  const ended = await drive(executor, begun, {
    perSecond,
    onProgress: (operation) => {
      if (!quiet && (io.watched || performance.now() - toldAt >= logEveryMs)) tell(operation);
    },
  });
  if (!quiet) {
    tell(ended);
    if (io.watched) io.err("\n");
  }
  return ended;
}
