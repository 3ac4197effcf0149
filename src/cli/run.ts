/** Reads the line, runs the command, and turns every error into words and an exit code. */
import { readFile } from "node:fs/promises";
import { ConfigurationError, NotBuiltError, PosthornError } from "../core/errors.js";
import { alerts } from "./commands/alerts.js";
import { audit, continueOne, stopOne } from "./commands/audit.js";
import { cancel } from "./commands/cancel.js";
import { check } from "./commands/check.js";
import { errors } from "./commands/errors.js";
import { findInIntakes } from "./commands/find.js";
import { listIntakes, moveName, removeIntake } from "./commands/intakes.js";
import { discardLetters, listLetters, redriveLetters, showLetter } from "./commands/letters.js";
import { migrate } from "./commands/migrate.js";
import { move } from "./commands/move.js";
import { drain, pauseOne, resumeOne } from "./commands/pause.js";
import { policy } from "./commands/policy.js";
import { erase, purge, replay } from "./commands/purge.js";
import { listAll, remove } from "./commands/schedules.js";
import { start } from "./commands/start.js";
import { status } from "./commands/status.js";
import { listReaders, removeReader } from "./commands/subscriptions.js";
import { waiting } from "./commands/waiting.js";
import { why } from "./commands/why.js";
import { helpOf, helpOfAll } from "./help.js";
import { type Io, paint } from "./io.js";
import { flag, type Line, parseLine } from "./parse.js";
import { commands } from "./table.js";

/** Returns the exit code. `main` is the file of the program: beside it lies what it needs to find. */
type Run = (line: Line, io: Io, main: URL) => Promise<number>;

const runs: Readonly<Record<string, Run>> = {
  status,
  waiting,
  why,
  cancel,
  "dead-letters list": (line, io) => listLetters("dead-letters", line, io),
  "dead-letters show": (line, io) => showLetter("dead-letters", line, io),
  "dead-letters redrive": (line, io) => redriveLetters("dead-letters", line, io),
  "dead-letters discard": (line, io) => discardLetters("dead-letters", line, io),
  "invalid list": (line, io) => listLetters("invalid", line, io),
  "invalid show": (line, io) => showLetter("invalid", line, io),
  "invalid redrive": (line, io) => redriveLetters("invalid", line, io),
  "invalid discard": (line, io) => discardLetters("invalid", line, io),
  errors,
  alerts,
  pause: pauseOne,
  resume: resumeOne,
  drain,
  purge,
  replay,
  erase,
  "subscriptions list": listReaders,
  "subscriptions remove": removeReader,
  "intakes list": listIntakes,
  "intakes rename": moveName,
  "intakes find": findInIntakes,
  "intakes remove": removeIntake,
  audit,
  "audit continue": continueOne,
  "audit stop": stopOne,
  "schedules list": listAll,
  "schedules remove": remove,
  policy,
  check,
  migrate,
  move,
  start,
  // Its servers are loaded by whoever wants them.
  dev: async (line, io, main) => (await import("./commands/dev.js")).dev(line, io, new URL("./dev/program.js", main)),
  help,
  version,
};

async function help({ argument, options }: Line, io: Io): Promise<number> {
  const chosen = Object.entries(commands).filter(([name]) => name === argument || name.startsWith(`${argument} `));
  if (options.has("json")) {
    io.out(
      `${JSON.stringify({ commands: Object.fromEntries(argument === undefined ? Object.entries(commands) : chosen) })}\n`,
    );
  } else {
    io.out(chosen.length === 0 ? helpOfAll(io) : chosen.map(([name, command]) => helpOf(io, name, command)).join("\n"));
  }
  if (argument === undefined || chosen.length > 0) return 0;
  throw new ConfigurationError("PH_ARGUMENT_INVALID", `There is no command "${argument}".`);
}

async function version(_line: Line, io: Io, main: URL): Promise<number> {
  const manifest: { version: string } = JSON.parse(await readFile(new URL("../../package.json", main), "utf8"));
  io.out(`${manifest.version}\n`);
  return 0;
}

function exitCodeOf(error: unknown): number {
  return error instanceof ConfigurationError || error instanceof NotBuiltError ? 2 : 1;
}

/** With --json a script reads the error where it reads everything else. */
function tell(error: unknown, json: boolean, io: Io): void {
  const message = error instanceof Error ? error.message : String(error);
  if (json) {
    const { code, facts } = error instanceof PosthornError ? error : { code: "PH_INTERNAL", facts: {} };
    io.out(`${JSON.stringify({ error: { code, message, facts } })}\n`);
    return;
  }
  const code = error instanceof PosthornError ? ` (${error.code})` : "";
  io.err(`${paint(io, "red", "posthorn:")} ${message}${code}\n`);
  if (!(error instanceof PosthornError) && error instanceof Error) io.err(`${error.stack ?? ""}\n`);
}

/** Never throws. Returns the exit code. */
export async function runCommand(args: readonly string[], io: Io, main: URL): Promise<number> {
  let json = args.includes("--json");
  try {
    const line = parseLine(args);
    json = flag(line, "json");
    const run = runs[line.name];
    if (run === undefined) throw new NotBuiltError("PH_NOT_BUILT", `posthorn ${line.name} is not built yet.`);
    return await run(line, io, main);
  } catch (error) {
    tell(error, json, io);
    return exitCodeOf(error);
  }
}
