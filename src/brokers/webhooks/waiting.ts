/**
 * The webhooks that were taken from the network and are not committed yet. Each is answered once: stored, or not.
 *
 * A webhook that was told "not now" before an intake took it is forgotten; one that an intake holds may still be committed, and its sender, who sends it
 * again, meets the inbox.
 */
import { Arrival } from "../arrival.js";
import type { Incoming, Receiver } from "../broker.js";

export interface WaitingLimits {
  readonly maxPending: number;
  readonly maxPendingBytes: number;
}

export type Message = Omit<Incoming, "handle">;

/** What became of a webhook. `full`: there is no room. `late`: nobody has stored it in time. `idle`: no intake is there, or it ended. */
export type Outcome = "stored" | "full" | "late" | "idle";

interface Pending {
  readonly incoming: Incoming;
  readonly answer: (outcome: Outcome) => void;
}

/** What a message is known by, for the receiver alone. */
class Handle {
  readonly pending: Pending;
  constructor(message: Message, answer: (outcome: Outcome) => void) {
    this.pending = { incoming: { ...message, handle: this }, answer };
  }
}

export class Waiting {
  readonly #limits: WaitingLimits;
  /** In the order in which they came. */
  readonly #queue = new Set<Pending>();
  readonly #receivers = new Set<WaitingReceiver>();
  /** What is in the queue or held by a receiver. */
  #count = 0;
  #bytes = 0;

  constructor(limits: WaitingLimits) {
    this.#limits = limits;
  }

  /** Why nothing more is taken now; undefined where an intake is there, and there is room for one more. */
  get closed(): "full" | "idle" | undefined {
    const { maxPending, maxPendingBytes } = this.#limits;
    if (this.#receivers.size === 0) return "idle";
    return this.#count < maxPending && this.#bytes < maxPendingBytes ? undefined : "full";
  }

  /** Ends once the message is stored, or is not going to be: then it is its sender's again. */
  async store(message: Message, withinMs: number): Promise<Outcome> {
    if (this.closed !== undefined) return this.closed;
    const { length } = message.body;
    this.#count += 1;
    this.#bytes += length;
    let timer: NodeJS.Timeout | undefined;
    try {
      return await new Promise<Outcome>((resolve) => {
        const { pending } = new Handle(message, resolve);
        timer = setTimeout(() => {
          this.#queue.delete(pending);
          resolve("late");
        }, withinMs);
        this.#queue.add(pending);
        for (const receiver of this.#receivers) receiver.wake();
      });
    } finally {
      clearTimeout(timer);
      this.#count -= 1;
      this.#bytes -= length;
    }
  }

  receiver(): Receiver {
    const receiver = new WaitingReceiver({
      take: (max) => this.#take(max),
      left: (held) => this.#left(receiver, held),
    });
    this.#receivers.add(receiver);
    return receiver;
  }

  #take(max: number): readonly Pending[] {
    const taken: Pending[] = [];
    for (const pending of this.#queue) {
      if (taken.length >= max) break;
      this.#queue.delete(pending);
      taken.push(pending);
    }
    return taken;
  }

  #left(receiver: WaitingReceiver, held: Iterable<Pending>): void {
    this.#receivers.delete(receiver);
    const unanswered = this.#receivers.size > 0 ? [...held] : [...held, ...this.#queue];
    for (const pending of unanswered) {
      this.#queue.delete(pending);
      pending.answer("idle");
    }
  }
}

interface Source {
  readonly take: (max: number) => readonly Pending[];
  readonly left: (held: Iterable<Pending>) => void;
}

/** What one intake has taken and not acknowledged. */
class WaitingReceiver implements Receiver {
  readonly #source: Source;
  readonly #held = new Set<Pending>();
  readonly #arrival = new Arrival();

  constructor(source: Source) {
    this.#source = source;
  }

  wake(): void {
    this.#arrival.tell();
  }

  async receive({ max, waitMs, signal }: Parameters<Receiver["receive"]>[0]): Promise<readonly Incoming[]> {
    let taken = this.#source.take(max);
    if (taken.length === 0 && !signal.aborted) {
      await this.#arrival.wait(waitMs, signal);
      taken = this.#source.take(max);
    }
    for (const pending of taken) this.#held.add(pending);
    return taken.map(({ incoming }) => incoming);
  }

  async acknowledge(messages: readonly Incoming[]): Promise<void> {
    for (const { handle } of messages) {
      if (!(handle instanceof Handle) || !this.#held.delete(handle.pending)) continue;
      handle.pending.answer("stored");
    }
  }

  async close(): Promise<void> {
    this.wake();
    this.#source.left(this.#held);
    this.#held.clear();
  }
}
