/**
 * The way out to a stream: one transaction at a time, which appends a part of what waits; what arrives meanwhile goes with the next one.
 *
 * A transaction because Redis, when its memory is full, may refuse one message and take the next: this way a part is taken as a whole or not at all, and
 * nothing overtakes what was refused.
 */
import type { OpenOptions, Outgoing, Sender, Sent } from "../broker.js";
import { Call } from "../call.js";
import type { EnvelopeMode } from "../envelope.js";
import { Reopening } from "../reopening.js";
import { fieldsOf } from "./entry.js";
import { codeOf, said } from "./errors.js";
import { checkStream, Link } from "./link.js";
import type { Settings } from "./options.js";

/** Redis does nothing else while it carries a part out. */
const partMessages = 1_000;
const partBytes = 2_000_000;

/** Errors: as `openSender` of a broker. */
export async function openRedisSender(settings: Settings, options: OpenOptions): Promise<Sender> {
  const sender = new RedisSender(settings, options);
  try {
    await sender.open(options.signal);
  } catch (error) {
    await sender.close();
    throw error;
  }
  return sender;
}

/** One message of one call, on its way. */
interface Entry {
  readonly fields: readonly string[];
  readonly letters: number;
  readonly call: Call;
  readonly index: number;
}

class RedisSender implements Sender {
  readonly #settings: Settings;
  readonly #mode: EnvelopeMode;
  readonly #links: Reopening<Link>;
  readonly #append: readonly string[];
  #queue: Entry[] = [];
  #flight: { readonly calls: ReadonlySet<Call>; readonly link: Link } | undefined;
  #pumping = false;
  #closed = false;

  constructor(settings: Settings, { name, mode, onTrouble }: OpenOptions) {
    const { maxLength } = settings;
    this.#settings = settings;
    this.#mode = mode ?? "binary";
    this.#links = new Reopening((signal) => Link.open(settings, name, signal, onTrouble));
    this.#append = maxLength === undefined ? ["*"] : ["MAXLEN", "~", String(maxLength), "*"];
  }

  async open(signal: AbortSignal): Promise<void> {
    await checkStream(await this.#links.first(signal), this.#settings);
  }

  send(messages: readonly Outgoing[], signal: AbortSignal): Promise<readonly Sent[]> {
    const call = new Call(messages.length);
    if (this.#closed || signal.aborted) {
      call.settleRest(this.#unavailable(this.#closed ? "the sender is closed" : "the call was given up"));
      return call.answer;
    }
    for (const [index, { event }] of messages.entries()) {
      const fields = fieldsOf(event, this.#mode);
      const letters = fields.reduce((sum, field) => sum + field.length, 0);
      this.#queue.push({ fields, letters, call, index });
    }
    const giveUp = () => this.#giveUp(call);
    signal.addEventListener("abort", giveUp, { once: true });
    void this.#pump();
    return call.answer.finally(() => signal.removeEventListener("abort", giveUp));
  }

  async close(): Promise<void> {
    this.#closed = true;
    this.#endAll(this.#unavailable("the sender was closed"));
    for (const call of this.#flight?.calls ?? []) call.settleRest(this.#unavailable("the sender was closed"));
    const ending = this.#links.end();
    this.#flight?.link.close();
    (await ending)?.close();
  }

  /** What is not on its way is not sent; what is on its way alone is not waited for, which ends the connection. */
  #giveUp(call: Call): void {
    call.settleRest(this.#unavailable("the call was given up"));
    const { calls, link } = this.#flight ?? {};
    if (calls !== undefined && [...calls].every(({ ended }) => ended)) link?.close();
  }

  async #pump(): Promise<void> {
    if (this.#pumping) return;
    this.#pumping = true;
    try {
      for (let part = this.#take(); part.length > 0; part = this.#take()) await this.#send(part);
    } finally {
      this.#pumping = false;
    }
  }

  #take(): readonly Entry[] {
    this.#queue = this.#queue.filter(({ call }) => !call.ended);
    let letters = 0;
    let count = 0;
    for (const entry of this.#queue) {
      letters += entry.letters;
      if (count === partMessages || (count > 0 && letters > partBytes)) break;
      count += 1;
    }
    return this.#queue.splice(0, count);
  }

  async #send(part: readonly Entry[]): Promise<void> {
    let unsent = true;
    try {
      const link = await this.#links.current();
      unsent = false;
      this.#flight = { calls: new Set(part.map(({ call }) => call)), link };
      this.#settle(part, await this.#written(link, part));
    } catch (error) {
      const words = said("Redis did not acknowledge it", this.#settings, firstOf(error));
      for (const { call, index } of part) call.settle(index, { kind: "unavailable", error: words, unsent });
      // What waits does not overtake it.
      this.#endAll({ kind: "unavailable", error: words, unsent: true });
    } finally {
      this.#flight = undefined;
    }
  }

  /** The answer for each, in the order of the part. Rejects when Redis took nothing of it, or said nothing about it. */
  async #written(link: Link, part: readonly Entry[]): Promise<readonly (readonly [unknown, unknown])[]> {
    const { stream, replicas, timeoutMs } = this.#settings;
    const answers = await link.run((redis) => {
      const transaction = redis.multi();
      for (const { fields } of part) transaction.xadd(stream, ...this.#append, ...fields);
      return transaction.exec();
    });
    if (answers === null) throw new Error("the transaction was dropped");
    if (replicas > 0) {
      const waitMs = Math.ceil(timeoutMs / 2);
      const copied = await link.run((redis) => redis.wait(replicas, waitMs));
      if (copied < replicas) throw new Error(`${copied} of ${replicas} replicas have it after ${waitMs} ms`);
    }
    return answers;
  }

  #settle(part: readonly Entry[], answers: readonly (readonly [unknown, unknown])[]): void {
    for (const [i, { call, index }] of part.entries()) {
      const [error] = answers[i] ?? [new Error("there is no answer for it")];
      if (error === null || error === undefined) call.settle(index, { kind: "acknowledged" });
      else {
        const words = said("Redis did not take it", this.#settings, error);
        // ERR is about the command itself; every other code is about the server or the stream.
        call.settle(
          index,
          codeOf(error) === "ERR" ? { kind: "failed", error: words } : { kind: "unavailable", error: words },
        );
      }
    }
  }

  #endAll(sent: Sent): void {
    for (const { call, index } of this.#queue.splice(0)) call.settle(index, sent);
  }

  #unavailable(why: string): Sent {
    return { kind: "unavailable", error: new Error(`Redis (${this.#settings.where}) did not acknowledge it: ${why}`) };
  }
}

/** A transaction that was refused says so, and beside it why: the error of its first command that could not be taken. */
function firstOf(error: unknown): unknown {
  if (typeof error !== "object" || error === null || !("previousErrors" in error)) return error;
  const { previousErrors: previous } = error;
  return Array.isArray(previous) && previous.length > 0 ? previous[0] : error;
}
