/** Every limit: one name, one number, one place. Validators, errors, docs and tests read it here. */
export const limits = {
  /** Letters of a contract, queue, topic, subscription or service name. */
  nameLength: 80,
  /** Bytes of a key in UTF-8. */
  keyBytes: 512,
  /** Bytes of a payload as JSON in UTF-8. */
  payloadBytes: 1_048_576,
  /** Bytes of the headers of one message as JSON in UTF-8. */
  headersBytes: 8_192,
  /** Bytes of what a handler tells of its progress, as JSON in UTF-8. */
  progressBytes: 2_048,
  /** Nesting of a payload. */
  payloadDepth: 64,
  /** Messages in one `sendMany` or `publishMany` statement; longer lists are written in several, in one transaction. */
  batchMessages: 5_000,
  /** Messages that one `post.transaction`, one handler or one `sendMany` or `publishMany` may say. */
  sayMessages: 100_000,
  /** How long an asynchronous schema may take. */
  schemaMs: 5_000,
  /** Issues of a schema that are kept and shown. */
  schemaIssues: 20,
  /** Letters of one issue's message. */
  issueLength: 500,
  /** The highest version of a contract. */
  contractVersion: 1_000_000,
  /** The longest deadline of a query: 10 minutes. Who can wait longer wants a command. */
  deadlineMs: 600_000,
  /** The longest time that one call may wait for a message: a day. */
  waitMs: 86_400_000,
  /** Runs of one message, the first included. */
  attempts: 1_000,
  /** Messages that one handler may be given at once. */
  batchSize: 1_000,
  /** How long a message may wait in a worker for others: 10 minutes, because it counts as running meanwhile. */
  batchWaitMs: 600_000,
  /** The wait when the function of a `retry.custom` throws, or returns no usable number of milliseconds. */
  retryFallbackMs: 60_000,
  /** The shortest wait that `RetryLater.fromResponse` takes from an answer. */
  retryAfterLeastMs: 1_000,
  /** The longest wait that is taken from a Retry-After header: a day. Another server does not decide about more. */
  retryAfterMostMs: 86_400_000,
  /** Failed runs after which a circuit opens; so many times of failures are kept in one row. */
  circuitFailures: 1_000,
  /** Handlers that run at once for one queue or subscription in one process. */
  concurrency: 10_000,
  /** Messages of a rate. */
  rateMessages: 1_000_000,
  /** The longest time of a rate: a day. */
  rateMs: 86_400_000,
  /** The largest limit of a backlog. */
  backlog: 1_000_000_000,
  /** The longest time that a producer may wait for room in a queue: an hour. */
  backlogWaitMs: 3_600_000,
  /** The largest number of messages in an option that counts them. */
  count: 1_000_000_000_000,
  /** How long a run may take: 24 days, because timers count milliseconds in 32 bits, and a longer one would fire at once. */
  visibilityMs: 2_073_600_000,
  /** The longest duration of any option: 10 years. */
  durationMs: 315_360_000_000,
  /** Bytes of an error's message and stack that are kept per attempt. */
  errorBytes: 4_096,
  /** Attempts whose errors are kept in full; of longer histories the first and the newest stay. */
  errorsKept: 50,
  /** Letters of a cron line. */
  cronLength: 200,
  /** The longest jitter of a schedule: a day. */
  scheduleJitterMs: 86_400_000,
  /** A time of a schedule that is later than this counts as missed. */
  scheduleLateMs: 60_000,
  /** Missed times of one schedule that are made up for at once, where its decision is to send all: the newest. */
  missedTimes: 1_000,
  /** Letters of the name of a step. */
  stepNameLength: 200,
  /** Bytes of the result of one step as JSON in UTF-8. */
  stepResultBytes: 65_536,
  /** Steps of one message that are recorded. */
  steps: 1_000,
  /** Handlers between a message and what began it, unless the instance says otherwise. */
  causationDepth: 100,
  /** The most handlers that an instance may allow there. */
  causationDepthMost: 100_000,
  /** Names of the contracts before it that a message carries. */
  causationNames: 12,
  /** Lanes of a topic. */
  lanes: 1_024,
  /** The longest time that the log is kept: 10 years. */
  retentionMs: 315_360_000_000,
  /** The largest log that an option allows: 64 TiB. */
  retentionBytes: 70_368_744_177_664,
  /** Bytes of the body of a message from a broker that are looked at, and kept where it fits nothing: of a larger one the beginning. */
  intakeBodyBytes: 16_777_216,
  /** Bytes that are kept of a message that is not kept whole, of its body and of its headers. */
  intakeKeptBytes: 65_536,
  /** Crashes of a worker under one message before it is quarantined as a dead letter. */
  crashes: 5,
  /** Letters of the URL of a webhook. */
  webhookUrlLength: 2_048,
  /** Keys that sign or verify webhooks at the same time. */
  webhookSecrets: 10,
  /** Signatures of one webhook that are looked at. */
  webhookSignatures: 32,
  /** Bytes of the headers of an answer to a webhook. */
  webhookAnswerHeaderBytes: 16_384,
  /** Bytes of the body of an answer to a webhook that are read; a longer answer costs its connection. */
  webhookAnswerBytes: 4_096,
  /** How long the body of an answer to a webhook is waited for once its headers are there. */
  webhookAnswerMs: 2_000,
  /** Letters of the body of an answer that enter the reason of a failure. */
  webhookExcerptLength: 200,
  /** Bytes of a webhook that an intake takes, at most. */
  webhookBytes: 16_777_216,
} as const;
