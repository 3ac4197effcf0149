/**
 * What a former reader has left, in order.
 *
 * The stream sends again what was handed back, but not in the order of the stream, and may send new messages in between. So everything is kept until all that
 * was left is here; then it goes on sorted. What was removed from the stream meanwhile never comes, and a server may stop at it until it is asked for more: after
 * a while without any arrival it is asked, and after some more of that nothing is waited for.
 */
const quietMs = 250;
const mostQuiet = 8;

export interface Left {
  /** The last sequence that was sent to somebody. */
  readonly until: number;
  /** How many of those up to it are not acknowledged. */
  readonly count: number;
}

interface Steps<Message> {
  /** Asks the stream for one more. */
  readonly ask: () => void;
  /** Called once, with all that has come, in the order of the stream. */
  readonly done: (messages: readonly Message[]) => void;
}

export class Takeover<Message> {
  readonly #left: Left;
  readonly #steps: Steps<Message>;
  readonly #here: { readonly sequence: number; readonly message: Message }[] = [];
  #missing: number;
  #quiet = 0;
  #timer: NodeJS.Timeout | undefined;

  constructor(left: Left, steps: Steps<Message>) {
    this.#left = left;
    this.#missing = left.count;
    this.#steps = steps;
  }

  get count(): number {
    return this.#left.count;
  }

  /** From now on messages may come. */
  begin(): void {
    this.#timer ??= setInterval(() => this.#look(), quietMs);
  }

  /** `again`: the stream has sent it before. Some servers say of `until` that it is less than it is. */
  add(sequence: number, again: boolean, message: Message): void {
    this.#quiet = 0;
    this.#here.push({ sequence, message });
    if (again || sequence <= this.#left.until) this.#missing -= 1;
    if (this.#missing === 0) this.#end();
  }

  stop(): void {
    clearInterval(this.#timer);
  }

  #look(): void {
    this.#quiet += 1;
    if (this.#quiet > mostQuiet) this.#end();
    else this.#steps.ask();
  }

  #end(): void {
    this.stop();
    this.#here.sort((one, other) => one.sequence - other.sequence);
    this.#steps.done(this.#here.map(({ message }) => message));
  }
}
