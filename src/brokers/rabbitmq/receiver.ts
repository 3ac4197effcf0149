/**
 * The way in from RabbitMQ: one consumer with manual acknowledgement.
 *
 * RabbitMQ sends up to twice the size of a batch ahead, so that the next batch is here when the last is stored. What was sent and not acknowledged goes back
 * to its place in the queue when the channel ends, and comes again.
 */
import { setImmediate as immediate } from "node:timers/promises";
import type { Channel } from "rabbitmq-client";
import { ConfigurationError } from "../../core/errors.js";
import { hostAndPort } from "../address.js";
import { Arrival } from "../arrival.js";
import type { Incoming, OpenOptions, Receiver } from "../broker.js";
import { deliveredOf, keepBodies } from "./bodies.js";
import { checkQueue } from "./destination.js";
import { type Link, openLink } from "./link.js";
import { incoming } from "./message.js";
import type { Settings } from "./options.js";
import { said } from "./way.js";

const mostPrefetch = 65_535;

export async function openRabbitMqReceiver(settings: Settings, options: OpenOptions): Promise<Receiver> {
  const { queue } = settings;
  if (queue === undefined) {
    const message = "rabbitmq() has nothing to receive from. Name a queue.";
    throw new ConfigurationError("PH_OPTION_MISSING", message, { path: "rabbitmq.queue" });
  }
  const receiver = new RabbitMqReceiver(settings, queue);
  await receiver.open(options);
  return receiver;
}

class RabbitMqReceiver implements Receiver {
  readonly #settings: Settings;
  readonly #queue: string;
  #link: Link | undefined;
  #consuming = false;
  /** Sent ahead by the broker. */
  readonly #ahead: Incoming[] = [];
  /** Handed out and not acknowledged, in the order of the channel. */
  #open: Handle[] = [];
  #trouble: unknown;
  readonly #arrival = new Arrival();

  constructor(settings: Settings, queue: string) {
    this.#settings = settings;
    this.#queue = queue;
  }

  async open({ name, signal }: OpenOptions): Promise<void> {
    const onTrouble = (error: unknown) => this.#fail(error);
    this.#link = await openLink(this.#settings, { name, signal, onTrouble }, async (channel) => {
      keepBodies(channel);
      channel.on("close", () => this.#fail(new Error("RabbitMQ has closed the channel")));
      channel.on("basic.cancel", () =>
        this.#fail(new Error(`RabbitMQ has ended the consumer: its queue was deleted or moved`)),
      );
      await checkQueue(channel, this.#queue, hostAndPort(this.#settings.address));
    });
  }

  async receive({ max, waitMs, signal }: Parameters<Receiver["receive"]>[0]): Promise<readonly Incoming[]> {
    const channel = this.#channel();
    if (!this.#consuming) await this.#begin(channel, max);
    if (this.#ahead.length === 0 && !signal.aborted) await this.#first(waitMs, signal);
    this.#channel();
    const batch = this.#ahead.splice(0, max);
    for (const { handle } of batch) if (handle instanceof Handle) this.#open.push(handle);
    return batch;
  }

  acknowledge(messages: readonly Incoming[]): Promise<void> {
    try {
      const channel = this.#channel();
      const handles = messages.map(({ handle }) => this.#own(handle));
      for (const handle of handles) handle.open = false;
      const last = this.#open[handles.length - 1];
      // "All up to this one" would settle what was handed out before and is not stored.
      if (last !== undefined && this.#open.slice(0, handles.length).every(({ open }) => !open)) {
        channel.basicAck({ deliveryTag: last.tag, multiple: true });
      } else for (const { tag } of handles) channel.basicAck({ deliveryTag: tag });
      this.#open = this.#open.filter(({ open }) => open);
      return Promise.resolve();
    } catch (error) {
      return Promise.reject(said(error, this.#settings));
    }
  }

  async close(): Promise<void> {
    this.#fail(new Error("the receiver was closed"));
    await this.#link?.close();
  }

  async #begin(channel: Channel, max: number): Promise<void> {
    try {
      await this.#consume(channel, max);
    } catch (error) {
      throw said(error, this.#settings);
    }
  }

  async #consume(channel: Channel, max: number): Promise<void> {
    this.#consuming = true;
    await channel.basicQos({ prefetchCount: Math.min(max * 2, mostPrefetch) });
    await channel.basicConsume({ queue: this.#queue }, (message) => {
      try {
        this.#ahead.push(incoming(deliveredOf(message), new Handle(this, message.deliveryTag)));
      } catch (error) {
        this.#fail(error);
      }
      this.#arrival.tell();
    });
  }

  /** Waits for the first, and one turn of the loop for those that came with it. */
  async #first(waitMs: number, signal: AbortSignal): Promise<void> {
    await this.#arrival.wait(waitMs, signal);
    await immediate();
  }

  #channel(): Channel {
    if (this.#trouble !== undefined) throw this.#trouble;
    if (this.#link === undefined) throw new Error("the receiver is not open");
    return this.#link.channel;
  }

  /** A tag means something on the channel alone that it came by. */
  #own(handle: unknown): Handle {
    if (handle instanceof Handle && handle.receiver === this && handle.open) return handle;
    throw new Error("this message was not received here, or is acknowledged already");
  }

  #fail(error: unknown): void {
    this.#trouble ??= said(error, this.#settings);
    this.#arrival.tell();
  }
}

class Handle {
  readonly receiver: Receiver;
  readonly tag: number;
  /** Handed out and not acknowledged, or still ahead. */
  open = true;

  constructor(receiver: Receiver, tag: number) {
    this.receiver = receiver;
    this.tag = tag;
  }
}
