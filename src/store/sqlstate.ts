/**
 * Errors that the SQL functions raise, as typed errors. SQL raises SQLSTATEs of class PH; this file alone maps them. The text of
 * the server says what happened with the names in it, its hint what to do.
 */
import { type ErrorCode, errorOf, PosthornError } from "../core/errors.js";

/** SQLSTATE to code. Docs and tests read it. */
export const sqlStates = {
  PH002: "PH_ISOLATION",
  PH003: "PH_DATABASE_MOVED",
  PH004: "PH_POSITION_LOST",
  PH005: "PH_CLAIM_LOST",
  PH006: "PH_TRANSACTION_ENDED",
  PH007: "PH_WORKER_FORGOTTEN",
  PH008: "PH_SCHEMA_CHANGED",
  PH010: "PH_CONTRACT_UNKNOWN",
  PH011: "PH_WRONG_KIND",
  PH012: "PH_KEY_INVALID",
  PH013: "PH_PAYLOAD_NOT_JSON",
  PH014: "PH_PAYLOAD_TOO_LARGE",
  PH015: "PH_OPTION_INVALID",
  PH020: "PH_CONTRACT_CONFLICT",
  PH021: "PH_NOT_DRAINED",
  PH030: "PH_UNKNOWN_MESSAGE",
  PH031: "PH_NOT_ALONE",
  PH032: "PH_MESSAGE_FORGOTTEN",
  PH040: "PH_BACKLOG_FULL",
  PH060: "PH_NAME_UNKNOWN",
  PH061: "PH_CONFIRMATION_MISSING",
  PH062: "PH_OPERATION_UNKNOWN",
  PH063: "PH_NOT_KEPT",
  PH064: "PH_NO_WORKER",
  PH065: "PH_SCHEDULE_SENDS",
  PH066: "PH_SUBSCRIPTION_IN_USE",
  PH067: "PH_SUBSCRIPTION_REMOVED",
  PH068: "PH_INTAKE_IN_USE",
  PH099: "PH_INTERNAL",
} as const satisfies Record<string, ErrorCode>;

/** What the server says about statements of ours. */
const serverStates: Readonly<Record<string, ErrorCode>> = {
  // Inside a transaction that had failed already.
  "25P02": "PH_TRANSACTION_ABORTED",
  // Somebody held a lock for longer than the statement would wait.
  "55P03": "PH_DATABASE_LOCKED",
};

const advice: Partial<Record<ErrorCode, string>> = {
  PH_POSITION_LOST: "Restore the tables posthorn.lane and posthorn.tick_*; nothing is delivered until then.",
  PH_TRANSACTION_ABORTED:
    "Nothing of this transaction was stored: a statement before this had failed and its error was swallowed. Let the error out, or use a savepoint around a statement that may fail.",
  PH_DATABASE_LOCKED:
    "Others held locks that this needs for longer than it waits. Nothing was changed by it; end what is open for long (select * from pg_stat_activity), and repeat the call.",
  PH_ISOLATION: "Run the claim in a READ COMMITTED transaction of its own.",
};

interface ServerError {
  readonly code: string;
  readonly message: string;
  readonly detail?: unknown;
  readonly hint?: unknown;
}

function isServerError(error: unknown): error is ServerError {
  return (
    typeof error === "object" &&
    error !== null &&
    "code" in error &&
    typeof error.code === "string" &&
    "message" in error &&
    typeof error.message === "string"
  );
}

/** What a function in SQL says happened, and what to do about it. */
export function sentences(says: string, hint?: string): string {
  const said = `${says.charAt(0).toUpperCase()}${says.slice(1)}.`;
  return hint === undefined ? said : `${said} ${hint}`;
}

/** The typed error for a SQLSTATE of ours; every other error comes back as it is. */
export function storeError(error: unknown): unknown {
  if (error instanceof PosthornError || !isServerError(error)) return error;
  const states: Readonly<Record<string, ErrorCode>> = sqlStates;
  const own = Object.hasOwn(states, error.code) ? states[error.code] : undefined;
  const code = own ?? (Object.hasOwn(serverStates, error.code) ? serverStates[error.code] : undefined);
  if (code === undefined) return error;
  const hint = typeof error.hint === "string" ? error.hint : advice[code];
  // What the server says is kept in the cause where it is not ours to say.
  const message = own === undefined ? `${hint}` : sentences(error.message, hint);
  const facts = typeof error.detail === "string" ? { detail: error.detail } : {};
  // Its detail is ours: the facts that a producer decides on.
  if ((code === "PH_BACKLOG_FULL" || code === "PH_NOT_KEPT") && facts.detail !== undefined)
    return errorOf(code, message, JSON.parse(facts.detail), error);
  return errorOf(code, message, facts, error);
}

/** Runs a statement of the store and maps what it raises. */
export async function mapped<T>(work: Promise<T>): Promise<T> {
  try {
    return await work;
  } catch (error) {
    throw storeError(error);
  }
}

/** Somebody held a lock for longer than a statement of ours would wait. */
export function isLockTimeout(error: unknown): boolean {
  return error instanceof PosthornError && error.code === "PH_DATABASE_LOCKED";
}
