/**
 * The way in from NATS JetStream: pulls from a durable consumer, with an acknowledgement for each message and the stream's confirmation of the last.
 *
 * Up to twice the size of a batch is asked for ahead, so that the next batch is here when the last is stored. A message that takes longer than the consumer
 * waits is sent again by the stream; while the first copy is here, such a copy is dropped.
 */
import { setImmediate as immediate } from "node:timers/promises";
import type { ConsumerInfo } from "@nats-io/jetstream";
import type { Msg, NatsConnection, Subscription } from "@nats-io/transport-node";
import { Arrival } from "../arrival.js";
import type { Incoming, OpenOptions, Receiver } from "../broker.js";
import { untilAborted } from "../until-aborted.js";
import { within } from "../within.js";
import { handBack, openConsumer } from "./consumer.js";
import type { Gap } from "./gap.js";
import { type Link, openLink, streamOf } from "./link.js";
import { NatsIncoming } from "./message.js";
import { refuse, type Settings } from "./options.js";
import { type InStream, Places } from "./place.js";
import { type Left, Takeover } from "./takeover.js";
import { said } from "./way.js";

const ack = Buffer.from("+ACK");
const mostPullMs = 30_000;
const nanos = 1_000_000;

export async function openNatsReceiver(settings: Settings, options: OpenOptions): Promise<Receiver> {
  if (typeof settings.subject === "function") {
    return refuse("nats.subject", "is a function; an intake takes subjects that are known, which may have wildcards");
  }
  const receiver = new NatsReceiver(settings);
  await receiver.open(options);
  return receiver;
}

const madeAgain = ({ name, stream_name: stream }: ConsumerInfo): string =>
  `had lost the consumer ${name} of the stream ${stream}; it was made again, and all that is in the stream comes in.`;

/** A message that is here. What waits to be handed out is kept as it came: most of what is read out of it is needed for a moment only. */
class Held {
  readonly sequence: number;
  /** Where the stream wants the acknowledgement. */
  readonly reply: string;
  #message: Msg | undefined;

  constructor(sequence: number, reply: string, message: Msg) {
    this.sequence = sequence;
    this.reply = reply;
    this.#message = message;
  }

  /** Once. */
  take(): Msg | undefined {
    const message = this.#message;
    this.#message = undefined;
    return message;
  }
}

class NatsReceiver implements Receiver {
  readonly #settings: Settings;
  #link: Link | undefined;
  #subscription: Subscription | undefined;
  #inbox = "";
  #pullSubject = "";
  #pulls = 0;
  #max = 1;
  /** Asked for and not come yet. */
  #asked = 0;
  #mostAtOnce = Number.POSITIVE_INFINITY;
  #heardAt = 0;
  /** A consumer that was made by hand may bound it. */
  #pullMs = mostPullMs;
  #heartbeatMs: number;
  readonly #ahead: Held[] = [];
  readonly #places = new Places();
  #takeover: Takeover<Held> | undefined;
  #gap: Gap | undefined;
  /** Of what has come: the last before a gap, and the first behind it. Looked at together, so that there is one question at a time. */
  readonly #gaps: { readonly last: number; readonly next: number }[] = [];
  #looking = false;
  #onNotice: (error: unknown) => void = () => undefined;
  /** Here and not acknowledged, by sequence, ahead or handed out. */
  readonly #held = new Map<number, Held>();
  #trouble: unknown;
  readonly #arrival = new Arrival();

  constructor(settings: Settings) {
    this.#settings = settings;
    this.#heartbeatMs = Math.min(Math.max(settings.timeoutMs / 2, 500), mostPullMs / 2);
  }

  async open({ name, service, signal, again, onTrouble, onNotice = onTrouble }: OpenOptions): Promise<void> {
    const limit = within(this.#settings.timeoutMs, signal);
    const fail = (error: unknown) => this.#fail(error);
    const link = await openLink(this.#settings, { name, signal: limit, onLost: fail, onRefused: fail });
    this.#link = link;
    try {
      const { info, made, left, gap } = await untilAborted(
        openConsumer(link, this.#settings, { name, service }),
        limit,
      );
      this.#gap = gap;
      this.#onNotice = onNotice;
      const { domain } = this.#settings;
      const api = domain === undefined ? "$JS.API" : `$JS.${domain}.API`;
      this.#pullSubject = `${api}.CONSUMER.MSG.NEXT.${info.stream_name}.${info.name}`;
      this.#mostAtOnce = info.config.max_batch || Number.POSITIVE_INFINITY;
      this.#pullMs = Math.min(mostPullMs, (info.config.max_expires || Number.POSITIVE_INFINITY) / nanos);
      this.#heartbeatMs = Math.min(this.#heartbeatMs, this.#pullMs / 2);
      if (made && again === true) onNotice(new Error(`NATS (${this.#settings.where}) ${madeAgain(info)}`));
      if (left.count > 0) this.#takeover = this.#takeoverOf(link, left);
      this.#inbox = link.client.createInbox();
      this.#subscription = link.connection.subscribe(`${this.#inbox}.*`, {
        callback: (error, message) => (error === null ? this.#arrived(message) : this.#fail(error)),
      });
    } catch (error) {
      await link.close();
      throw said(error, this.#settings);
    }
  }

  async receive({ max, waitMs, signal }: Parameters<Receiver["receive"]>[0]): Promise<readonly Incoming[]> {
    this.#max = max;
    this.#listenForSilence();
    this.#pull(this.#open(), max);
    if (this.#ahead.length === 0 && !signal.aborted) await this.#first(waitMs, signal);
    const link = this.#open();
    const batch = this.#ahead.splice(0, max);
    this.#pull(link, max);
    return this.#handedOut(batch);
  }

  #handedOut(batch: readonly Held[]): readonly Incoming[] {
    const given: Incoming[] = [];
    for (const held of batch) {
      const message = held.take();
      if (message !== undefined) given.push(new NatsIncoming(message, held, this.#placeOf));
    }
    return given;
  }

  readonly #placeOf = (handle: unknown): string => {
    if (!(handle instanceof Held)) return "";
    const { sequence, reply } = handle;
    // A stream that was made anew, or has lost its end, gives a sequence once more. When it was stored tells the two apart.
    return `${this.#settings.stream}/${sequence}@${this.#places.of(reply)?.storedAt}`;
  };

  async acknowledge(messages: readonly Incoming[]): Promise<void> {
    const { connection } = this.#open();
    const held = messages.map(({ handle }) => this.#own(handle));
    const last = held.at(-1);
    if (last === undefined) return;
    try {
      // The server works on them in their order: when it has confirmed the last one, it has them all.
      for (const one of held) if (one !== last) connection.publish(one.reply, ack);
      await connection.request(last.reply, ack, { timeout: this.#settings.timeoutMs });
    } catch (error) {
      this.#fail(error);
      throw this.#trouble;
    }
    for (const { sequence } of held) this.#held.delete(sequence);
  }

  async close(): Promise<void> {
    const link = this.#link;
    this.#fail(new Error("the receiver was closed"));
    this.#takeover?.stop();
    if (link === undefined || link.lost !== undefined) return;
    this.#subscription?.unsubscribe();
    for (const { reply } of [...this.#held.values()].sort((one, other) => one.sequence - other.sequence)) {
      link.connection.publish(reply, handBack);
    }
    this.#held.clear();
    await link.close();
  }

  /** The consumer or the stream may have been removed: opening it again tells. */
  #listenForSilence(): void {
    const silentMs = performance.now() - this.#heardAt;
    if (this.#asked === 0 || silentMs <= 3 * this.#heartbeatMs) return;
    this.#fail(new Error(`NATS has sent neither a message nor a heartbeat for ${Math.round(silentMs)} ms`));
  }

  /** Asks for more when at least a batch is lacking. */
  #pull({ connection }: Link, max: number): void {
    const wanted = Math.max(2 * max, this.#takeover?.count ?? 0);
    const lacking = wanted - this.#asked - this.#ahead.length;
    if (lacking < max) return;
    this.#takeover?.begin();
    const batch = Math.min(lacking, this.#mostAtOnce);
    this.#ask(connection, batch);
  }

  #ask(connection: NatsConnection, batch: number): void {
    if (this.#asked === 0) this.#heardAt = performance.now();
    this.#asked += batch;
    this.#pulls += 1;
    const request = {
      batch,
      expires: Math.round(this.#pullMs * nanos),
      idle_heartbeat: Math.round(this.#heartbeatMs * nanos),
    };
    connection.publish(this.#pullSubject, JSON.stringify(request), { reply: `${this.#inbox}.${this.#pulls}` });
  }

  #arrived(message: Msg): void {
    if (this.#trouble !== undefined) return;
    this.#heardAt = performance.now();
    const { reply = "" } = message;
    const place = this.#places.of(reply);
    if (place !== undefined) this.#came(message, reply, place);
    // What the server says of a pull has the subject of the pull; a message has its own.
    else if (message.subject.startsWith(this.#inbox)) this.#told(message);
    else this.#fail(new Error("NATS has sent a message that is of no stream"));
  }

  #came(message: Msg, reply: string, { sequence, deliveries }: InStream): void {
    this.#asked = Math.max(0, this.#asked - 1);
    const last = this.#gap?.before(sequence);
    // What was sent before lies in no order.
    if (last !== undefined && deliveries === 1) {
      this.#gaps.push({ last, next: sequence });
      if (!this.#looking) void this.#lookForGaps();
    }
    if (this.#held.has(sequence)) return;
    const held = new Held(sequence, reply, message);
    this.#held.set(sequence, held);
    if (this.#takeover !== undefined) {
      this.#takeover.add(sequence, deliveries > 1, held);
      return;
    }
    this.#ahead.push(held);
    this.#arrival.tell();
  }

  /** What has not come may be on its way to a reader that is gone: only what the stream has no more is missing. */
  async #lookForGaps(): Promise<void> {
    this.#looking = true;
    try {
      while (this.#gaps.length > 0) {
        const gaps = this.#gaps.splice(0);
        const { state } = await streamOf(this.#open(), this.#settings);
        const missing = gaps.map(({ last, next }) => Math.max(0, Math.min(next, state.first_seq) - last - 1));
        const count = missing.reduce((sum, one) => sum + one, 0);
        const first = gaps.find((_, i) => (missing[i] ?? 0) > 0);
        if (first === undefined) continue;
        const what = `${count} messages, from ${first.last + 1} on, were removed from the stream before the consumer was given them`;
        this.#onNotice(new Error(`NATS (${this.#settings.where}): ${what}; what is there comes next.`));
      }
    } catch (error) {
      this.#fail(error);
    } finally {
      this.#looking = false;
    }
  }

  #takeoverOf({ connection }: Link, left: Left): Takeover<Held> {
    return new Takeover(left, {
      ask: () => this.#ask(connection, 1),
      done: (messages) => {
        this.#takeover = undefined;
        this.#ahead.push(...messages);
        this.#arrival.tell();
      },
    });
  }

  /** 100: a heartbeat. 404, 408, 409: the pull has ended, with so many that did not come; 409 also when its consumer is no more. */
  #told({ headers }: Msg): void {
    const code = headers?.code ?? 0;
    if (code === 100) return;
    const left = headers?.get("Nats-Pending-Messages");
    this.#asked = left ? Math.max(0, this.#asked - Number(left)) : 0;
    if (code === 404 || code === 408) this.#pull(this.#open(), this.#max);
    else this.#fail(new Error(`NATS has ended the pull: ${headers?.description || "no stream listens"} (${code})`));
  }

  /** Waits for the first, and one turn of the loop for those that came with it. */
  async #first(waitMs: number, signal: AbortSignal): Promise<void> {
    await this.#arrival.wait(waitMs, signal);
    await immediate();
  }

  #open(): Link {
    if (this.#trouble !== undefined) throw this.#trouble;
    if (this.#link === undefined) throw new Error("the receiver is not open");
    return this.#link;
  }

  #own(handle: unknown): Held {
    if (handle instanceof Held && this.#held.get(handle.sequence) === handle) return handle;
    throw new Error("this message was not received here, or is acknowledged already");
  }

  #fail(error: unknown): void {
    this.#trouble ??= said(error, this.#settings);
    this.#arrival.tell();
  }
}
