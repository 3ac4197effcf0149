/**
 * An outage of the other side, as this process sees it: the log is told once when it begins and once when it is over, and not of each message that is put
 * off. What operators are told of the whole fleet is the circuit's.
 */
import type { Logger } from "../core/logger.js";
import type { Ran } from "./run.js";

export interface OutageOptions {
  readonly name: string;
  readonly logger: Logger;
}

export class Outage {
  readonly #options: OutageOptions;
  #since: number | undefined;
  #lastAt = 0;
  #times = 0;

  constructor(options: OutageOptions) {
    this.#options = options;
  }

  /** One has ended so because the other side is away. One that ended for good is told by itself. */
  putOff(ran: Ran): void {
    this.#lastAt = performance.now();
    if (ran.kind === "ended" && ran.end.outcome === "postponed") this.#times += 1;
  }

  /** Those of a call were put off. */
  tell(reason: string | undefined): void {
    if (this.#since !== undefined || this.#times === 0) return;
    this.#since = this.#lastAt;
    const { name, logger } = this.#options;
    const text = `messages of "${name}" are put off, ${this.#times} so far: ${reason}`;
    logger.info(text, { reader: name, messages: this.#times });
  }

  /** Messages have gone out that began then. What began before the last that was put off says nothing. */
  succeeded(begunAt: number): void {
    if (this.#since === undefined || begunAt < this.#lastAt) return;
    const forMs = Math.round(performance.now() - this.#since);
    const times = this.#times;
    this.#since = undefined;
    this.#times = 0;
    const { name, logger } = this.#options;
    const text = `messages of "${name}" go out again after ${forMs} ms; until then they were put off ${times} times`;
    logger.info(text, { reader: name, forMs, times });
  }
}
