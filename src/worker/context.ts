/** What a handler is given beside the payload. */
import { createHash } from "node:crypto";
import type { Headers, SayBuffered } from "../producer/say.js";
import { publicId } from "../store/publish.js";
import type { Delivery } from "../store/work.js";
import type { Step, Steps } from "./steps.js";

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
}

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
  /** In every mode; where it has no meaning it refuses. */
  readonly step: Steps["step"];

  constructor(
    delivery: Delivery,
    reader: string,
    contract: { readonly name: string; readonly version: number },
    controller: () => AbortController,
    saying: () => SayBuffered,
    step: Steps["step"],
  ) {
    this.#delivery = delivery;
    this.#reader = reader;
    this.#contract = contract;
    this.#controller = controller;
    this.attempt = delivery.attempts + 1;
    this.step = step;
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
