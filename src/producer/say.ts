/** The verbs of a producer, as types. `Say` writes at once and is awaited; `SayBuffered` belongs to a transaction or handler. */
import type { AnyContract, InputOf, ResultOf } from "../contracts/contract.js";
import type { CancelAnswer } from "../store/cancel.js";
import type { HistoryEntry, ReceiverStatus } from "../store/status.js";

export type Headers = Readonly<Record<string, string>>;

/** What two requests have in common that are the same: a key, or a function of the payload as it was said. */
export type DedupeKey<P> = string | ((payload: P) => string);

interface DedupeOf<P, Mode extends string> {
  /** Within the contract. At most 512 bytes. */
  readonly key: DedupeKey<P>;
  readonly mode: Mode;
}

/** What becomes of a further request with the same key. Everything is decided by the database, also for requests at the same moment. */
export type Dedupe<P = unknown> =
  /** It is dropped, and its receipt is that of the first, for `windowMs` from then on, whatever became of it. */
  | (DedupeOf<P, "drop"> & { readonly windowMs: number; readonly maxWaitMs?: never })
  /** The first runs at once; what follows within the window becomes one message with the latest payload, which runs when it ends. */
  | (DedupeOf<P, "throttle"> & { readonly windowMs: number; readonly maxWaitMs?: never })
  /** It runs `windowMs` after the last request, with its payload; at the latest `maxWaitMs` after the first. */
  | (DedupeOf<P, "debounce"> & { readonly windowMs: number; readonly maxWaitMs?: number })
  /** While one waits, its payload, headers and time are replaced. */
  | (DedupeOf<P, "replace"> & { readonly windowMs?: never; readonly maxWaitMs?: never })
  /** While one waits, it stands for all; while one runs, exactly one more is kept and runs after it. */
  | (DedupeOf<P, "once-more"> & { readonly windowMs?: never; readonly maxWaitMs?: never });

/** All times are on the clock of the database, from when the message is written: in a transaction or handler, at its end. */
export interface SendOptions<P = unknown> {
  /** Facts about the message that are not part of it; at most 8 KB as JSON. */
  readonly headers?: Headers;
  /**
   * Begin no earlier than after this time.
   *
   * Range 0 to 315360000000.
   */
  readonly delayMs?: number;
  /** Begin no earlier than at this time; one in the past means now. Not together with `delayMs`. */
  readonly runAt?: Date;
  /**
   * Begin no run after this time, retries included: the message ends as `expired`. A run that has begun is not stopped.
   *
   * Range 1 to 315360000000.
   */
  readonly expiresInMs?: number;
  /**
   * The class of urgency: higher ones are handled first, and waiting 30 seconds counts as one class more.
   *
   * Default 0. Range -2 to 2.
   */
  readonly priority?: number;
  /** Recognises the same request by a key. */
  readonly dedupe?: Dedupe<P>;
}
export interface PublishOptions {
  /** Facts about the message that are not part of it; at most 8 KB as JSON. */
  readonly headers?: Headers;
}

/** What became of a command. `attempt` counts the failed runs so far; `history` holds each failed or crashed one. Once it has succeeded neither is kept. */
export interface Status<R = unknown> {
  readonly state: ReceiverStatus["state"];
  readonly attempt: number;
  /** When a waiting message is due. */
  readonly dueAt?: Date;
  /** Why it waits or how it ended, in a word. */
  readonly reason?: string;
  /** While it runs: what its handler told last of its progress. */
  readonly progress?: unknown;
  /** While it runs: when somebody asked to cancel it. */
  readonly cancelRequestedAt?: Date;
  /** Of a succeeded message whose contract has a result, for as long as the result is kept. */
  readonly result?: R;
  readonly history: readonly HistoryEntry[];
}

/** What `send` returns. */
export interface Receipt {
  /**
   * The public id: opaque, unguessable, the same that SQL functions return.
   *
   * Errors: inside a transaction or handler `NotCommittedError` until the commit.
   */
  readonly id: string;
  /** Where the message is now. Cost: one statement; for people and tests, not for a hot path. */
  status(): Promise<Status>;
  /**
   * Waits for the end, whatever it is; on time-out the status so far. Range of `withinMs` 0 to a day.
   *
   * Cost: one statement for all that wait in this process, within 5 ms at first and then less and less often, four times a second.
   */
  settled(options: { readonly withinMs: number }): Promise<Status>;
  /**
   * Takes the command back. "cancelled": it waited and will not run. "signalled": it runs, and within about a second the signal of its handler
   * fires; if the handler then fails it is cancelled, and if it succeeds all the same it has succeeded. "too-late": it has ended.
   *
   * Transaction: one of its own, on disk when it returns.
   */
  cancel(): Promise<CancelAnswer>;
}

/** A receipt of a command whose contract has a result. */
export interface ReceiptWithResult<R> extends Receipt {
  status(): Promise<Status<R>>;
  settled(options: { readonly withinMs: number }): Promise<Status<R>>;
  /**
   * Waits for the end, and gives what the handler returned: the output of the result's schema.
   *
   * Errors: `DeadlineError` (PH_RESULT_TIMEOUT) with the status so far; `NoResultError` for a message that did not succeed (PH_NOT_SUCCEEDED, with
   * state, reason and history) or whose result is not kept any more (PH_RESULT_GONE).
   */
  result(options: { readonly withinMs: number }): Promise<R>;
}

export type ReceiptOf<C extends AnyContract> = [ResultOf<C>] extends [never] ? Receipt : ReceiptWithResult<ResultOf<C>>;

export interface Say {
  /**
   * Asks for something to be done: stores the command in its queue.
   *
   * Delivery: to the one handler of the fleet, as often as its queue's policy says.
   * Errors: `WrongKindError`, `ContractViolationError`, `PayloadTooLargeError`, `ContractConflictError`, `DatabaseUnavailableError`.
   * Cost: one round trip, one row, two index entries.
   */
  send<C extends AnyContract<"command">>(
    command: C,
    payload: InputOf<C>,
    options?: SendOptions<InputOf<C>>,
  ): Promise<ReceiptOf<C>>;
  /**
   * Many of one command, in one transaction; all or none. The receipts are in the order of the payloads. An array is read as it is at the call;
   * its payloads must not be changed before the promise settles.
   */
  sendMany<C extends AnyContract<"command">>(
    command: C,
    payloads: Iterable<InputOf<C>>,
    options?: SendOptions<InputOf<C>>,
  ): Promise<ReceiptOf<C>[]>;
  /**
   * Publishes a fact: stores the event in its topic.
   *
   * Delivery: at least once to every subscription, exactly once in effect where its policy says `idempotency: "transaction"`.
   * Errors: as `send`.
   */
  publish<C extends AnyContract<"event">>(event: C, payload: InputOf<C>, options?: PublishOptions): Promise<void>;
  /** Many of one event, in one transaction; all or none, stored in the order of the payloads. */
  publishMany<C extends AnyContract<"event">>(
    event: C,
    payloads: Iterable<InputOf<C>>,
    options?: PublishOptions,
  ): Promise<void>;
}

/**
 * The verbs inside a transaction or handler: they return at once and are not awaited. What they said is written in one statement with
 * the commit or the settlement; nothing goes out from a failed one. Asynchronous schemas run before it and reject it.
 */
export interface SayBuffered {
  send<C extends AnyContract<"command">>(
    command: C,
    payload: InputOf<C>,
    options?: SendOptions<InputOf<C>>,
  ): ReceiptOf<C>;
  publish<C extends AnyContract<"event">>(event: C, payload: InputOf<C>, options?: PublishOptions): void;
}
