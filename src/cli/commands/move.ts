/** `posthorn move`: moves everything that Posthorn holds to another database. */
import type { Database } from "../../core/database.js";
import { ConfigurationError } from "../../core/errors.js";
import { type MoveStep, move as moveLog, refuseMove } from "../../store/move.js";
import { defaultSchema } from "../../store/schema.js";
import type { Io } from "../io.js";
import { checkedUrl, type Place, schemaOf, withOpened } from "../open.js";
import { flag, type Line, text } from "../parse.js";

/** One page of a copy, or the check of a large log. */
const statementTimeoutMs = 3_600_000;
const options = { statementTimeoutMs, embedded: "own" } as const;

export async function move(line: Line, io: Io): Promise<number> {
  const [from, to] = [given(line, "from"), given(line, "to")];
  const dry = flag(line, "dry-run");
  // A dry run makes nothing, not even an empty folder.
  const within = <T>(work: (source: Database, target: Database) => Promise<T>): Promise<T> =>
    withOpened(from, (source) => withOpened(to, (target) => work(source, target), !dry, options), false, options);
  if (dry) {
    await within((source, target) => refuseMove(source, target));
    io.out(flag(line, "json") ? `${JSON.stringify({ moved: false })}\n` : "Nothing stands in the way of the move.\n");
    return 0;
  }
  const progress = new Progress(io);
  const moved = await within((source, target) =>
    moveLog({ source, target, ...(flag(line, "json") ? {} : { onStep: (step) => progress.tell(step) }) }),
  ).finally(() => progress.end());
  if (flag(line, "json")) io.out(`${JSON.stringify({ moved: true, ...moved })}\n`);
  else {
    const rows = Object.entries(moved.rows).map(([table, count]) => `\n  ${table}: ${count.toLocaleString("en")}`);
    const verb = moved.resumed ? "The move had been interrupted and is finished" : "Moved";
    io.out(
      `${verb}: ${moved.from} to ${moved.to}.${rows.join("")}\nPoint the application at the new database. The old one refuses from now on.\n`,
    );
  }
  return 0;
}

/** Both have the installation in a schema of the same name. */
function given(line: Line, option: "from" | "to"): Place {
  const value = text(line, option);
  if (value !== undefined) return { input: checkedUrl(value, option), schema: schemaOf(line) ?? defaultSchema };
  throw new ConfigurationError("PH_ARGUMENT_INVALID", "Name both databases: posthorn move --from <url> --to <url>.");
}

const words = {
  marked: "the target waits for the move",
  still: "the source holds still",
  emptied: "",
  counted: "",
  copied: "the target holds everything",
  left: "the source has left",
  finished: "the target is the owner",
} as const;

/** On a terminal one line that is written over; elsewhere a line for each step and each tenth of a table. */
class Progress {
  readonly #io: Io;
  #tenth = "";
  #open = false;

  constructor(io: Io) {
    this.#io = io;
  }

  tell(step: MoveStep): void {
    const said = this.#said(step);
    if (said === "") return;
    this.#io.err(this.#io.watched ? `\r\u001b[K${said}` : `${said}\n`);
    this.#open = this.#io.watched;
  }

  end(): void {
    if (this.#open) this.#io.err("\n");
  }

  #said(step: MoveStep): string {
    if (step.step === "rescued")
      return step.messages === 0 ? "" : `${step.messages} messages of dead workers were freed`;
    if (step.step !== "copying") return words[step.step];
    const tenth = `${step.table} ${Math.floor((step.rows / step.total) * 10)}`;
    if (tenth === this.#tenth && !this.#io.watched) return "";
    this.#tenth = tenth;
    return `${step.table}: ${step.rows.toLocaleString("en")} of ${step.total.toLocaleString("en")} rows`;
  }
}
