/** Tells the log what the receiver of an intake went on after by itself: it is over when it is told, so nothing else shows it. */
import { reasonOf } from "../core/clean.js";
import { count, durationInWords } from "../core/words.js";
import type { NotedOptions } from "./noted.js";
import { type Counted, Telling } from "./telling.js";

/** Between two lines of the log. */
const tellMs = 60_000;

export class Notices {
  readonly #options: NotedOptions;
  readonly #telling = new Telling((counted) => this.#tell(counted));
  #last = "";

  constructor(options: NotedOptions) {
    this.#options = options;
  }

  note(error: unknown): void {
    this.#last = reasonOf(error);
    // They differ in their numbers: counted by their texts there would be no bound.
    this.#telling.note("notice", tellMs);
  }

  /** At the end of the work, whatever the time. */
  tellRest(): void {
    this.#telling.tellRest();
  }

  #tell({ total: notices, sinceMs = 0 }: Counted): void {
    const { name, where, logger } = this.#options;
    const many = notices === 1 ? "" : ` (the last of ${count(notices)} in ${durationInWords(sinceMs)})`;
    const reason = this.#last;
    logger.warn(`the intake "${name}" goes on with ${where}: ${reason}${many}`, {
      intake: name,
      where,
      notices,
      reason,
    });
  }
}
