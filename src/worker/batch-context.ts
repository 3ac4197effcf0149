/** What a handler of many messages is given. */
import type { BatchOptions } from "../policies/batch.js";
import type { SayBuffered } from "../producer/say.js";
import type { Message } from "./context.js";

/** One message of a batch. */
export interface Batched<Payload> {
  readonly payload: Payload;
  readonly message: Message;
  /** 1 for the first run; counts failures, not crashes. */
  readonly attempt: number;
  /** As in the context of a handler of one: the same for every attempt of this message in this queue or subscription. */
  idempotencyKey(effect?: string): string;
  /**
   * Says that this message failed and the others did not, unless they say so as well: it is treated as if a handler of its own had thrown this
   * error. The first call counts. To be called before the handler ends.
   *
   * Transaction: effects of one message cannot be undone alone, so the whole batch is rolled back, and the others run again at once without it.
   */
  fail(error: unknown): void;
}

/** What the messages of a batch share. What is said here goes out with the settlement of the batch; nothing when all of them failed. */
export interface BaseBatchContext extends SayBuffered {
  /** Fires when the visibility timeout of the batch has passed, or when the worker must let go. */
  readonly signal: AbortSignal;
}

/** `tx` exists only where the policy says `idempotency: "transaction"`; it is one transaction for the whole batch. */
export type BatchContext<I extends string, Tx> = BaseBatchContext &
  (I extends "transaction"
    ? {
        /** Your own client, inside the transaction that also settles all messages of the batch. It cannot end it. */
        readonly tx: Tx;
      }
    : unknown);

/** A handler of many, and how its messages are gathered. */
export interface Many extends BatchOptions {
  readonly handler: (messages: readonly Batched<unknown>[], context: BaseBatchContext) => unknown;
}
