/**
 * Tells a message that its receiver falls over from a receiver that is away.
 *
 * Both look the same for one message: no answer, or that of a gateway. So it is looked at what became of the others: a message that has no luck again and
 * again, while others were acknowledged between its tries, is itself the reason. While nothing goes through nobody is to blame, however long it takes.
 */

/** Once or twice is chance: the receiver has just gone, or just come back. */
const mostTimes = 2;
const remembered = 1_000;

interface Tried {
  /** How many had been acknowledged when it was tried last. */
  readonly acknowledged: number;
  /** How often others were acknowledged between two of its tries. */
  readonly times: number;
  /** Its tries since others were acknowledged. */
  readonly tries: number;
}

export interface Unlucky {
  readonly toBlame: boolean;
  /** How many times as long as the circuit it is put off, so that another message is tried before it. Longer each time that none was. */
  readonly patience: number;
}

const longestPatience = 8;

/** What one process knows of one relay; another learns it by itself. */
export class Suspects {
  #acknowledged = 0;
  /** By message, the longest untried first. */
  readonly #tried = new Map<string, Tried>();

  acknowledged(message: string): void {
    this.#acknowledged += 1;
    if (this.#tried.size > 0) this.#tried.delete(message);
  }

  /** It has no luck: is it itself the reason? */
  unlucky(message: string): Unlucky {
    const before = this.#tried.get(message);
    const othersWent = before !== undefined && before.acknowledged < this.#acknowledged;
    const times = (before?.times ?? 0) + (othersWent ? 1 : 0);
    const tries = othersWent ? 1 : (before?.tries ?? 0) + 1;
    this.#tried.delete(message);
    this.#tried.set(message, { acknowledged: this.#acknowledged, times, tries });
    const [oldest] = this.#tried.keys();
    if (this.#tried.size > remembered && oldest !== undefined) this.#tried.delete(oldest);
    return { toBlame: othersWent && times >= mostTimes, patience: Math.min(2 ** tries, longestPatience) };
  }
}
