/**
 * What a handler may throw to decide about its message by itself, in place of the policy: `RetryLater`, `Reject`, `OpenCircuit`.
 *
 * Each carries a brand with its facts, so that one that was thrown by another copy of this package is understood. Only the thrown value
 * itself counts, not its `cause`: whoever wraps an error has decided otherwise.
 */
import { ConfigurationError } from "../core/errors.js";
import { limits } from "../core/limits.js";
import { type Answer, retryAfterOf } from "../core/retry-after.js";
import { show } from "../core/show.js";

/** What a thrown value decides. Texts are as they were thrown. */
export type Verdict =
  | { readonly kind: "later"; readonly delayMs: number }
  | { readonly kind: "reject"; readonly reason: string }
  /**
   * `delayMs`: how long the message itself is put off, where that is not as long as the circuit opens. `unsent`: its run had no effect, so that it may run
   * again at most once as well.
   */
  | { readonly kind: "open"; readonly openMs: number | null; readonly delayMs?: number; readonly unsent?: boolean };

interface Branded {
  readonly version: 1;
  readonly verdict: Verdict;
}

export interface VerdictOptions {
  /** Why: kept as the error's `cause`. */
  readonly cause?: unknown;
}

/**
 * Puts the message off: it runs again after `ms`, and no attempt is burnt, however often.
 *
 * Transaction: the handler's transaction is rolled back, and what it has sent is dropped.
 * Duplicates: refused at most once, where a second run is ruled out: the message becomes a dead letter that says so.
 * Errors: `ConfigurationError` for anything but a time from 1 ms to `limits.durationMs`; parts of a millisecond are rounded up.
 */
export class RetryLater extends Error {
  readonly delayMs: number;
  readonly "~posthorn": Branded;

  constructor(ms: number, reason?: string, options: VerdictOptions = {}) {
    super(reason ?? `its handler asks for another run in ${typeof ms === "number" ? ms : show(ms)} ms`, options);
    this.name = "RetryLater";
    this.delayMs = checkMs(ms, "RetryLater");
    this["~posthorn"] = brand({ kind: "later", delayMs: this.delayMs });
  }

  /**
   * From an HTTP answer: waits as its Retry-After says, and `otherwiseMs` (a minute unless given) without a usable one.
   *
   * Limits: from `limits.retryAfterLeastMs` to `limits.retryAfterMostMs`, whatever the other side says.
   */
  static fromResponse(
    response: Answer & { readonly status?: number },
    { otherwiseMs = 60_000, ...options }: VerdictOptions & { readonly otherwiseMs?: number } = {},
  ): RetryLater {
    const waitMs = retryAfterOf(response) ?? checkMs(otherwiseMs, "RetryLater.fromResponse: otherwiseMs");
    const { status } = response;
    const who = typeof status === "number" ? `the answer ${status}` : "the answer";
    return new RetryLater(Math.max(limits.retryAfterLeastMs, waitMs), `${who} asks to come back later`, options);
  }
}

/**
 * Gives the message up: a dead letter at once, with this reason, whatever attempts are left.
 *
 * Transaction: the handler's transaction is rolled back, and what it has sent is dropped.
 */
export class Reject extends Error {
  readonly "~posthorn": Branded;

  constructor(reason: string, options: VerdictOptions = {}) {
    super(String(reason), options);
    this.name = "Reject";
    this["~posthorn"] = brand({ kind: "reject", reason: this.message });
  }
}

/**
 * Opens the circuit of this queue or subscription for the whole fleet, for `ms` or the `openMs` of its policy. The message itself is put off
 * for as long, and no attempt is burnt.
 *
 * Errors: as `RetryLater`. Where the policy has no `circuitBreaker` the run counts as failed, and its error says why.
 */
export class OpenCircuit extends Error {
  readonly "~posthorn": Branded;

  constructor(ms?: number, reason?: string, options: VerdictOptions = {}) {
    super(reason ?? "its handler opens the circuit", options);
    this.name = "OpenCircuit";
    this["~posthorn"] = brand({ kind: "open", openMs: ms === undefined ? null : checkMs(ms, "OpenCircuit") });
  }
}

export interface Opening {
  /** Without it as the policy says. */
  readonly openMs?: number | undefined;
  /** The message is put off for a time of its own, so that others are tried before it. */
  readonly delayMs?: number;
  /** The run certainly had no effect. */
  readonly unsent?: boolean | undefined;
}

/** An `OpenCircuit` that says more, for whoever carries messages on. */
export function openingFor({ openMs, delayMs, unsent }: Opening, reason: string | undefined): OpenCircuit {
  const verdict: Verdict = {
    kind: "open",
    openMs: openMs === undefined ? null : checkMs(openMs, "OpenCircuit"),
    ...(delayMs !== undefined && { delayMs: checkMs(delayMs, "OpenCircuit") }),
    ...(unsent === true && { unsent }),
  };
  return Object.assign(new OpenCircuit(openMs, reason), { "~posthorn": brand(verdict) });
}

function brand(verdict: Verdict): Branded {
  return Object.freeze({ version: 1, verdict: Object.freeze(verdict) });
}

function checkMs(ms: number, what: string): number {
  if (typeof ms === "number" && ms > 0 && ms <= limits.durationMs) return Math.ceil(ms);
  const message = `${what} takes milliseconds from 1 to ${limits.durationMs}, got ${show(ms)}.`;
  throw new ConfigurationError("PH_OPTION_INVALID", message, { path: what });
}

/** What a thrown value decides, of this copy of the package or another; undefined when the policy decides. Never throws. */
export function verdictOf(thrown: unknown): Verdict | undefined {
  try {
    if (typeof thrown !== "object" || thrown === null || !("~posthorn" in thrown)) return undefined;
    const branded = thrown["~posthorn"];
    if (typeof branded !== "object" || branded === null || !("version" in branded) || branded.version !== 1) {
      return undefined;
    }
    return "verdict" in branded ? readVerdict(branded.verdict) : undefined;
  } catch {
    return undefined;
  }
}

function readVerdict(verdict: unknown): Verdict | undefined {
  if (typeof verdict !== "object" || verdict === null || !("kind" in verdict)) return undefined;
  const { kind } = verdict;
  if (kind === "later" && "delayMs" in verdict) {
    const { delayMs } = verdict;
    return isMs(delayMs) ? { kind, delayMs } : undefined;
  }
  if (kind === "reject" && "reason" in verdict) {
    const { reason } = verdict;
    return typeof reason === "string" ? { kind, reason } : undefined;
  }
  if (kind === "open" && "openMs" in verdict) {
    const { openMs } = verdict;
    const delayMs = "delayMs" in verdict && isMs(verdict.delayMs) ? { delayMs: verdict.delayMs } : {};
    const unsent = "unsent" in verdict && verdict.unsent === true ? { unsent: true } : {};
    return openMs === null || isMs(openMs) ? { kind, openMs, ...delayMs, ...unsent } : undefined;
  }
  return undefined;
}

function isMs(value: unknown): value is number {
  return Number.isSafeInteger(value) && Number(value) >= 1 && Number(value) <= limits.durationMs;
}
