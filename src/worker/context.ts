/** What a handler is given beside the payload. */
import { createHash } from "node:crypto";
import type { Headers, SayBuffered } from "../producer/say.js";
import { publicId } from "../store/publish.js";
import type { Delivery } from "../store/work.js";

/** The message around the payload. */
export interface Message {
  /** The public id; the same for every receiver and every attempt. */
  readonly id: string;
  readonly name: string;
  readonly version: number;
  readonly key: string | null;
  readonly publishedAt: Date;
  readonly headers: Headers;
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

/** `tx` exists only where the policy says `idempotency: "transaction"`. */
export type Context<I extends string, Tx> = BaseContext &
  (I extends "transaction"
    ? {
        /** Your own client, inside the transaction that also settles the message. It cannot end it. */
        readonly tx: Tx;
      }
    : unknown);

/** Built once for each run; what costs something is made when it is read. */
export class RunContext implements BaseContext {
  readonly #delivery: Delivery;
  readonly #reader: string;
  readonly #contract: { readonly name: string; readonly version: number };
  readonly #controller: () => AbortController;
  #message: Message | undefined;
  readonly attempt: number;
  readonly send: SayBuffered["send"];
  readonly publish: SayBuffered["publish"];
  readonly progress: BaseContext["progress"];

  constructor(
    delivery: Delivery,
    reader: string,
    contract: { readonly name: string; readonly version: number },
    controller: () => AbortController,
    saying: () => SayBuffered,
    progress: BaseContext["progress"],
  ) {
    this.#delivery = delivery;
    this.#reader = reader;
    this.#contract = contract;
    this.#controller = controller;
    this.progress = progress;
    this.attempt = delivery.attempts + 1;
    // Properties of its own, because users take a context apart, copy it and wrap its verbs.
    this.send = (command, payload, options) => saying().send(command, payload, options);
    this.publish = (event, payload, options) => saying().publish(event, payload, options);
  }

  get signal(): AbortSignal {
    return this.#controller().signal;
  }

  get message(): Message {
    const { key, publishedAt, headers } = this.#delivery;
    this.#message ??= Object.freeze({
      id: publicId(this.#delivery),
      name: this.#contract.name,
      version: this.#contract.version,
      key,
      publishedAt: new Date(publishedAt),
      headers: Object.freeze({ ...headers }),
    });
    return this.#message;
  }

  readonly idempotencyKey = (effect = ""): string =>
    createHash("sha256")
      .update(`${publicId(this.#delivery)}\n${this.#reader}\n${effect}`)
      .digest("hex")
      .slice(0, 32);
}
