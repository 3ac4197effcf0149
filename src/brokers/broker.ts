/**
 * What a broker is to a relay and an intake: somewhere to send batches to, and somewhere to receive them from. One file per broker makes one.
 *
 * A broker decides nothing: what is tried again, put off or given up is decided by the policy of the relay, with what `Sent` says; what is written
 * once is decided by the intake. A broker keeps the order of one call, waits for the other side's own acknowledgement, and says the truth about it.
 */
import type { CloudEvent, EnvelopeMode, HeaderStyle } from "./envelope.js";
import type { OneWay } from "./one-way.js";

/** What a broker can do, as data: the conformance suite is switched by it, and the table in the docs is made from it. */
export interface BrokerFeatures {
  /** A send ends with the broker's own acknowledgement. A broker without is refused by a relay unless it is `lossy`. */
  readonly acknowledges: boolean;
  /** What it can be: the end of a relay, the beginning of an intake. */
  readonly sends: boolean;
  readonly receives: boolean;
  /**
   * Messages are pushed into this process, and another one cannot take them in: every worker runs such an intake, and there is no order across them.
   * Without it one worker of the fleet receives, and others stand by.
   */
  readonly pushed?: boolean;
  /** Within what it keeps the order of what was sent to it: everything of one destination, one key, or nothing. */
  readonly order: "destination" | "key" | "none";
  /** It drops by itself what was sent twice with one id, for a while. */
  readonly deduplicates: boolean;
  /** What it does not have is noticed at start: a topic, a queue, a stream. */
  readonly checksDestination: boolean;
  /** A received message has a place in the broker that is the same when it comes again: an offset, a sequence, an id that the broker gave. */
  readonly stablePosition: boolean;
  /** How a CloudEvent travels unless told otherwise. */
  readonly mode: EnvelopeMode;
}

/** What a relay and an intake are given: made by `mqtt()`, `kafka()` and so on. Nothing is loaded or opened before it is used. */
export interface Broker {
  /** "mqtt", "kafka" …: the name of its entry. */
  readonly kind: string;
  /** Where it is, for people: never with a user, a password or a token in it. */
  readonly where: string;
  readonly features: BrokerFeatures;
  /** How attributes are called in its headers: what a relay encodes with and an intake decodes with. */
  readonly style: HeaderStyle;
  /**
   * How many messages it has on their way at once, 1 or more; what it is given beyond only waits in this process. A relay hands over at most twice as
   * many, so that none of them waits for longer than it takes to send another. Without it there is no such number.
   */
  readonly atOnce?: number;
  /**
   * How long it was told to wait for the answer to a message, in milliseconds; without it nobody has said a time. A relay that gives up before is refused,
   * because that time would never be reached.
   */
  readonly timeoutMs?: number;
  /** Options that it was given and only one of its ways reads, the same object for as long as it lives. Without it nothing is refused of them. */
  readonly oneWay?: OneWay;
  /**
   * Opens the way out. Loads its client, connects, and looks whether the destination is there.
   *
   * Errors: `ConfigurationError` for what waiting does not mend: no client installed, no such destination, credentials that are refused, TLS that does not fit.
   * It fails the start; later it is told with what is to be done, and the call is made again like after any other. Whatever else is thrown means that the
   * broker is away.
   */
  openSender(options: OpenOptions): Promise<Sender>;
  /** Opens the way in. Errors: as `openSender`. */
  openReceiver(options: OpenOptions): Promise<Receiver>;
  /**
   * What on the other side this intake would read by, of which there is one: its consumer, group, session or queue, with the place where that is. Two
   * intakes that read by the same would each get a part of the messages, so the second is refused at its declaration. A part of a sentence, without a
   * user, a password or a token in it. Without it, or undefined: nothing is compared.
   */
  readsBy?(party: Party): string | undefined;
  /**
   * Of what is pushed to: has `listener` told of each message that it turns away by itself, before anything of it could be received, for as long as the
   * process lives. Its sender is answered by the broker, and may be anybody; this is for who runs the receiving side. May be called by many.
   */
  onRefused?(listener: (refusal: Refusal) => void): void;
}

/** Something that was turned away. */
export interface Refusal {
  /** Why, as the part of a sentence: one of a few texts of the broker, with nothing of the message in it. */
  readonly reason: string;
  /** It bore what a sender bears that means this place. The rest is what any open port gets, and raises no alert. */
  readonly meant: boolean;
}

/** Who opens a broker. */
export interface Party {
  /** The service that the relay or intake is of. */
  readonly service: string;
  /** The name of the relay or intake: the client shows it to the broker where it can. */
  readonly name: string;
}

export interface OpenOptions extends Party {
  /** Gives up opening. */
  readonly signal: AbortSignal;
  /** How events travel on the way out; `features.mode` where it is not said. The way in understands both. */
  readonly mode?: EnvelopeMode;
  /** False where nobody wants the order of keys: what would hold up messages of one key for its sake need not. Where it is not said it is wanted. */
  readonly ordered?: boolean;
  /** Nothing may be there twice: what may have been taken is not sent again by the sender itself, whose answer is then that nobody knows. Where it is not said it may. */
  readonly once?: boolean;
  /** For what a client tells out of turn, a connection lost while nothing is on its way. Never given a payload or a credential. */
  readonly onTrouble: (error: unknown) => void;
  /** For what a receiver goes on after by itself, and which somebody should hear of: messages that were lost, or are all read again. Without it: `onTrouble`. */
  readonly onNotice?: (error: unknown) => void;
  /** It was open before in this process, with the same broker: what is missing now was lost, and did not have to be made yet. */
  readonly again?: boolean;
}

/** The way out. */
export interface Sender {
  /**
   * Sends these in their order and waits for the acknowledgement of each; the answer has one entry for each, in the same order. May be called again
   * before an earlier call has ended. A connection that was lost is opened again by a later call.
   *
   * Never throws for what the broker says or does not say. When `signal` fires, what has no acknowledgement yet is "unavailable".
   */
  send(messages: readonly Outgoing[], signal: AbortSignal): Promise<readonly Sent[]>;
  /** Closes what it opened. Never throws; what is on its way may be lost. */
  close(): Promise<void>;
}

export interface Outgoing {
  readonly event: CloudEvent;
  /** What order is kept within; null where it does not matter. Kafka's key, SQS's group, a partition. */
  readonly key: string | null;
}

/** What became of one message. */
export type Sent =
  /** The broker has it: on its disk, where it keeps things there. `duplicate`: it had it already, and says so. */
  | { readonly kind: "acknowledged"; readonly duplicate?: boolean }
  /** For good: whatever is done, the broker will not take this message. Too large, no such route. The reason has no credential in it. */
  | { readonly kind: "refused"; readonly reason: string }
  /** This message, this time: its own retries are for it. */
  | { readonly kind: "failed"; readonly error: unknown; readonly retryAfterMs?: number }
  /**
   * The broker is away or silent, which is not this message's fault. It may have it. A `ConfigurationError` says that somebody has to mend something. `alone`: this is about this message and no other, as the answer to a
   * request of its own; when others are acknowledged meanwhile, again and again, it is its fault all the same. `unsent`: certainly nothing of it has
   * left this process, so that it may be sent later also where nothing may be sent twice.
   */
  | {
      readonly kind: "unavailable";
      readonly error: unknown;
      readonly retryAfterMs?: number;
      readonly alone?: boolean;
      readonly unsent?: boolean;
    };

/** The way in. One call at a time. */
export interface Receiver {
  /**
   * The next messages in the broker's order, at most `max`; waits up to `waitMs` for the first, and not for more. Nothing is acknowledged by it. When
   * `signal` fires it waits no longer, and it may be called again: what it would have given is given then.
   *
   * Errors: whatever is thrown means that the connection is lost: the receiver is closed and opened again, and what was not acknowledged comes again. But
   * for the reason of the signal, and an `AbortError` once it has fired: these mean that nothing came.
   */
  receive(options: {
    readonly max: number;
    readonly waitMs: number;
    readonly signal: AbortSignal;
  }): Promise<readonly Incoming[]>;
  /**
   * Tells the broker that these are stored: of all that was received and is not acknowledged yet, the first ones, in their order; those of one `receive`
   * or of several. Errors: as `receive`; they come again then.
   */
  acknowledge(messages: readonly Incoming[]): Promise<void>;
  /** Closes what it opened; the broker gives what was not acknowledged to somebody else. Never throws. */
  close(): Promise<void>;
}

export interface Incoming {
  /** As the broker carries them, as text, names in lower case, without what the broker itself needs. */
  readonly headers: Readonly<Record<string, string>>;
  readonly contentType: string | undefined;
  readonly body: Uint8Array;
  /** The broker's own key of the message. */
  readonly key?: string;
  /** The id that its sender gave it in the broker's own way: message-id, Nats-Msg-Id, webhook-id. */
  readonly id?: string;
  /** Its place in the broker, the same when it comes again, unique there: "orders/3/17". */
  readonly position?: string;
  /** For the receiver alone. */
  readonly handle: unknown;
}
