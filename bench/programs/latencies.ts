/** Collects how long each message took, until as many have come as were sent. */
const patienceMs = 30_000;

export interface ReceiverCalls {
  /** The milliseconds of the next `count` messages; those that came before the call are counted. */
  readonly take: (count: number) => Promise<readonly number[]>;
}

export class Latencies {
  #taken: number[] = [];
  #check: () => void = () => undefined;

  add(ms: number): void {
    this.#taken.push(ms);
    this.#check();
  }

  take(count: number): Promise<readonly number[]> {
    return new Promise((resolve, reject) => {
      const giveUp = () => reject(new Error(`${this.#taken.length} of ${count} messages came`));
      const timer = setTimeout(giveUp, patienceMs);
      this.#check = () => {
        if (this.#taken.length < count) return;
        clearTimeout(timer);
        this.#check = () => undefined;
        // More than were sent would be no latency of anything.
        if (this.#taken.length > count) giveUp();
        else resolve(this.#taken);
        this.#taken = [];
      };
      this.#check();
    });
  }
}
