/**
 * When the limits of the fleet let a reader ask for messages again. The database decides; this remembers what it said, so that the reader
 * rests until then and asks for nothing.
 */
import type { Flow } from "../policies/flow.js";
import type { Claimed, Permitted } from "../store/work.js";
import { claimAgainAfterMs } from "./order.js";

/** A fleet that stays full is asked less and less often: nobody tells when a run of another process ends. */
const longestGuessMs = 500;

export class Permits {
  readonly #now: () => number;
  /** What the database says is a guess: a rate would tell the time. */
  readonly #guesses: boolean;
  /** How often in a row it was in vain. */
  #inVain = 0;
  #until = 0;
  /** Permits are few: the log and what waits outside of it take turns. */
  #turn: "log" | "deferred" = "log";
  #limited: boolean;

  constructor({ fleetConcurrency, keyConcurrency, rateLimit, keyRateLimit }: Flow, now = () => performance.now()) {
    this.#now = now;
    this.#guesses = fleetConcurrency !== undefined && rateLimit === undefined;
    this.#limited = [fleetConcurrency, keyConcurrency, rateLimit, keyRateLimit].some((limit) => limit !== undefined);
  }

  /** Whether there are limits: by the own policy, or by a newer one, as the database has said. */
  get limited(): boolean {
    return this.#limited;
  }

  /** Milliseconds until it pays to ask; 0 for now. */
  get waitMs(): number {
    return Math.max(0, this.#until - this.#now());
  }

  /** Whether what waits outside of the log comes first this time. */
  get yields(): boolean {
    return this.#turn === "deferred";
  }

  /**
   * What the database answered to a claim from the log or a look at what waits, and how many messages came with it. Returns whether a limit left messages
   * for later.
   */
  told(asked: "log" | "deferred", { waitMs }: Permitted, came: number): boolean {
    this.#turn = waitMs !== undefined && asked === "log" ? "deferred" : "log";
    this.#inVain = came === 0 && waitMs !== undefined ? this.#inVain + 1 : 0;
    if (waitMs === undefined) return false;
    this.#limited = true;
    const grown =
      this.#guesses && this.#inVain > 1 ? Math.min(waitMs * 2 ** (this.#inVain - 1), longestGuessMs) : waitMs;
    this.#until = this.#now() + Math.max(waitMs, grown);
    return true;
  }

  /** A run has ended here: there may be room at once. */
  freed(): void {
    this.#inVain = 0;
    this.#until = 0;
  }
}

/** When to try a claim again that met another one, after an uneven pause, or a message that must wait; else undefined. */
export function againAfterMs({ missed, blocked }: Claimed): number | undefined {
  if (missed) return 1 + Math.random() * 4;
  return blocked ? claimAgainAfterMs : undefined;
}
