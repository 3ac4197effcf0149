/**
 * The way in: a session that the broker keeps, and an acknowledgement that is sent when the message is stored.
 *
 * The client acknowledges a message when `handleMessage` calls back, and takes no further packet before that; told there of an error, it goes on and
 * leaves the message unacknowledged. It has no call that acknowledges later, so that packet, four bytes, is written to its stream from here.
 */
import type { IPublishPacket } from "mqtt";
import { ConfigurationError } from "../../core/errors.js";
import { clause } from "../../core/words.js";
import { Arrival } from "../arrival.js";
import type { Incoming, OpenOptions, Receiver } from "../broker.js";
import { Link } from "./link.js";
import type { Settings } from "./options.js";
import { incomingOf } from "./packet.js";
import { notAuthorized, reasonInWords } from "./reasons.js";

export async function openMqttReceiver(
  settings: Settings,
  topic: string,
  clientId: string,
  { signal }: OpenOptions,
): Promise<Receiver> {
  const { maxInFlight, sessionMs } = settings;
  const inbox = new Inbox();
  const link = await Link.open(settings, {
    clientId,
    clean: false,
    properties: { sessionExpiryInterval: Math.ceil(sessionMs / 1_000), receiveMaximum: maxInFlight },
    signal,
    prepare: (client) => {
      client.handleMessage = (packet, goOn) => inbox.arrived(packet, goOn);
    },
  });
  try {
    await subscribe(link, topic, settings, signal);
  } catch (error) {
    await link.close();
    throw error;
  }
  // One more than the broker may have on its way: a broker that keeps to it is never held back.
  inbox.limit(maxInFlight + 1);
  return new MqttReceiver(link, inbox);
}

/** Also for a session that has it already: then the broker changes nothing, and sends no kept message again. */
async function subscribe(link: Link, topic: string, { where, timeoutMs, secrets }: Settings, signal: AbortSignal) {
  const code = await new Promise<number>((resolve, reject) => {
    const fail = (why: string) => {
      done();
      reject(new Error(`Subscribing at ${where} failed: ${clause(why)}.`));
    };
    const timer = setTimeout(() => fail(`the broker said nothing for ${timeoutMs} ms`), timeoutMs);
    const aborted = () => fail("it was given up");
    const done = () => {
      clearTimeout(timer);
      signal.removeEventListener("abort", aborted);
    };
    signal.addEventListener("abort", aborted);
    void link.lost.then((error) => fail(error.message));
    link.client.subscribe(topic, { qos: 1, rh: 1 }, (error, _, packet) => {
      const granted = packet?.granted[0];
      if (typeof granted !== "number") return fail(secrets.hide(error?.message ?? "the broker granted nothing"));
      done();
      resolve(granted);
    });
  });
  if (code === 1) return;
  const refused = `The broker does not let this client subscribe to ${where}: ${reasonInWords(code)}.`;
  if (code === 0) {
    const message = `The broker grants ${where} at QoS 0 only, where nothing is acknowledged. Allow QoS 1 there.`;
    throw new ConfigurationError("PH_BROKER_DESTINATION", message, { where });
  }
  // The filter, or a kind of subscription that this broker does not have.
  if ([0x8f, 0x9e, 0xa2].includes(code)) throw new ConfigurationError("PH_BROKER_DESTINATION", refused, { where });
  if (code === notAuthorized)
    throw new ConfigurationError("PH_BROKER_DENIED", `${refused} Give its user the right.`, { where });
  throw new Error(refused);
}

/** A message of this connection: a number means another message on the next one. */
class Handle {
  readonly inbox: Inbox;
  /** Undefined for one that needs no acknowledgement. */
  readonly number: number | undefined;

  constructor(inbox: Inbox, number: number | undefined) {
    this.inbox = inbox;
    this.number = number;
  }
}

const later = new Error("acknowledged when it is stored");

/** What has come and was not received yet. */
class Inbox {
  readonly #messages: Incoming[] = [];
  /** Unlimited at first: the answer to the subscription may come behind whatever waits in the session. */
  #most = Number.POSITIVE_INFINITY;
  /** The client takes no further packet before this is called. */
  #goOn: ((error?: Error) => void) | undefined;
  readonly arrival = new Arrival();

  get isEmpty(): boolean {
    return this.#messages.length === 0;
  }

  /** The receive maximum keeps a broker from sending more; it is not there in version 3.1.1, and not for QoS 0. */
  arrived(packet: IPublishPacket, goOn: (error?: Error) => void): void {
    const number = packet.qos === 0 ? undefined : packet.messageId;
    this.#messages.push(incomingOf(packet, new Handle(this, number)));
    if (this.#messages.length < this.#most) goOn(later);
    else this.#goOn = goOn;
    this.arrival.tell();
  }

  take(max: number): readonly Incoming[] {
    const taken = this.#messages.splice(0, max);
    if (this.#messages.length < this.#most) this.#next();
    return taken;
  }

  /** Without a limit whatever comes is taken, so that the end of the connection is seen. */
  limit(most = Number.POSITIVE_INFINITY): void {
    this.#most = most;
    if (this.#messages.length < most) this.#next();
  }

  #next(): void {
    const goOn = this.#goOn;
    this.#goOn = undefined;
    goOn?.(later);
  }
}

class MqttReceiver implements Receiver {
  readonly #link: Link;
  readonly #inbox: Inbox;

  constructor(link: Link, inbox: Inbox) {
    this.#link = link;
    this.#inbox = inbox;
    void link.lost.then(() => inbox.arrival.tell());
  }

  async receive({ max, waitMs, signal }: Parameters<Receiver["receive"]>[0]): Promise<readonly Incoming[]> {
    if (this.#inbox.isEmpty && this.#link.error === undefined) await this.#inbox.arrival.wait(waitMs, signal);
    // What is left of a lost connection cannot be acknowledged, and comes again on the next.
    if (this.#link.error !== undefined) throw this.#link.error;
    return signal.aborted ? [] : this.#inbox.take(max);
  }

  async acknowledge(messages: readonly Incoming[]): Promise<void> {
    const packets = messages.flatMap(({ handle }) => {
      if (!(handle instanceof Handle) || handle.inbox !== this.#inbox) {
        throw new Error("A message that came by another connection cannot be acknowledged by this one.");
      }
      // PUBACK without a reason is that it was taken, the same in every version.
      return handle.number === undefined ? [] : [0x40, 2, handle.number >> 8, handle.number & 0xff];
    });
    if (this.#link.error !== undefined) throw this.#link.error;
    if (packets.length === 0) return;
    await new Promise<void>((resolve, reject) => {
      this.#link.client.stream.write(Uint8Array.from(packets), (error) => (error ? reject(error) : resolve()));
    });
    if (this.#link.error !== undefined) throw this.#link.error;
  }

  async close(): Promise<void> {
    const closing = this.#link.close();
    this.#inbox.limit();
    await closing;
  }
}
