/**
 * A broker in memory: a log of messages, of which what was not acknowledged is given again to whoever opens next. It does as the real ones do: one
 * receiver at a time gets the messages, in their order; a receiver that is closed has lost what it did not acknowledge.
 */
import { setTimeout as wait } from "node:timers/promises";
import type { Broker, Incoming, OpenOptions, Receiver } from "../../src/brokers/broker.js";
import { type CloudEvent, type EnvelopeMode, encode, type HeaderStyle } from "../../src/brokers/envelope.js";

export type Carried = Omit<Incoming, "handle">;

export const style: HeaderStyle = { prefix: "ce-", percent: true };

interface Slot {
  readonly message: Carried;
  acknowledged: boolean;
}

export class MemoryBroker implements Broker {
  readonly kind = "memory";
  readonly where: string;
  readonly style = style;
  readonly features = {
    acknowledges: true,
    sends: false,
    receives: true,
    order: "destination",
    deduplicates: false,
    checksDestination: true,
    stablePosition: true,
    mode: "binary",
  } as const;
  readonly #log: Slot[] = [];
  readonly opened: OpenOptions[] = [];
  /** Positions in the order in which they were acknowledged. */
  readonly acknowledged: number[] = [];
  /** How often a message was given to a receiver. */
  given = 0;
  /** What opening throws; undefined while it is there. */
  refuses: unknown;
  /** Called before each step, which waits for it, and throws what it throws. */
  before: (step: "receive" | "acknowledge", count: number) => Promise<void> | void = () => undefined;
  #arrived: () => void = () => undefined;
  #current: MemoryReceiver | undefined;

  constructor(where = "memory/orders") {
    this.where = where;
  }

  put(...messages: readonly (Carried | CloudEvent)[]): void {
    for (const message of messages) {
      this.#log.push({ message: "body" in message ? message : carried(message), acknowledged: false });
    }
    this.#arrived();
  }

  /** What is not acknowledged. */
  get left(): number {
    return this.#log.filter((slot) => !slot.acknowledged).length;
  }

  /** Waited for by whoever opens it. */
  onOpen: (() => Promise<void>) | undefined;

  /** The connection is lost. */
  lose(error: unknown = new Error("the connection was reset")): void {
    this.#current?.lose(error);
  }

  async openSender(): Promise<never> {
    throw new Error("nothing can be sent to this broker");
  }

  async openReceiver(options: OpenOptions): Promise<Receiver> {
    this.opened.push(options);
    await this.onOpen?.();
    if (this.refuses !== undefined) throw this.refuses;
    this.#current = new MemoryReceiver(this, this.#log);
    return this.#current;
  }

  /** Settles when something was put, or after so long. */
  async arrival(forMs: number, signal: AbortSignal): Promise<void> {
    const arrived = new Promise<void>((resolve) => {
      this.#arrived = resolve;
    });
    const timer = new AbortController();
    await Promise.race([
      arrived,
      wait(forMs, undefined, { signal: AbortSignal.any([signal, timer.signal]) }).catch(() => undefined),
    ]);
    timer.abort();
  }
}

class MemoryReceiver implements Receiver {
  readonly #broker: MemoryBroker;
  readonly #log: readonly Slot[];
  #next = 0;
  #lost: { readonly error: unknown } | undefined;
  #loses: () => void = () => undefined;

  constructor(broker: MemoryBroker, log: readonly Slot[]) {
    this.#broker = broker;
    this.#log = log;
  }

  async receive({ max, waitMs, signal }: { max: number; waitMs: number; signal: AbortSignal }): Promise<Incoming[]> {
    await this.#broker.before("receive", max);
    let found = this.#take(max);
    if (found.length === 0 && waitMs > 0 && this.#lost === undefined) {
      const lost = new Promise<void>((resolve) => {
        this.#loses = resolve;
      });
      await Promise.race([this.#broker.arrival(waitMs, signal), lost]);
      found = this.#take(max);
    }
    if (this.#lost !== undefined) throw this.#lost.error;
    return found;
  }

  #take(max: number): Incoming[] {
    const found: Incoming[] = [];
    for (; this.#next < this.#log.length && found.length < max; this.#next += 1) {
      const slot = this.#log[this.#next];
      if (slot !== undefined && !slot.acknowledged) found.push({ ...slot.message, handle: this.#next });
    }
    this.#broker.given += found.length;
    return found;
  }

  async acknowledge(messages: readonly Incoming[]): Promise<void> {
    await this.#broker.before("acknowledge", messages.length);
    if (this.#lost !== undefined) throw this.#lost.error;
    for (const { handle } of messages) {
      const slot = typeof handle === "number" ? this.#log[handle] : undefined;
      if (slot === undefined || typeof handle !== "number") throw new Error("not a message of this receiver");
      slot.acknowledged = true;
      this.#broker.acknowledged.push(handle);
    }
  }

  lose(error: unknown): void {
    this.#lost = { error };
    this.#loses();
  }

  async close(): Promise<void> {
    this.#lost ??= { error: new Error("the receiver is closed") };
  }
}

let ids = 0;

/** An event as a relay of another service would send it. */
export function cloudEvent(type: string, payload: unknown, more: Partial<CloudEvent> = {}): CloudEvent {
  ids += 1;
  const data = typeof payload === "string" && more.datacontenttype !== undefined ? payload : JSON.stringify(payload);
  return { id: `e-${ids}`, source: "urn:shop", type, extensions: {}, headers: {}, data, ...more };
}

export function carried(event: CloudEvent, mode: EnvelopeMode = "binary"): Carried {
  const { headers, contentType, body } = encode(event, mode, style);
  return { headers: lowered(headers), contentType, body: Buffer.from(body) };
}

function lowered(headers: Readonly<Record<string, string>>): Readonly<Record<string, string>> {
  return Object.fromEntries(Object.entries(headers).map(([name, value]) => [name.toLowerCase(), value]));
}
