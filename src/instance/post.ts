/// <reference lib="esnext.disposable" preserve="true" />
/** The public face of an instance, as types. */
import type { AnyContract, InputOf, OutputOf, ResultInputOf, ResultOf } from "../contracts/contract.js";
import type { Intake, IntakeOptions } from "../intakes/options.js";
import type { Idempotency, Policy, QueuePolicy, StartFrom } from "../policies/policy.js";
import type { AnswerContext, AskOptions } from "../producer/ask.js";
import type { Receipt, ReceiptOf, Say } from "../producer/say.js";
import type { TransactionContext } from "../producer/transaction.js";
import type { RelayIdempotency, RelayOptions } from "../relays/options.js";
import type { Schedule, ScheduleOptions } from "../schedules/schedule.js";
import type { IntakeLine } from "../store/intakes.js";
import type { BacklogLine, ReceiverStatus } from "../store/status.js";
import type { Operate } from "./operate.js";
import type { Queue, Subscription } from "./queue.js";
import type { Relay } from "./relay.js";
import type { ScalingReport } from "./scaling.js";

export interface StartOptions {
  readonly queues?: readonly string[];
  readonly subscriptions?: readonly string[];
  readonly intakes?: readonly string[];
  /**
   * Stops at SIGINT and SIGTERM as `stop()` does, and ends the process then; a second signal ends it at once.
   *
   * Default false.
   */
  readonly handleSignals?: boolean;
}

export interface StopOptions {
  /**
   * How long running handlers may take to finish; then their signal fires and their messages are handed back.
   *
   * Default 20000. Range 0 to 86400000.
   */
  readonly graceMs?: number;
}

export interface TopicOptions {
  /**
   * How long its messages stay readable at least, whatever `maxBytes` of the log says. Without it as long as the log is kept. Of two that differ the
   * newest start wins.
   *
   * Range 60000 to 315360000000.
   */
  readonly keepMs?: number;
  /**
   * In how many parts its messages lie, those of a key in one of them. Fixed when the topic is made, which publishing to it does as well; another
   * number is refused.
   *
   * Default: the number that it has, 1 for a new topic. Range 1 to 1024.
   */
  readonly lanes?: number;
}

export interface Topic<T extends string = string> {
  readonly name: T;
}

export interface Post<Tx> extends Say, AsyncDisposable {
  readonly service: string;

  /**
   * Declares a queue of commands with its six decisions.
   *
   * Errors: `ConfigurationError` naming every missing decision; `NotBuiltError` for what is planned.
   */
  queue<const Q extends string, const I extends Idempotency>(name: Q, policy: QueuePolicy<I>): Queue<Q, I, Tx>;

  /** Declares a named reader of a topic with its six decisions, and where it starts when it is new. Errors: as `queue`. */
  subscription<const T extends string, const I extends Idempotency>(
    name: string,
    options: Policy<I> & { readonly topic: T; readonly startFrom?: StartFrom },
  ): Subscription<T, I, Tx>;

  /**
   * Declares a relay: a subscription, or the receiver of a queue, whose handler is a broker. It takes whatever is said there, under every name and
   * version, and passes it on as CloudEvents. `start({ subscriptions })` and `start({ queues })` name it like any other.
   *
   * Delivery: at least once, under the same `source` and `id`; settled after the broker's own acknowledgement. While the broker is away nothing is
   * lost and no attempt is burnt: the circuit is open, and delivery goes on by itself.
   * Order: per key where the policy and the broker keep it.
   * Errors: `ConfigurationError` for a missing decision, and for what cannot be kept; from `start()` for a destination that the broker does not have.
   */
  relay<const I extends RelayIdempotency>(name: string, options: RelayOptions<I>): Relay;

  /**
   * Declares how a topic is stored; one that nobody declares is kept like the rest of the log, and lies in one lane. It is made with the first event
   * that this process publishes to it, or with its start.
   *
   * Order: kept per key whatever the number of lanes, because all messages of a key lie in one.
   * Errors: `ConfigurationError` for options, a second declaration, or one after the start; `ContractConflictError` when it is made, for another
   * number of lanes than it has.
   */
  topic<const T extends string>(name: T, options: TopicOptions): Topic<T>;

  /**
   * Declares a schedule: one command for each time of a cron line, in the whole fleet, however many processes declare it.
   *
   * Delivery: sent by any process that was started, within about a second of its time; stored in the transaction that moves the schedule on.
   * It stays until `posthorn schedules remove`, also when nobody declares it any more. Of two that differ the newest start wins.
   * Duplicates: no time is sent twice, whatever is killed and whenever, also when the clock of the database jumps back.
   * Errors: `ConfigurationError` for options, a zone that is unknown, a line that never comes; `WrongKindError` for anything but a command;
   * `ContractViolationError` for a payload that does not fit.
   */
  schedule<C extends AnyContract<"command">>(name: string, options: ScheduleOptions<C>): Schedule;

  /**
   * Declares a way in: takes messages from a broker and writes each to the log once, as if it had been said here.
   *
   * Delivery: acknowledged to the broker after the commit, so that nothing is lost; what comes again is recognised by its source and id for as long
   * as the inbox is kept. What fits no contract goes to the list of invalid messages.
   * Order: that of the broker. In the fleet one process at a time runs an intake, and others stand by; what is pushed to, as webhooks are, runs in all of
   * them, and there is no order across processes.
   * Errors: `ConfigurationError` for options, a second declaration, or one after the start; `WrongKindError` for a query; from `start()` for a
   * destination that the broker does not have, and `ContractConflictError` for an event that this service publishes itself.
   */
  intake(name: string, options: IntakeOptions): Intake;

  /** Answers a query in this process. Transaction: `tx` is read-only. */
  answer<C extends AnyContract<"query">>(
    query: C,
    answer: (request: OutputOf<C>, context: AnswerContext<Tx>) => ResultInputOf<C> | Promise<ResultInputOf<C>>,
  ): void;

  /**
   * Asks a query and waits for the answer.
   *
   * Delivery: never stored; answered in this process, or `DeadlineError` by the deadline.
   * Errors: `NoAnswerError`, `ContractViolationError`, `DeadlineError`, `WouldDeadlockError`, and what the answer function throws.
   */
  ask<C extends AnyContract<"query">>(query: C, request: InputOf<C>, options?: AskOptions): Promise<ResultOf<C>>;

  /**
   * Runs `work` in a transaction and commits it with what was said: business rows and messages in one commit.
   *
   * Transaction: READ COMMITTED, on a connection of its own; rolled back when `work` throws or an asynchronous schema refuses.
   * Errors: what `work` throws; `TransactionEndedError` for a statement that was not awaited or an error that was swallowed.
   */
  transaction<T>(work: (context: TransactionContext<Tx>) => Promise<T>): Promise<T>;

  /**
   * The verbs inside a transaction that you opened: they write at once, on `tx` alone, and are awaited.
   *
   * Transaction: yours; publish after the write that takes the row lock, so that ids follow the order of commits.
   * Errors: `TransactionRequiredError` for a pool, or a client without an open transaction.
   */
  in(tx: unknown): Say;

  /**
   * The receipt of a command from its id, also in another process than the one that sent it. With the contract `result()` can be asked for; without
   * it the result stands in `status()` as it is stored.
   *
   * Errors: `UnknownMessageError` at once for what can be no id; from its methods for an id that no message has, or one of another contract.
   */
  receipt<C extends AnyContract<"command">>(command: C, id: string): ReceiptOf<C>;
  receipt(id: string): Receipt;

  /** What became of a message, for each of its receivers. Errors: `UnknownMessageError`. */
  statusOf(id: string): Promise<readonly ReceiverStatus[]>;

  /** One line for each queue and subscription: backlog, age, running, dead letters, workers. */
  backlog(): Promise<readonly BacklogLine[]>;

  /** One line for each intake of the fleet: who runs it, whether it is connected, and what it took in. */
  intakes(): Promise<readonly IntakeLine[]>;

  /** What an operator does: pause, drain, purge, redrive, discard, replay, erase. */
  readonly operate: Operate;

  /**
   * For an autoscaler: how each queue and subscription stands and how many workers it wants. `probes` of `posthorn/http` serves it.
   *
   * Cost: a statement like that of `backlog`.
   */
  scaling(): Promise<ScalingReport>;

  /**
   * Whether this process can do its work: the database answers, its schema fits, and the worker of this process, if one was started, works.
   *
   * Errors: whatever keeps it from that; see `retryable`.
   */
  ready(): Promise<{ readonly working: boolean }>;

  /** Brings the schema of the database to that of this code. */
  migrate(): Promise<void>;

  /**
   * Works in this process on all declared queues, subscriptions and intakes, or on those named. Returns when it works.
   *
   * Errors: `DatabaseUnavailableError`, `SchemaVersionError`, `ContractConflictError`, `ConfigurationError`.
   */
  start(options?: StartOptions): Promise<void>;

  /** Lets running handlers finish, hands the rest back, and closes what this instance opened. It cannot be started again. */
  stop(options?: StopOptions): Promise<void>;

  /** Returns at a moment when nothing runs and nothing is due in what this process works on: for tests and scripts. */
  untilIdle(): Promise<void>;
}
