/** Tells the log what an intake has put into its list of invalid messages: counts and kinds, and nothing of what a message says. */
import type { Logger } from "../core/logger.js";
import { count } from "../core/words.js";
import { type Counted, inWords, Telling } from "./telling.js";

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

  constructor(options: NotedOptions) {
    this.#options = options;
  }

  /** `kind`: as that of a `Misfit`. */
  note(kind: string): void {
    this.#telling.note(kind, tellMs);
  }

  /** At the end of the work, whatever the time. */
  tellRest(): void {
    this.#telling.tellRest();
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
}
