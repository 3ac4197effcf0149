/** The front door: what is exported here is public and under semantic versioning; nothing else is. */
export type {
  Broker,
  BrokerFeatures,
  Incoming,
  OpenOptions,
  Outgoing,
  Receiver,
  Refusal,
  Sender,
  Sent,
} from "./brokers/broker.js";
export type { CloudEvent, EnvelopeMode, HeaderStyle } from "./brokers/envelope.js";
export type {
  AnyContract,
  Command,
  Contract,
  Event,
  InputOf,
  Kind,
  OutputOf,
  Query,
  ResultOf,
} from "./contracts/contract.js";
export { isContract } from "./contracts/contract.js";
export { command, event, query } from "./contracts/define.js";
export { type Schema, type } from "./contracts/standard-schema.js";
export * from "./core/errors.js";
export { limits } from "./core/limits.js";
export type { Logger } from "./core/logger.js";
export { retryAfterMs } from "./core/retry-after.js";
export { type State, states } from "./core/states.js";
export { days, hours, minutes, seconds } from "./core/time.js";
export type { DatabaseInput, Sql, TxOf } from "./databases/open.js";
export type { By, Confirmed, Driving, LettersOperation, LettersOptions, Operate } from "./instance/operate.js";
export type { Post, StartOptions, StopOptions, Topic, TopicOptions } from "./instance/post.js";
export { posthorn } from "./instance/posthorn.js";
export type { PosthornOptions, RetentionOptions } from "./instance/posthorn-options.js";
export type { Queue, Subscription } from "./instance/queue.js";
export type { Relay } from "./instance/relay.js";
export type { ScalingReport } from "./instance/scaling.js";
export type { ForeignMessage, ForeignReading, Intake, IntakeOptions } from "./intakes/options.js";
export type { BatchOptions } from "./policies/batch.js";
export { describePolicy, describePolicyAsData } from "./policies/describe.js";
export type { BacklogLimit, Rate } from "./policies/flow.js";
export type { CircuitBreaker, Idempotency, Policy, QueuePolicy, StartFrom } from "./policies/policy.js";
export { policies } from "./policies/presets.js";
export { type NoRetry, type Retry, retry } from "./policies/retry.js";
export { OpenCircuit, Reject, RetryLater } from "./policies/verdicts.js";
export type { AnswerContext, AskOptions } from "./producer/ask.js";
export type {
  PublishOptions,
  Receipt,
  ReceiptOf,
  ReceiptWithResult,
  Say,
  SayBuffered,
  SendOptions,
  Status,
} from "./producer/say.js";
export type { TransactionContext } from "./producer/transaction.js";
export type { RelayFrom, RelayIdempotency, RelayOptions } from "./relays/options.js";
export type { Schedule, ScheduleOptions } from "./schedules/schedule.js";
export type { CancelAnswer } from "./store/cancel.js";
export type { CircuitFacts } from "./store/circuit.js";
export type { IntakeLine } from "./store/intakes.js";
export type { Alert } from "./store/operate.js";
export type {
  ListedSubscription,
  Operation,
  Pause,
  PauseChange,
  RenamedIntake,
  Unsettled,
  WaitingState,
} from "./store/operations.js";
export type { ScalingLine } from "./store/scaling.js";
export type { BacklogLine, HistoryEntry, ReceiverStatus } from "./store/status.js";
export type { UnendedState, WaitingMessage, WaitingMessages } from "./store/waiting.js";
export type { BatchContext, Batched } from "./worker/batch-context.js";
export type { Context, Message, ProgressValue } from "./worker/context.js";
export type { Recorded, Step } from "./worker/steps.js";
