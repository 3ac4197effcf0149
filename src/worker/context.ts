/** What a handler is given beside the payload. */
import { createHash } from "node:crypto";
import { causeOf, headersWithoutCause } from "../producer/cause.js";
import type { Headers, SayBuffered } from "../producer/say.js";
import { publicId } from "../store/publish.js";
import type { Delivery } from "../store/work.js";
import type { Step, Steps } from "./steps.js";

/** The message around the payload. */
export interface Message {
  /** The public id; the same for every receiver and every attempt. */
  readonly id: string;
  readonly name: string;
  /** The version that it was said in. The payload is that of your contract. */
  readonly version: number;
  readonly key: string | null;
  readonly publishedAt: Date;
  readonly headers: Headers;
  /** The message that began it all; its own id where no handler said it. The same for everything that follows from one message. */
  readonly correlationId: string;
  /** The message whose handler said it; null where no handler did. */
  readonly causationId: string | null;
}

export interface BaseContext extends SayBuffered {
  readonly message: Message;
  /** Fires when the visibility timeout has passed, or when the worker must let go. */
  readonly signal: AbortSignal;
  /** 1 for the first run; counts failures, not crashes. */
  readonly attempt: number;
  /**
   * The same for every attempt of this message in this queue or subscription, so that the other side can notice a repetition.
   * One effect, one key: `idempotencyKey("charge")` and `idempotencyKey("mail")` differ. Letters and digits only.
   */
  idempotencyKey(effect?: string): string;
  /**
   * Tells how far the run is: a number from 0 to 1, or a small JSON value. The last one stands in `status().progress` while it runs.
   *
   * Written at most once a second, beside the handler's transaction, and forgotten with the end of the run. Never fails the handler: what is not a
   * value of this kind is told to the logger. On a database with one connection (PGlite, embedded), nothing is shown of a handler in transaction
   * mode, which holds it.
   */
  progress(value: ProgressValue): void;
}

/** How far a run is. */
export type ProgressValue = number | string | readonly unknown[] | { readonly [name: string]: unknown };

/** `tx` exists only where the policy says `idempotency: "transaction"`, `step` only where it says "handler". */
export type Context<I extends string, Tx> = BaseContext &
  (I extends "transaction"
    ? {
        /** Your own client, inside the transaction that also settles the message. It cannot end it. */
        readonly tx: Tx;
      }
    : I extends "handler"
      ? {
          /**
           * Does something once for this message: a later run gets the recorded result instead of running the function again.
           * The name is the identity of the step. Give the other side `idempotencyKey(name)`: a crash between effect and record repeats the effect.
           */
          readonly step: Step;
        }
      : unknown);

/** What a context gets from its run, when it is asked for. */
export interface Behind {
  readonly delivery: Delivery;
  /** Name of the queue or subscription. */
  readonly reader: string;
  readonly contract: { readonly name: string };
  /** Of the contract, as the message was said. */
  readonly version: number;
  readonly signal: AbortSignal;
  /** Where the handler says something. */
  readonly saying: SayBuffered;
  readonly progress: BaseContext["progress"];
  readonly step: Steps["step"];
}

/** Built once for each run; what costs something is made when it is read. */
export class RunContext implements BaseContext {
  readonly #behind: Behind;
  #message: Message | undefined;
  readonly attempt: number;
  // Properties of its own, because users take a context apart, copy it and wrap its verbs.
  readonly send: SayBuffered["send"];
  readonly publish: SayBuffered["publish"];
  readonly progress: BaseContext["progress"];
  readonly idempotencyKey: (effect?: string) => string;
  /** In every mode; where it has no meaning it refuses. */
  readonly step: Steps["step"];

  constructor(behind: Behind) {
    this.#behind = behind;
    this.attempt = behind.delivery.attempts + 1;
    this.send = (command, payload, options) => behind.saying.send(command, payload, options);
    this.progress = behind.progress;
    this.step = behind.step;
    this.publish = (event, payload, options) => behind.saying.publish(event, payload, options);
    this.idempotencyKey = (effect = "") =>
      createHash("sha256")
        .update(`${publicId(behind.delivery)}\n${behind.reader}\n${effect}`)
        .digest("hex")
        .slice(0, 32);
  }

  get signal(): AbortSignal {
    return this.#behind.signal;
  }

  get message(): Message {
    const { delivery, contract, version } = this.#behind;
    if (this.#message !== undefined) return this.#message;
    const { key, publishedAt } = delivery;
    const id = publicId(delivery);
    const { correlationId, causationId } = causeOf(delivery);
    this.#message = Object.freeze({
      id,
      name: contract.name,
      version,
      key,
      publishedAt: new Date(publishedAt),
      headers: Object.freeze(headersWithoutCause(delivery)),
      correlationId: correlationId ?? id,
      causationId,
    });
    return this.#message;
  }
}

/** Of a run whose effects commit with its end. */
export class TransactionRunContext extends RunContext {
  readonly tx: unknown;

  constructor(behind: Behind, tx: unknown) {
    super(behind);
    this.tx = tx;
  }
}
