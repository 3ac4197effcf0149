/**
 * The way in from SQS: polls that wait at SQS, one while nothing comes and several while much does.
 *
 * SQS hides what it has given for a while. That time is prolonged as long as a message waits or is worked on here, and ended at close, so that the next
 * receiver is given at once what was not acknowledged. In a FIFO queue what follows in the same group is held back by SQS until then.
 */
import type { Message } from "@aws-sdk/client-sqs";
import { Arrival } from "../arrival.js";
import type { Incoming, OpenOptions, Receiver } from "../broker.js";
import { atMost } from "../until-aborted.js";
import { openQueue, type Queue } from "./client.js";
import { said } from "./errors.js";
import { incomingOf } from "./message.js";
import type { Settings } from "./options.js";

const batchMessages = 10;
const waitingMessages = 1_000;
const farewellMs = 3_000;

/** Errors: as `openReceiver` of a broker. */
export async function openSqsReceiver(settings: Settings, options: OpenOptions): Promise<Receiver> {
  return new SqsReceiver(settings, await openQueue(settings, options.signal), options);
}

/** A message that SQS hides for this receiver. */
class Hidden {
  readonly receipt: string;
  hiddenUntil: number;

  constructor(receipt: string, hiddenUntil: number) {
    this.receipt = receipt;
    this.hiddenUntil = hiddenUntil;
  }
}

class SqsReceiver implements Receiver {
  readonly #settings: Settings;
  readonly #sqs: Queue;
  readonly #onTrouble: (error: unknown) => void;
  readonly #onNotice: (error: unknown) => void;
  readonly #stop = new AbortController();
  #closed = false;
  readonly #polls = new Set<Promise<void>>();
  readonly #prolonging: NodeJS.Timeout;
  /** What waits, and what was handed out and is not acknowledged, in the order in which it came. */
  readonly #held = new Set<Hidden>();
  #waiting: Incoming[] = [];
  /** How many polls may be on their way. */
  #wanted = 1;
  #failure: { readonly error: unknown } | undefined;
  readonly #arrival = new Arrival();

  constructor(settings: Settings, queue: Queue, { onTrouble, onNotice = onTrouble }: OpenOptions) {
    this.#settings = settings;
    this.#sqs = queue;
    this.#onTrouble = onTrouble;
    this.#onNotice = onNotice;
    this.#prolonging = setInterval(() => void this.#prolong(), settings.visibilityMs / 4);
    this.#prolonging.unref();
  }

  async receive({ max, waitMs, signal }: Parameters<Receiver["receive"]>[0]): Promise<readonly Incoming[]> {
    const until = performance.now() + waitMs;
    while (!signal.aborted) {
      this.#check();
      const given = this.#give(max);
      this.#poll();
      const left = until - performance.now();
      if (given.length > 0 || left <= 0) return given;
      await this.#arrival.wait(left, signal);
    }
    return [];
  }

  async acknowledge(messages: readonly Incoming[]): Promise<void> {
    this.#check();
    const done = messages.flatMap(({ handle }) => (handle instanceof Hidden ? [handle] : []));
    const { library, client, url, limit } = this.#sqs;
    const { DeleteMessageBatchCommand } = library;
    await this.#inBatches(done, async (batch) => {
      const entries = batch.map(({ receipt }, i) => ({ Id: String(i), ReceiptHandle: receipt }));
      const request = new DeleteMessageBatchCommand({ QueueUrl: url, Entries: entries });
      try {
        const { Failed: failed = [] } = await client.send(request, limit(this.#stop.signal));
        const [first] = failed;
        // Its time was over: it comes again, and is known then.
        if (first !== undefined) {
          const text = `${failed.length} of ${batch.length} were not removed: ${first.Code}: ${first.Message}`;
          this.#onNotice(said("SQS did not take the acknowledgement", this.#settings, new Error(text)));
        }
      } catch (error) {
        throw said("SQS did not take the acknowledgement", this.#settings, error);
      }
      for (const one of batch) this.#held.delete(one);
    });
    this.#poll();
  }

  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    clearInterval(this.#prolonging);
    this.#arrival.tell();
    const { pollMs } = this.#settings;
    // SQS would answer a poll that was cut off all the same, and hide what nobody gets.
    if (this.#failure === undefined) await atMost(pollMs + farewellMs, Promise.all(this.#polls));
    if (this.#failure === undefined && this.#held.size > 0) await atMost(farewellMs, this.#hide([...this.#held], 0));
    this.#stop.abort();
    this.#sqs.client.destroy();
  }

  #check(): void {
    if (this.#closed) throw new Error(`SQS (${this.#settings.where}): the receiver is closed`);
    if (this.#failure !== undefined) throw this.#failure.error;
  }

  /** Without what has waited here for longer than SQS hides it: others may have it by now. */
  #give(max: number): readonly Incoming[] {
    const now = performance.now();
    const given: Incoming[] = [];
    while (given.length < max) {
      const next = this.#waiting.shift();
      if (next === undefined) break;
      if (next.handle instanceof Hidden && next.handle.hiddenUntil <= now) this.#held.delete(next.handle);
      else given.push(next);
    }
    return given;
  }

  #poll(): void {
    const isFull = this.#waiting.length >= waitingMessages;
    if (isFull || this.#failure !== undefined || this.#closed) return;
    while (this.#polls.size < this.#wanted) {
      const poll = this.#pollOnce().finally(() => {
        this.#polls.delete(poll);
        this.#arrival.tell();
      });
      this.#polls.add(poll);
    }
  }

  async #pollOnce(): Promise<void> {
    const { visibilityMs, concurrency, queue, pollMs, isFifo } = this.#settings;
    const { library, client, url, limit } = this.#sqs;
    const asked = performance.now();
    try {
      const request = new library.ReceiveMessageCommand({
        QueueUrl: url,
        MaxNumberOfMessages: batchMessages,
        // While several are on their way, only the first of them waits for what may come.
        WaitTimeSeconds: this.#polls.size === 0 ? Math.floor(pollMs / 1_000) : 0,
        VisibilityTimeout: Math.ceil(visibilityMs / 1_000),
        MessageAttributeNames: ["All"],
        MessageSystemAttributeNames: isFifo ? ["MessageGroupId"] : [],
      });
      const { Messages: messages = [] } = await client.send(request, limit(this.#stop.signal, pollMs));
      this.#wanted =
        messages.length === batchMessages
          ? Math.min(concurrency, this.#wanted * 2)
          : messages.length === 0
            ? 1
            : this.#wanted;
      for (const message of messages) this.#add(message, asked + visibilityMs, queue);
    } catch (error) {
      if (!this.#stop.signal.aborted) this.#fail(error);
    }
  }

  #add(message: Message, hiddenUntil: number, queue: string): void {
    if (message.ReceiptHandle === undefined) return;
    const hidden = new Hidden(message.ReceiptHandle, hiddenUntil);
    this.#held.add(hidden);
    this.#waiting.push(incomingOf(message, queue, hidden));
  }

  /** What has half of its time behind it gets all of it again. */
  async #prolong(): Promise<void> {
    const { visibilityMs } = this.#settings;
    const soon = performance.now() + visibilityMs / 2;
    const late = [...this.#held].filter(({ hiddenUntil }) => hiddenUntil < soon);
    const until = performance.now() + visibilityMs;
    try {
      const refused = await this.#hide(late, Math.ceil(visibilityMs / 1_000));
      // What keeps its time is not given out once that is over, and asked for again until then.
      for (const one of late) if (!refused.has(one)) one.hiddenUntil = until;
    } catch (error) {
      this.#onNotice(said("SQS did not prolong the time of messages", this.#settings, error));
    }
  }

  /** Those that SQS did not do it for: their time was over, or it could not. */
  async #hide(some: readonly Hidden[], seconds: number): Promise<ReadonlySet<Hidden>> {
    const { library, client, url, limit } = this.#sqs;
    const { ChangeMessageVisibilityBatchCommand } = library;
    const refused = new Set<Hidden>();
    await this.#inBatches(some, async (batch) => {
      const entries = batch.map(({ receipt }, i) => ({
        Id: String(i),
        ReceiptHandle: receipt,
        VisibilityTimeout: seconds,
      }));
      const request = new ChangeMessageVisibilityBatchCommand({ QueueUrl: url, Entries: entries });
      const { Failed: failed = [] } = await client.send(request, limit());
      for (const { Id } of failed) {
        const one = batch[Number(Id)];
        if (one !== undefined) refused.add(one);
      }
    });
    return refused;
  }

  /** Tens, several on their way at once. */
  async #inBatches(some: readonly Hidden[], act: (batch: readonly Hidden[]) => Promise<void>): Promise<void> {
    let next = 0;
    const work = async () => {
      while (next < some.length) {
        const batch = some.slice(next, next + batchMessages);
        next += batchMessages;
        await act(batch);
      }
    };
    await Promise.all(Array.from({ length: this.#settings.concurrency }, work));
  }

  #fail(error: unknown): void {
    if (this.#failure !== undefined) return;
    this.#failure = { error: said("SQS is lost", this.#settings, error) };
    this.#onTrouble(this.#failure.error);
    this.#arrival.tell();
  }
}
