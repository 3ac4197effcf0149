/**
 * The way out to one broker: opened when it is first needed, and again after it could not be. Many calls at once wait for one opening.
 *
 * What a sender that was opened loses it opens again by itself; nothing here looks at connections.
 */
import type { Broker, Sender } from "../brokers/broker.js";
import type { EnvelopeMode } from "../brokers/envelope.js";
import { reasonOf } from "../core/clean.js";
import { StoppedError } from "../core/errors.js";
import type { Logger } from "../core/logger.js";
import { sharedAbort } from "../core/shared-abort.js";

export interface ConnectionOptions {
  readonly name: string;
  readonly service: string;
  readonly to: Broker;
  readonly mode: EnvelopeMode;
  /** Whether the order of keys is to be kept. */
  readonly ordered: boolean;
  /** A message whose fate is unknown must not be sent again. */
  readonly once: boolean;
  /** How long opening may take. */
  readonly timeoutMs: number;
  readonly logger: Logger;
}

/** The same trouble is told again after so long. A client that tries again and again would fill the log. */
const againMs = 60_000;
/** A client that does not end is left to its fate. */
const closeMs = 5_000;

export class Connection {
  readonly #options: ConnectionOptions;
  /** Each call that is on its way listens to it. */
  readonly #closing = sharedAbort();
  #sender: Promise<Sender> | undefined;
  #told: { readonly text: string; readonly at: number } | undefined;

  constructor(options: ConnectionOptions) {
    this.#options = options;
  }

  /** Fires when it is closed. */
  get closed(): AbortSignal {
    return this.#closing.signal;
  }

  /** Errors: what `Broker.openSender` throws; the next call opens anew. */
  sender(): Promise<Sender> {
    if (this.closed.aborted) return Promise.reject(stopped());
    if (this.#sender === undefined) {
      const opening = this.#open();
      this.#sender = opening;
      opening.catch(() => {
        if (this.#sender === opening) this.#sender = undefined;
      });
    }
    return this.#sender;
  }

  async #open(): Promise<Sender> {
    const { name, service, to, mode, ordered, once, timeoutMs } = this.#options;
    const late = new AbortController();
    const abort = (): void => late.abort(stopped());
    this.closed.addEventListener("abort", abort);
    const timer = setTimeout(() => late.abort(new Error(`it could not be opened within ${timeoutMs} ms`)), timeoutMs);
    const onTrouble = (error: unknown): void => this.#trouble(error);
    const options = { name, service, mode, ordered, once, signal: late.signal, onTrouble };
    // Also where it throws at once.
    const opening = Promise.resolve().then(() => to.openSender(options));
    try {
      return await orAborted(opening, late.signal);
    } catch (error) {
      // Should it come all the same, nobody waits for it.
      opening
        .then(
          (sender) => sender.close(),
          () => undefined,
        )
        .catch(() => undefined);
      throw error;
    } finally {
      clearTimeout(timer);
      this.closed.removeEventListener("abort", abort);
    }
  }

  #trouble(error: unknown): void {
    const { name, to, logger } = this.#options;
    const text = reasonOf(error);
    const now = performance.now();
    if (this.closed.aborted || (this.#told?.text === text && now - this.#told.at < againMs)) return;
    this.#told = { text, at: now };
    logger.warn(`the relay "${name}" has trouble with its broker ${to.kind} ${to.where}: ${text}`, {
      relay: name,
    });
  }

  /** What is on its way has no outcome any more. Never throws. */
  async close(): Promise<void> {
    this.#closing.abort(stopped());
    const sender = await this.#sender?.catch(() => undefined);
    this.#sender = undefined;
    if (sender === undefined) return;
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<void>((resolve) => {
      timer = setTimeout(resolve, closeMs);
    });
    await Promise.race([Promise.resolve(sender.close()).catch(() => undefined), late]);
    clearTimeout(timer);
  }
}

/** The outcome of `work`, or the reason of the signal if that comes first. */
export function orAborted<T>(work: Promise<T>, signal: AbortSignal): Promise<T> {
  return new Promise((resolve, reject) => {
    const abort = (): void => reject(signal.reason);
    if (signal.aborted) abort();
    signal.addEventListener("abort", abort, { once: true });
    work.then(resolve, reject).finally(() => signal.removeEventListener("abort", abort));
  });
}

function stopped(): StoppedError {
  return new StoppedError("PH_STOPPED", "The relay was stopped.");
}
