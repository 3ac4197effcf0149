/** The codes of errors as data: docs/reference/errors.md is generated from it, and a test holds both together. */

/** Every code, with the class that carries it, whether a repetition may help, and what it means. */
export const errorCodes = {
  PH_OPTION_UNKNOWN: { class: "ConfigurationError", retryable: false, meaning: "An option is not known." },
  PH_OPTION_MISSING: {
    class: "ConfigurationError",
    retryable: false,
    meaning: "A required option or decision is missing.",
  },
  PH_OPTION_INVALID: {
    class: "ConfigurationError",
    retryable: false,
    meaning: "An option has a value outside its range or type.",
  },
  PH_NAME_INVALID: { class: "ConfigurationError", retryable: false, meaning: "A name breaks the naming rules." },
  PH_DECLARED_TWICE: {
    class: "ConfigurationError",
    retryable: false,
    meaning:
      "The same queue, subscription, handler, answer or instance was declared or started twice, or two intakes would read by one reader of a broker.",
  },
  PH_DECLARED_LATE: {
    class: "ConfigurationError",
    retryable: false,
    meaning: "A queue, subscription or handler was declared after the start.",
  },
  PH_NOT_STARTED: {
    class: "ConfigurationError",
    retryable: false,
    meaning: "The call needs a worker in this process, and none was started.",
  },
  PH_ARGUMENT_INVALID: {
    class: "ConfigurationError",
    retryable: false,
    meaning: "A command of the command line, or one of its arguments, is unknown, missing or outside its range.",
  },
  PH_CONFIRMATION_MISSING: {
    class: "ConfigurationError",
    retryable: false,
    meaning:
      "What changes many messages was called without a terminal and without --yes, or without `confirm`, which repeats what is changed.",
  },
  PH_NAME_UNKNOWN: {
    class: "ConfigurationError",
    retryable: false,
    meaning: "No queue, subscription or contract has the name that an operating call was given.",
  },
  PH_OPERATION_UNKNOWN: {
    class: "ConfigurationError",
    retryable: false,
    meaning: "No operation has the number that was to be continued.",
  },
  PH_NOT_KEPT: {
    class: "ConfigurationError",
    retryable: false,
    meaning: "A replay would begin before the oldest message that is kept; facts.oldestKept tells when that was said.",
  },
  PH_NO_WORKER: {
    class: "ConfigurationError",
    retryable: true,
    meaning: "No live worker works on the queue or subscription that is to be replayed.",
  },
  PH_SCHEDULE_SENDS: {
    class: "ConfigurationError",
    retryable: false,
    meaning: "A schedule sends messages with the key that is to be erased.",
  },
  PH_SUBSCRIPTION_IN_USE: {
    class: "ConfigurationError",
    retryable: true,
    meaning: "A worker works on the subscription that is to be removed, or holds messages of it.",
  },
  PH_INTAKE_IN_USE: {
    class: "ConfigurationError",
    retryable: true,
    meaning: "A process runs the intake that is to be removed or renamed.",
  },
  PH_PAUSED: {
    class: "ConfigurationError",
    retryable: false,
    meaning: "A queue or subscription that is to be drained is paused: nothing leaves it.",
  },
  PH_PEER_MISSING: {
    class: "ConfigurationError",
    retryable: false,
    meaning: "A package that is needed for what was asked is not installed.",
  },
  PH_BROKER_ADDRESS: {
    class: "ConfigurationError",
    retryable: false,
    meaning: "The address of a broker cannot be read, may not be used, or is that of something else.",
  },
  PH_BROKER_DESTINATION: {
    class: "ConfigurationError",
    retryable: false,
    meaning:
      "The broker does not have the topic, queue, stream or subject that was named, or the consumer there is another intake's.",
  },
  PH_BROKER_DENIED: {
    class: "ConfigurationError",
    retryable: false,
    meaning:
      "The broker refuses the user, password or token that it was given, or does not allow that user what a relay or intake needs.",
  },
  PH_BROKER_TLS: {
    class: "ConfigurationError",
    retryable: false,
    meaning: "The certificate of the broker is not accepted, or one side speaks TLS and the other does not.",
  },
  PH_CONFIG_MISSING: {
    class: "ConfigurationError",
    retryable: false,
    meaning: "The command line found no configuration file, or no database in it.",
  },
  PH_CONFIG_BROKEN: {
    class: "ConfigurationError",
    retryable: false,
    meaning: "The configuration file cannot be loaded, or exports no instance.",
  },
  PH_STEP_TWICE: {
    class: "ConfigurationError",
    retryable: false,
    meaning: "The name of a step was used a second time in one run.",
  },
  PH_STEP_REFUSED: {
    class: "ConfigurationError",
    retryable: false,
    meaning:
      "`step` was called in a mode of idempotency that has none, or `send` or `publish` of a handler inside a step.",
  },
  PH_NOT_BUILT: {
    class: "NotBuiltError",
    retryable: false,
    meaning: "The option, state or call is planned and not built yet; it is refused, never ignored.",
  },
  PH_WRONG_KIND: {
    class: "WrongKindError",
    retryable: false,
    meaning: "A query, command or event was used where another kind belongs.",
  },
  PH_WRONG_CHANNEL: {
    class: "WrongKindError",
    retryable: false,
    meaning: "A contract was given to a queue or subscription that does not carry it.",
  },
  PH_CONTRACT_CONFLICT: {
    class: "ContractConflictError",
    retryable: false,
    meaning:
      "Two parties disagree about a contract (its kind, channel, owner or key), or two services work on one queue or subscription.",
  },
  PH_NOT_DRAINED: {
    class: "ContractConflictError",
    retryable: false,
    meaning:
      "A start would change the idempotency or ordering of a queue or subscription that holds messages which have not ended, or that others work on by the old decision.",
  },
  PH_SUBSCRIPTION_REMOVED: {
    class: "ContractConflictError",
    retryable: true,
    meaning: "A subscription was removed while a worker registered for it; the worker declares it anew.",
  },
  PH_PAYLOAD_INVALID: {
    class: "ContractViolationError",
    retryable: false,
    meaning: "A payload does not fit the schema of its contract.",
  },
  PH_PAYLOAD_NOT_JSON: {
    class: "ContractViolationError",
    retryable: false,
    meaning: "A payload holds a value that JSON cannot carry unchanged.",
  },
  PH_SCHEMA_FAILED: { class: "ContractViolationError", retryable: false, meaning: "A schema or key function threw." },
  PH_SCHEMA_TIMEOUT: {
    class: "ContractViolationError",
    retryable: true,
    meaning: "An asynchronous schema did not answer in time.",
  },
  PH_KEY_INVALID: {
    class: "ContractViolationError",
    retryable: false,
    meaning: "The key of a message is not a string within the limits.",
  },
  PH_PAYLOAD_TOO_LARGE: {
    class: "PayloadTooLargeError",
    retryable: false,
    meaning: "A payload is larger than the limit.",
  },
  PH_WEBHOOK_UNVERIFIED: {
    class: "ContractViolationError",
    retryable: false,
    meaning: "The signature of a webhook is missing, wrong, of another key, or not of now.",
  },
  PH_CAUSATION_DEPTH: {
    class: "ContractViolationError",
    retryable: false,
    meaning:
      "A handler said a message that lies more handlers behind the one that began it than `causationLimit` allows: handlers cause each other's messages in a ring.",
  },
  PH_NO_ANSWER: {
    class: "NoAnswerError",
    retryable: false,
    meaning: "A query has no answer function in this process.",
  },
  PH_DEADLINE: {
    class: "DeadlineError",
    retryable: true,
    meaning: "The answer or the run did not end before its deadline.",
  },
  PH_ABORTED: { class: "DeadlineError", retryable: true, meaning: "The caller gave up through its signal." },
  PH_TRANSACTION_REQUIRED: {
    class: "TransactionRequiredError",
    retryable: false,
    meaning:
      "`in()` was given something that has no open transaction; the message would not be atomic with the business rows.",
  },
  PH_TRANSACTION_UNKNOWN: {
    class: "TransactionRequiredError",
    retryable: false,
    meaning: "`in()` was given something that is no known transaction or client.",
  },
  PH_TRANSACTION_ENDED: {
    class: "TransactionEndedError",
    retryable: false,
    meaning: "A transaction was ended by code that does not own it, or used after its end.",
  },
  PH_TRANSACTION_ABORTED: {
    class: "TransactionEndedError",
    retryable: true,
    meaning: "COMMIT was answered with ROLLBACK: a statement had failed and its error was swallowed.",
  },
  PH_TRANSACTION_CONFLICT: {
    class: "TransactionEndedError",
    retryable: true,
    meaning:
      "Another transaction said the same dedupe key at the same time, and this one cannot see it or waits for it in a ring: roll back and repeat it.",
  },
  PH_STATEMENT_NOT_AWAITED: {
    class: "TransactionEndedError",
    retryable: false,
    meaning: "A handler or transaction ended while one of its statements was still running.",
  },
  PH_NOT_COMMITTED: {
    class: "NotCommittedError",
    retryable: false,
    meaning: "A receipt was asked for its id before the transaction that writes it has committed.",
  },
  PH_SAY_AFTER_END: {
    class: "NotCommittedError",
    retryable: false,
    meaning: "`send` or `publish` of a transaction or handler was called after it had ended.",
  },
  PH_STEP_AFTER_END: {
    class: "NotCommittedError",
    retryable: false,
    meaning: "`step` was called after its handler had ended.",
  },
  PH_CLAIM_LOST: {
    class: "ClaimLostError",
    retryable: false,
    meaning: "The holder no longer holds the message: it was rescued, ended elsewhere, or its token is unknown.",
  },
  PH_WORKER_FORGOTTEN: {
    class: "ClaimLostError",
    retryable: false,
    meaning: "This worker counted as dead: its messages were rescued, and it must register anew.",
  },
  PH_CONTRACT_UNKNOWN: {
    class: "ContractConflictError",
    retryable: false,
    meaning: "No contract of this name is registered in the database.",
  },
  PH_MIGRATION_FAILED: {
    class: "SchemaVersionError",
    retryable: false,
    meaning: "A migration failed; nothing was changed.",
  },
  PH_SCHEMA_CHANGED: {
    class: "SchemaVersionError",
    retryable: true,
    meaning: "Another process changed the schema in this moment.",
  },
  PH_WOULD_DEADLOCK: {
    class: "WouldDeadlockError",
    retryable: false,
    meaning: "The call would wait for the transaction that it is called from: there is one connection.",
  },
  PH_DATABASE_AWAY: { class: "DatabaseUnavailableError", retryable: true, meaning: "The database cannot be reached." },
  PH_DATABASE_LOST: {
    class: "DatabaseUnavailableError",
    retryable: true,
    meaning: "The connection was lost in the middle; what was not confirmed may or may not be committed.",
  },
  PH_DATABASE_BUSY: {
    class: "DatabaseUnavailableError",
    retryable: true,
    meaning: "The server has no free connection.",
  },
  PH_DATABASE_FULL: {
    class: "DatabaseUnavailableError",
    retryable: true,
    meaning: "The server has no space or memory left.",
  },
  PH_DATABASE_READ_ONLY: {
    class: "DatabaseUnavailableError",
    retryable: true,
    meaning: "The server is read-only, for instance a standby.",
  },
  PH_DATABASE_TIMEOUT: {
    class: "DatabaseUnavailableError",
    retryable: true,
    meaning: "The server did not answer a statement before its deadline.",
  },
  PH_DATABASE_LOCKED: {
    class: "DatabaseUnavailableError",
    retryable: true,
    meaning: "Others held locks that the call needs for longer than it waits; it changed nothing.",
  },
  PH_DATABASE_REFUSED: {
    class: "DatabaseRefusedError",
    retryable: false,
    meaning: "The server refuses the user, password or database name, or a right is missing.",
  },
  PH_DATABASE_UNSUITABLE: {
    class: "DatabaseRefusedError",
    retryable: false,
    meaning: "The server is too old, or its encoding is not UTF-8.",
  },
  PH_DATABASE_POOLED: {
    class: "DatabaseRefusedError",
    retryable: false,
    meaning: "A pooler in transaction mode stands before the server, and sessions were counted on.",
  },
  PH_DATABASE_MOVED: {
    class: "DatabaseRefusedError",
    retryable: false,
    meaning:
      "The database is not the home of its log: a copy that was not rebased, or one that was moved elsewhere. `facts.detail` tells: copied, behind, moved or unfinished.",
  },
  PH_SOURCE_IN_USE: {
    class: "DatabaseRefusedError",
    retryable: true,
    meaning: "The source of a move is still worked on, or has open transactions; nothing was moved.",
  },
  PH_TARGET_IN_USE: {
    class: "DatabaseRefusedError",
    retryable: false,
    meaning: "The target of a move is not empty; nothing was moved.",
  },
  PH_SCHEMA_MISSING: { class: "SchemaVersionError", retryable: false, meaning: "The database has no Posthorn schema." },
  PH_SCHEMA_OLDER: {
    class: "SchemaVersionError",
    retryable: false,
    meaning: "The schema in the database is older than this code.",
  },
  PH_SCHEMA_NEWER: {
    class: "SchemaVersionError",
    retryable: false,
    meaning: "The schema in the database is newer than this code.",
  },
  PH_ISOLATION: {
    class: "IsolationError",
    retryable: false,
    meaning: "A claim was tried in a transaction that is not READ COMMITTED.",
  },
  PH_POSITION_LOST: {
    class: "DatabaseRefusedError",
    retryable: false,
    meaning: "The position of a subscription is missing from the database; nothing is delivered until it is restored.",
  },
  PH_EMBEDDED_HELD: {
    class: "EmbeddedHeldError",
    retryable: true,
    meaning: "Another process holds the folder of the embedded database.",
  },
  PH_BACKLOG_FULL: {
    class: "BacklogFullError",
    retryable: true,
    meaning: "The queue holds as many waiting messages as its `backlogLimit` allows; nothing was sent.",
  },
  PH_STOPPED: { class: "StoppedError", retryable: false, meaning: "The instance was stopped." },
  PH_UNKNOWN_MESSAGE: { class: "UnknownMessageError", retryable: false, meaning: "No message has this id." },
  PH_MESSAGE_FORGOTTEN: {
    class: "UnknownMessageError",
    retryable: false,
    meaning: "If there was a message with this id, it has ended, and the log does not keep it any more.",
  },
  PH_NOT_ALONE: {
    class: "IsolationError",
    retryable: false,
    meaning: "cancel was called in a transaction that had written something; others would wait for its end.",
  },
  PH_CANCELLED: {
    class: "CancelledError",
    retryable: false,
    meaning: "The reason of a handler's signal: somebody asked to cancel the message that it runs.",
  },
  PH_RESULT_TIMEOUT: {
    class: "DeadlineError",
    retryable: true,
    meaning: "The message had not ended when result() gave up waiting; facts.status tells how far it was.",
  },
  PH_NOT_SUCCEEDED: {
    class: "NoResultError",
    retryable: false,
    meaning: "The message ended without success: dead, invalid, cancelled, expired or discarded; facts tell why.",
  },
  PH_RESULT_GONE: {
    class: "NoResultError",
    retryable: false,
    meaning: "The message succeeded, and its result was kept for its time and is gone, or none was stored.",
  },
  PH_NO_RESULT: {
    class: "NoResultError",
    retryable: false,
    meaning: "result() was called on a receipt whose contract has no result, or that was made without its contract.",
  },
  PH_NOT_LISTED: {
    class: "UnknownMessageError",
    retryable: false,
    meaning: "The message is not in the list that it was to be taken from: not dead, or not invalid.",
  },
  PH_INTERNAL: {
    class: "InternalError",
    retryable: false,
    meaning: "A rule of Posthorn itself was broken; please report it.",
  },
} as const satisfies Record<string, { class: string; retryable: boolean; meaning: string }>;
