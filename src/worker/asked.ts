/** The claim of a reader that is under way, one at most, and the slots that are kept for what it brings. */
import type { Claimed } from "../store/work.js";
import type { Slots } from "./slots.js";

/** Of a claim for so many. */
export interface Answer {
  readonly limit: number;
  readonly read: () => Claimed;
}

export class Asked {
  readonly #slots: Slots | undefined;
  readonly #onRead: () => void;
  #claim: Promise<Answer | undefined> | undefined;
  #kept = 0;
  #unread = false;

  constructor(slots: Slots | undefined, onRead: () => void) {
    this.#slots = slots;
    this.#onRead = onRead;
  }

  get underWay(): boolean {
    return this.#claim !== undefined;
  }

  /** It is under way, or what it brought is not seen yet by those who look whether there is anything to do. */
  get pending(): boolean {
    return this.underWay || this.#unread;
  }

  /** Slots that are kept. */
  get kept(): number {
    return this.#kept;
  }

  send(keep: number, claim: () => Promise<Answer | undefined>): void {
    this.#kept = keep;
    this.#slots?.take(keep);
    this.#claim = claim();
    // It is awaited in the next pass; until then a rejection must not count as unhandled.
    this.#claim.catch(() => undefined);
  }

  /** What it was answered, and for how many messages slots are kept: they are the caller's now. Undefined at once where there is none. */
  async answered(): Promise<{ readonly answer: Answer | undefined; readonly kept: number }> {
    const kept = this.#kept;
    try {
      const answer = await this.#claim;
      this.#unread = answer !== undefined;
      return { answer, kept };
    } catch (error) {
      this.#slots?.give(kept);
      this.#onRead();
      throw error;
    } finally {
      this.#claim = undefined;
      this.#kept = 0;
    }
  }

  /** Call when what was answered is in other hands. */
  wasRead(): void {
    this.#unread = false;
    this.#onRead();
  }

  /** What it brings is nobody's, and slots that are kept for it are given back. */
  async drop(): Promise<void> {
    await this.answered().then(
      ({ kept }) => this.#slots?.give(kept),
      () => undefined,
    );
    this.wasRead();
  }
}
