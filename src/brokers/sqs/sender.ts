/**
 * The way out to SQS: batches of ten, several on their way at once. What belongs to one group is in one batch at a time, so that its order is kept.
 *
 * SQS takes or leaves each entry of a batch by itself. When it leaves one for a reason of its own, an error inside, and takes a later one of that group,
 * the two change places; it has not promised otherwise.
 */

import { ConfigurationError } from "../../core/errors.js";
import type { OpenOptions, Outgoing, Sender, Sent } from "../broker.js";
import { Call } from "../call.js";
import { openQueue, type Queue } from "./client.js";
import { isRefusal, lost, notTaken, said } from "./errors.js";
import { type Encoded, encodeForSqs } from "./message.js";
import type { Settings } from "./options.js";

const batchMessages = 10;

/** Errors: as `openSender` of a broker. */
export async function openSqsSender(settings: Settings, { mode, signal }: OpenOptions): Promise<Sender> {
  if (mode === "binary") {
    const message = 'The mode "binary" has no place in SQS: a message has ten attributes at most. Use "structured".';
    throw new ConfigurationError("PH_OPTION_INVALID", message, { path: "sqs" });
  }
  return new SqsSender(settings, await openQueue(settings, signal));
}

/** One message of one call, on its way. */
interface Entry extends Encoded {
  readonly call: Call;
  readonly index: number;
}

interface Flight {
  readonly entries: readonly Entry[];
  readonly stop: AbortController;
}

class SqsSender implements Sender {
  readonly #settings: Settings;
  readonly #sqs: Queue;
  readonly #flights = new Set<Flight>();
  readonly #busy = new Set<string>();
  #queue: Entry[] = [];
  #closed = false;

  constructor(settings: Settings, queue: Queue) {
    this.#settings = settings;
    this.#sqs = queue;
  }

  send(messages: readonly Outgoing[], signal: AbortSignal): Promise<readonly Sent[]> {
    const call = new Call(messages.length);
    if (this.#closed || signal.aborted) {
      call.settleRest(this.#unavailable(this.#closed ? "the sender is closed" : "the call was given up"));
      return call.answer;
    }
    for (const [index, message] of messages.entries()) {
      this.#queue.push({ ...encodeForSqs(message, this.#settings.isFifo), call, index });
    }
    const giveUp = () => this.#giveUp(call);
    signal.addEventListener("abort", giveUp, { once: true });
    this.#launch();
    return call.answer.finally(() => signal.removeEventListener("abort", giveUp));
  }

  async close(): Promise<void> {
    this.#closed = true;
    const sent = this.#unavailable("the sender was closed");
    for (const { call } of this.#queue.splice(0)) call.settleRest(sent);
    for (const { entries, stop } of this.#flights) {
      for (const { call } of entries) call.settleRest(sent);
      stop.abort();
    }
    this.#sqs.client.destroy();
  }

  /** What is not on its way is not sent; a request with nothing else in it is not waited for. */
  #giveUp(call: Call): void {
    call.settleRest(this.#unavailable("the call was given up"));
    for (const { entries, stop } of this.#flights) if (entries.every((one) => one.call.ended)) stop.abort();
  }

  #launch(): void {
    while (this.#flights.size < this.#settings.concurrency && !this.#closed) {
      const entries = this.#take();
      if (entries.length === 0) return;
      void this.#fly(entries);
    }
  }

  /** The next batch, in the order of the queue; nothing overtakes what waits for its group. */
  #take(): readonly Entry[] {
    const taken: Entry[] = [];
    const left: Entry[] = [];
    const waiting = new Set(this.#busy);
    let bytes = 0;
    for (const entry of this.#queue) {
      if (entry.call.ended) continue;
      const { group } = entry;
      const isFree = group === undefined || !waiting.has(group);
      const fits = taken.length === 0 || bytes + entry.bytes <= this.#sqs.maxBytes;
      if (isFree && fits && taken.length < batchMessages) {
        taken.push(entry);
        bytes += entry.bytes;
      } else {
        left.push(entry);
        if (group !== undefined) waiting.add(group);
      }
    }
    this.#queue = left;
    return taken;
  }

  async #fly(entries: readonly Entry[]): Promise<void> {
    const flight = { entries, stop: new AbortController() };
    const groups = entries.flatMap(({ group }) => group ?? []);
    this.#flights.add(flight);
    for (const group of groups) this.#busy.add(group);
    await this.#deliver(flight);
    for (const group of groups) this.#busy.delete(group);
    this.#flights.delete(flight);
    this.#launch();
  }

  /** Whether SQS took, or refused for good, each of them. */
  async #deliver({ entries, stop }: Flight): Promise<boolean> {
    const { library, client, url, limit } = this.#sqs;
    const numbered = entries.map(({ entry }, i) => ({ ...entry, Id: String(i) }));
    const request = new library.SendMessageBatchCommand({ QueueUrl: url, Entries: numbered });
    try {
      const { Failed: failed = [], Successful: taken = [] } = await client.send(request, limit(stop.signal));
      for (const one of taken) settle(entries, one.Id, { kind: "acknowledged" });
      const left = failed.map((one) => this.#end(entries, one.Id, notTaken(this.#settings, one)));
      for (const { call, index } of entries) call.settle(index, this.#unavailable("the answer does not name it"));
      return left.every((kind) => kind === "refused");
    } catch (error) {
      if (!isRefusal(error)) return this.#endAll(entries, lost(this.#settings, error));
      if (entries.length > 1) return await this.#deliverEach({ entries, stop });
      return this.#endAll(entries, { kind: "refused", reason: said("SQS refuses it", this.#settings, error).message });
    }
  }

  /** What is refused together goes one by one, in its order. */
  async #deliverEach({ entries, stop }: Flight): Promise<boolean> {
    for (const entry of entries) {
      const isDone = await this.#deliver({ entries: [entry], stop });
      if (!isDone) return this.#endAll(entries, this.#unavailable("what stood before it was not taken"));
    }
    return true;
  }

  #end(entries: readonly Entry[], id: string | undefined, sent: Sent): Sent["kind"] {
    settle(entries, id, sent);
    const group = entries[Number(id)]?.group;
    if (sent.kind !== "refused" && group !== undefined) this.#endGroups(new Set([group]), sent);
    return sent.kind;
  }

  #endAll(entries: readonly Entry[], sent: Sent): boolean {
    for (const { call, index } of entries) call.settle(index, sent);
    if (sent.kind === "refused") return true;
    // Without groups each batch stands for itself, and finds out for itself.
    this.#endGroups(new Set(entries.flatMap(({ group }) => group ?? [])), sent);
    return false;
  }

  /** What waits in a group does not overtake what was not taken. */
  #endGroups(groups: ReadonlySet<string>, sent: Sent): void {
    for (const { group, call, index } of this.#queue) {
      if (group !== undefined && groups.has(group))
        call.settle(index, sent.kind === "failed" ? behind(sent.error) : sent);
    }
  }

  #unavailable(why: string): Sent {
    return { kind: "unavailable", error: new Error(`SQS (${this.#settings.where}) did not acknowledge it: ${why}`) };
  }
}

function behind(error: unknown): Sent {
  return { kind: "unavailable", error };
}

function settle(entries: readonly Entry[], id: string | undefined, sent: Sent): void {
  const entry = entries[Number(id)];
  entry?.call.settle(entry.index, sent);
}
