/**
 * Tells the log what an intake has put into its list of invalid messages, and what it has read again for nothing: counts and kinds, and nothing of what a message
 * says. And that it passes over what comes and has never written anything: nothing else shows it.
 */
import type { Logger } from "../core/logger.js";
import { count, durationInWords } from "../core/words.js";
import { type Counted, flat, inWords, Telling } from "./telling.js";

export interface NotedOptions {
  readonly name: string;
  /** Where the broker is, for people. */
  readonly where: string;
  readonly logger: Logger;
}

/** Between two lines of the log. */
const tellMs = 60_000;

export class Noted {
  readonly #options: NotedOptions;
  readonly #telling = new Telling((counted) => this.#tell(counted));
  readonly #again = new Telling((counted) => this.#tellAgain(counted));
  /** The last entry that was read again. */
  #entry = "";
  #toldSkipped = false;

  constructor(options: NotedOptions) {
    this.#options = options;
  }

  /** `kind`: as that of a `Misfit`. */
  note(kind: string): void {
    this.#telling.note(kind, tellMs);
  }

  /** An entry of the list that an operator has redriven, and which fits nothing still. */
  noteAgain(entry: string, kind: string): void {
    this.#entry = entry;
    this.#again.note(kind, tellMs);
  }

  /** Of an intake that has never written anything; told once. `taken`: says of a type which are taken. */
  noteSkipped(type: string, taken: (type: string) => string): void {
    if (this.#toldSkipped) return;
    this.#toldSkipped = true;
    const { name, where, logger } = this.#options;
    const shown = flat(type);
    logger.warn(
      `the intake "${name}" passes over messages from ${where}, and has never written one: no contract has the type ${JSON.stringify(shown)}, and otherTypes is "skip"; ${taken(type)}. If that type was meant, mend typePrefix or name it in types. Passed over is not kept: what is gone has to be sent again`,
      { intake: name, where, type: shown },
    );
  }

  /** At the end of the work, whatever the time. */
  tellRest(): void {
    this.#telling.tellRest();
    this.#again.tellRest();
  }

  #tell(counted: Counted): void {
    const { name, where, logger } = this.#options;
    const { total: invalid, counts } = counted;
    const what = invalid === 1 ? "an invalid message" : `${count(invalid)} invalid messages`;
    logger.warn(
      `the intake "${name}" has listed ${what} from ${where}${inWords(counted)}. To see them: posthorn invalid list --intake ${name}`,
      { intake: name, where, invalid, kinds: Object.fromEntries(counts) },
    );
  }

  #tellAgain(counted: Counted): void {
    const { name, logger } = this.#options;
    const { total: invalid, counts, sinceMs } = counted;
    const since = sinceMs === undefined ? "" : ` in ${durationInWords(sinceMs)}`;
    const what = invalid === 1 ? this.#entry : `${count(invalid)} entries`;
    const fits = invalid === 1 ? "it still does not fit" : "they still do not fit";
    logger.warn(
      `the intake "${name}" has read ${what} again${since}, and ${fits}${inWords({ ...counted, sinceMs: undefined })}. Why: posthorn invalid list --intake ${name}`,
      { intake: name, invalid, kinds: Object.fromEntries(counts) },
    );
  }
}
