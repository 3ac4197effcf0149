/**
 * Sends batches; several may be on their way.
 *
 * Every message gets an outcome, whatever a sender does: throws, answers too few, or never answers. Nothing here is tried again but what a sender has
 * thrown at: sent one by one, it is known whose fault it was.
 */
import type { Outgoing, Sender, Sent } from "../brokers/broker.js";
import { orAborted } from "./connection.js";

export interface SendingOptions {
  readonly sender: () => Promise<Sender>;
  /** Fires when nothing is to be sent any more. */
  readonly closed: AbortSignal;
  readonly timeoutMs: number;
  /** A message whose fate is unknown must not be sent again. */
  readonly once: boolean;
}

/** After the time is over a sender may say what it knows, for a tenth of that time, at most so long. */
const mostGraceMs = 1_000;

export class Sending {
  readonly #options: SendingOptions;

  constructor(options: SendingOptions) {
    this.#options = options;
  }

  /** What became of each. Never rejects. */
  async send(messages: readonly Outgoing[]): Promise<readonly Sent[]> {
    if (messages.length === 0) return [];
    // One time for all of it: it ends before the runs of its messages do.
    const until = performance.now() + this.#options.timeoutMs;
    const { ok, sent } = await this.#attempt(messages, until);
    return ok || messages.length === 1 || this.#options.once ? sent : this.#oneByOne(messages, until);
  }

  /** In their order: of one key there may be several. Where the broker is away, or the time is over, the rest is not tried and waits. */
  async #oneByOne(messages: readonly Outgoing[], until: number): Promise<readonly Sent[]> {
    const outcomes: Sent[] = [];
    let last: Sent | undefined;
    for (const message of messages) {
      if (performance.now() >= until) last = outOfTime;
      if (last?.kind !== "unavailable") [last = unanswered] = (await this.#attempt([message], until)).sent;
      outcomes.push(last);
    }
    return outcomes;
  }

  async #attempt(messages: readonly Outgoing[], until: number): Promise<Attempt> {
    const { closed, timeoutMs } = this.#options;
    const late = new AbortController();
    const abort = (): void => late.abort(closed.reason);
    closed.addEventListener("abort", abort);
    const abandon = (): void => late.abort(new Error(`no acknowledgement within ${timeoutMs} ms`));
    const timer = setTimeout(abandon, until - performance.now());
    try {
      if (closed.aborted) return unsent(messages, closed.reason);
      return await this.#within(messages, late.signal);
    } finally {
      clearTimeout(timer);
      closed.removeEventListener("abort", abort);
    }
  }

  async #within(messages: readonly Outgoing[], signal: AbortSignal): Promise<Attempt> {
    const opened = await orAborted(this.#options.sender(), signal).then(
      (sender) => ({ sender }),
      (error: unknown) => ({ error }),
    );
    if ("error" in opened) return unsent(messages, opened.error);
    try {
      const sent: unknown = await orGivenUp(opened.sender.send(messages, signal), signal, this.#graceMs);
      return isAnswer(sent, messages.length)
        ? { ok: true, sent }
        : misbehaved(messages, noAnswer(sent, messages.length));
    } catch (error) {
      return signal.aborted ? away(messages, signal.reason) : misbehaved(messages, error);
    }
  }

  get #graceMs(): number {
    return Math.min(mostGraceMs, this.#options.timeoutMs / 10);
  }
}

interface Attempt {
  /** False: the sender did what it must not, and nobody knows to which of them. */
  readonly ok: boolean;
  readonly sent: readonly Sent[];
}

const outOfTime: Sent = { kind: "unavailable", error: new Error("its broker takes too long, message by message") };
export const unanswered: Sent = { kind: "failed", error: new Error("its broker gave no answer for it") };

function away(messages: readonly Outgoing[], error: unknown): Attempt {
  return { ok: true, sent: messages.map(() => ({ kind: "unavailable", error })) };
}

/** There is no sender that could have them. */
function unsent(messages: readonly Outgoing[], error: unknown): Attempt {
  return { ok: true, sent: messages.map(() => ({ kind: "unavailable", error, unsent: true })) };
}

const kinds: ReadonlySet<unknown> = new Set(["acknowledged", "refused", "failed", "unavailable"]);

function isAnswer(sent: unknown, count: number): sent is readonly Sent[] {
  if (!Array.isArray(sent) || sent.length !== count) return false;
  return sent.every((one: unknown) => typeof one === "object" && one !== null && "kind" in one && kinds.has(one.kind));
}

function misbehaved(messages: readonly Outgoing[], error: unknown): Attempt {
  return { ok: false, sent: messages.map(() => ({ kind: "failed", error })) };
}

function noAnswer(sent: unknown, count: number): Error {
  const got = Array.isArray(sent) ? `${sent.length} outcomes, or some that are none,` : "no list of outcomes";
  return new Error(`its broker answered ${got} for a batch of ${count}`);
}

/** What a sender answers, until a little after the signal; then the signal's reason is thrown. */
function orGivenUp<T>(answer: Promise<T>, signal: AbortSignal, graceMs: number): Promise<T> {
  return new Promise((resolve, reject) => {
    let timer: NodeJS.Timeout | undefined;
    const abort = (): void => {
      timer = setTimeout(() => reject(signal.reason), graceMs);
    };
    if (signal.aborted) abort();
    signal.addEventListener("abort", abort, { once: true });
    Promise.resolve(answer)
      .then(resolve, reject)
      .finally(() => {
        clearTimeout(timer);
        signal.removeEventListener("abort", abort);
      });
  });
}
