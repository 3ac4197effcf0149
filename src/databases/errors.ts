/**
 * Errors of drivers and servers, as the typed errors of Posthorn: by SQLSTATE, by the codes of Node, or by what the caller saw
 * happen to the connection; never by text, because drivers and languages change it. What is the user's own concern (their SQL,
 * their constraints) is returned unchanged. Nothing here quotes a connection string; drivers put no password into messages.
 */
import { type ErrorCode, errorOf, PosthornError } from "../core/errors.js";
import { type Secrets, withoutSecrets } from "../core/secrets.js";
import { tlsTroubleOf } from "../core/tls-codes.js";
import { clause } from "../core/words.js";

export interface ErrorContext {
  /** Shown in messages; holds no password. */
  readonly description?: string;
  /** The connection was seen to end, or never came to be. pg says that by text only, so the caller says what it saw. */
  readonly connection?: "lost" | "unreached";
  /** What was sent to connect: a server may say it again. */
  readonly secrets?: Secrets;
}

interface Meaning {
  readonly code: ErrorCode;
  readonly says: string;
}

const away: Meaning = {
  code: "PH_DATABASE_AWAY",
  says: "The database cannot be reached. Check that it runs and that host and port are right; the call may be repeated.",
};
const lost: Meaning = {
  code: "PH_DATABASE_LOST",
  says: "The connection to the database was lost. What was not confirmed may or may not be committed; the call may be repeated if that is safe.",
};
const busy: Meaning = {
  code: "PH_DATABASE_BUSY",
  says: "The server has no free connection. Use fewer connections or raise max_connections.",
};
const full: Meaning = {
  code: "PH_DATABASE_FULL",
  says: "The server has no space or memory left. Free some; nothing was written by this statement.",
};
const readOnly: Meaning = {
  code: "PH_DATABASE_READ_ONLY",
  says: "The server or session is read-only, for instance a standby. Connect to the primary.",
};
const timeout: Meaning = {
  code: "PH_DATABASE_TIMEOUT",
  says: "A statement was cancelled before it ended, by its deadline or by an operator.",
};
const refused: Meaning = {
  code: "PH_DATABASE_REFUSED",
  says: "The server refuses the user, password, certificate or database name. Correct them.",
};
const right: Meaning = {
  code: "PH_DATABASE_REFUSED",
  says: "A right is missing in the database. Grant it to the user of this connection.",
};

/** Five letters win over two. */
const bySqlState: Readonly<Record<string, Meaning>> = {
  "08": lost,
  "08001": away,
  "08004": refused,
  "25006": readOnly,
  "25P03": lost,
  "25P04": lost,
  "28": refused,
  "3D": refused,
  "42501": right,
  "53": full,
  "53300": busy,
  "57014": timeout,
  "57P01": lost,
  "57P02": lost,
  "57P03": away,
  "57P04": refused,
  "57P05": lost,
};

const byNodeCode: Readonly<Record<string, Meaning>> = {
  ECONNREFUSED: away,
  ENOTFOUND: away,
  EAI_AGAIN: away,
  ENOENT: away,
  EHOSTUNREACH: away,
  ENETUNREACH: away,
  EADDRNOTAVAIL: away,
  ECONNRESET: lost,
  ECONNABORTED: lost,
  EPIPE: lost,
  ETIMEDOUT: lost,
};

export function codeOf(error: unknown): string | undefined {
  if (typeof error !== "object" || error === null || !("code" in error)) return undefined;
  return typeof error.code === "string" ? error.code : undefined;
}

/** Drivers throw their server errors with a five-letter `code` and a `severity`. */
export function sqlStateOf(error: unknown): string | undefined {
  const code = codeOf(error);
  if (code === undefined || !/^[0-9A-Z]{5}$/.test(code)) return undefined;
  return typeof error === "object" && error !== null && "severity" in error ? code : undefined;
}

function meaningOf(error: unknown, context: ErrorContext): Meaning | undefined {
  const sqlState = sqlStateOf(error);
  if (sqlState !== undefined) return bySqlState[sqlState] ?? bySqlState[sqlState.slice(0, 2)];
  const code = codeOf(error);
  if (context.connection === "unreached") {
    if (code !== undefined && tlsTroubleOf(code) !== undefined) return refused;
    return away;
  }
  if (context.connection === "lost") return lost;
  return code === undefined ? undefined : byNodeCode[code];
}

/** As the driver has it, with all that it knows, unless it holds what is secret. */
function passedOn(error: unknown, secrets: Secrets | undefined): unknown {
  return secrets?.isIn(error) ? withoutSecrets(error, secrets) : error;
}

/** The typed error for what a driver threw; other errors, and those that are typed already, come back as they are. */
export function databaseError(error: unknown, context: ErrorContext = {}): Error {
  if (error instanceof PosthornError) return error;
  const meaning = meaningOf(error, context);
  if (meaning === undefined) return error instanceof Error ? error : new Error(String(error), { cause: error });
  const where = context.description === undefined ? "" : ` Database: ${context.description}.`;
  const text = error instanceof Error ? (context.secrets?.hide(error.message) ?? error.message) : "";
  const said = text === "" ? "" : ` The driver says: ${clause(text)}.`;
  const sqlState = sqlStateOf(error);
  const facts = {
    ...(context.description === undefined ? {} : { database: context.description }),
    ...(sqlState === undefined ? {} : { sqlState }),
  };
  return errorOf(meaning.code, `${meaning.says}${where}${said}`, facts, passedOn(error, context.secrets));
}
