/**
 * What a former reader has left, in order.
 *
 * The stream sends again what was handed back, but not in the order of the stream, and may send new messages in between. So everything is kept until all that
 * was left is here; then it goes on sorted. What was removed from the stream meanwhile never comes: after a time without any arrival it is not waited for.
 */
import type { Incoming } from "../broker.js";

const quietMs = 2_000;

export interface Left {
  /** The last sequence that was sent to somebody. */
  readonly until: number;
  /** How many of those up to it are not acknowledged. */
  readonly count: number;
}

export class Takeover {
  readonly #left: Left;
  readonly #done: (messages: readonly Incoming[]) => void;
  readonly #here: { readonly sequence: number; readonly message: Incoming }[] = [];
  #missing: number;
  #timer: NodeJS.Timeout | undefined;

  /** `done` is called once, with all that has come, in the order of the stream. */
  constructor(left: Left, done: (messages: readonly Incoming[]) => void) {
    this.#left = left;
    this.#missing = left.count;
    this.#done = done;
  }

  get count(): number {
    return this.#left.count;
  }

  /** From now on messages may come. */
  begin(): void {
    this.#timer ??= setTimeout(() => this.#end(), quietMs);
  }

  /** `again`: the stream has sent it before. Some servers say of `until` that it is less than it is. */
  add(sequence: number, again: boolean, message: Incoming): void {
    this.#here.push({ sequence, message });
    if (again || sequence <= this.#left.until) this.#missing -= 1;
    if (this.#missing > 0) this.#timer?.refresh();
    else this.#end();
  }

  stop(): void {
    clearTimeout(this.#timer);
  }

  #end(): void {
    this.stop();
    this.#here.sort((one, other) => one.sequence - other.sequence);
    this.#done(this.#here.map(({ message }) => message));
  }
}
