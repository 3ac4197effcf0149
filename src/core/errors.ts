/**
 * The errors of Posthorn: one class for each thing a caller does differently, one code for each cause.
 *
 * The table `errorCodes` is data: docs/reference/errors.md is generated from it, and a test holds both together. A message
 * says what happened, why, and what to do; facts stand in fields, never only in the text; `cause` is kept.
 */
import { errorCodes } from "./error-codes.js";

export { errorCodes };

export type ErrorCode = keyof typeof errorCodes;

export interface ErrorFacts {
  readonly [fact: string]: unknown;
}

/** The base of every error that Posthorn throws. Decide on `code`, `retryable` and the class, never on the text. */
export class PosthornError extends Error {
  readonly code: ErrorCode;
  readonly retryable: boolean;
  readonly facts: ErrorFacts;

  constructor(code: ErrorCode, message: string, facts: ErrorFacts = {}, cause?: unknown) {
    super(message, cause === undefined ? undefined : { cause });
    // Not the name of the class: a bundler of the user may have made another of it.
    this.name = errorCodes[code].class;
    this.code = code;
    this.retryable = errorCodes[code].retryable;
    this.facts = facts;
  }
}

export class ConfigurationError extends PosthornError {}
export class NotBuiltError extends PosthornError {}
export class WrongKindError extends PosthornError {}
export class ContractConflictError extends PosthornError {}
export class ContractViolationError extends PosthornError {}
export class PayloadTooLargeError extends PosthornError {}
export class NoAnswerError extends PosthornError {}
export class DeadlineError extends PosthornError {}
export class TransactionRequiredError extends PosthornError {}
export class TransactionEndedError extends PosthornError {}
export class NotCommittedError extends PosthornError {}
export class ClaimLostError extends PosthornError {}
export class WouldDeadlockError extends PosthornError {}
export class DatabaseUnavailableError extends PosthornError {}
export class DatabaseRefusedError extends PosthornError {}
export class SchemaVersionError extends PosthornError {}
export class IsolationError extends PosthornError {}
export class EmbeddedHeldError extends PosthornError {}
/** The queue is full. */
export class BacklogFullError extends PosthornError {
  declare readonly facts: {
    readonly queue: string;
    /** Messages that wait, as far as known. */
    readonly backlog: number;
    readonly limit: number;
    /** When there may be room: from 100 to 60000. */
    readonly retryAfterMs: number;
  };
}
export class StoppedError extends PosthornError {}
export class UnknownMessageError extends PosthornError {}
export class NoResultError extends PosthornError {}
export class CancelledError extends PosthornError {}
export class InternalError extends PosthornError {}

/** The classes by name, for code that has only a code (SQLSTATE mapping). */
export const errorClasses = {
  ConfigurationError,
  NotBuiltError,
  WrongKindError,
  ContractConflictError,
  ContractViolationError,
  PayloadTooLargeError,
  NoAnswerError,
  DeadlineError,
  TransactionRequiredError,
  TransactionEndedError,
  NotCommittedError,
  ClaimLostError,
  WouldDeadlockError,
  DatabaseUnavailableError,
  DatabaseRefusedError,
  SchemaVersionError,
  IsolationError,
  EmbeddedHeldError,
  BacklogFullError,
  StoppedError,
  UnknownMessageError,
  NoResultError,
  CancelledError,
  InternalError,
} as const;

/** The same error, which says first whose it is: one of ten relays, for instance. */
export function named(error: ConfigurationError, what: "relay" | "intake", name: string): ConfigurationError {
  const facts = { ...error.facts, [what]: name };
  return new ConfigurationError(error.code, `${what} "${name}": ${error.message}`, facts, error.cause);
}

/** Makes the error of a code in the class that the table names. */
export function errorOf(code: ErrorCode, message: string, facts?: ErrorFacts, cause?: unknown): PosthornError {
  return new errorClasses[errorCodes[code].class](code, message, facts, cause);
}
