/** One call of `send` whose messages travel with those of other calls: its answer is complete when each message has one. */
import type { Sent } from "./broker.js";

export class Call {
  readonly answer: Promise<readonly Sent[]>;
  readonly #sent: (Sent | undefined)[];
  #open: number;
  #resolve: (sent: readonly Sent[]) => void = () => {};

  constructor(count: number) {
    this.#sent = new Array<Sent | undefined>(count).fill(undefined);
    this.#open = count;
    this.answer = new Promise((resolve) => {
      this.#resolve = resolve;
    });
    if (count === 0) this.#resolve([]);
  }

  get ended(): boolean {
    return this.#open === 0;
  }

  /** The first word about a message is the one that counts. */
  settle(index: number, sent: Sent): void {
    if (this.#sent[index] !== undefined) return;
    this.#sent[index] = sent;
    this.#open -= 1;
    if (this.#open === 0) this.#resolve(this.#sent.filter((one) => one !== undefined));
  }

  settleRest(sent: Sent): void {
    for (let i = 0; i < this.#sent.length; i += 1) this.settle(i, sent);
  }
}
