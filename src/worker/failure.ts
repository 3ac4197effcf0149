/** Failures of user code, normalised once, whatever was thrown; and what follows from them by the policy. */
import { composed } from "../core/composed.js";
import { DeadlineError } from "../core/errors.js";
import { limits } from "../core/limits.js";
import type { CheckedPolicy } from "../policies/policy.js";
import { waitAfter } from "../policies/retry.js";
import type { Delivery, Next } from "../store/work.js";

/** An error as it is kept in a message's history. */
export interface Failure {
  readonly name: string;
  readonly message: string;
  readonly code?: string;
  readonly stack?: string;
}

export interface WorkerIdentity {
  readonly id: string;
  readonly service: string;
  readonly host: string;
  readonly pid: number;
}

/** Never throws: a hostile value's getters are not trusted. */
export function failureOf(thrown: unknown): Failure {
  try {
    if (thrown instanceof Error) {
      const code = "code" in thrown && typeof thrown.code === "string" ? { code: clean(thrown.code, 100) } : {};
      const stack = typeof thrown.stack === "string" ? { stack: clean(thrown.stack, limits.errorBytes) } : {};
      return { name: clean(thrown.name, 100), message: clean(thrown.message, limits.errorBytes), ...code, ...stack };
    }
    const text = typeof thrown === "object" ? JSON.stringify(thrown) : String(thrown);
    return { name: "NonError", message: clean(`a handler threw ${typeof thrown}: ${text}`, limits.errorBytes) };
  } catch {
    return { name: "NonError", message: "a handler threw a value that cannot be shown" };
  }
}

/** PostgreSQL takes neither NUL nor half a surrogate pair. */
export function clean(text: unknown, length: number): string {
  return String(text).slice(0, length).replaceAll("\0", "�").toWellFormed();
}

export function entryOf(
  delivery: Delivery,
  outcome: string,
  worker: WorkerIdentity,
  startedAt: number,
  error: Failure | undefined,
  note?: string,
): Readonly<Record<string, unknown>> {
  return {
    attempt: delivery.attempts + 1,
    outcome,
    worker,
    startedAt: new Date(startedAt).toISOString(),
    endedAt: new Date().toISOString(),
    ...(error === undefined ? {} : { error }),
    ...(note === undefined ? {} : { note }),
  };
}

/** What follows from a failed run, and what went wrong where it was worked out. */
export interface Consequence {
  readonly next: Next;
  readonly note?: string;
}

/** What becomes of a message after a failed run: the next attempt by the policy, or the dead letters. */
export function afterFailure(delivery: Delivery, policy: CheckedPolicy, error: unknown): Consequence {
  const attempts = delivery.attempts + 1;
  const { crashes } = delivery;
  if (attempts < policy.retry.attempts) {
    const { delayMs, note } = waitAfter(policy.retry, attempts, error);
    return { next: { defer: { delayMs, attempts, crashes } }, ...(note === undefined ? {} : { note }) };
  }
  const reason = policy.retry.attempts === 1 ? "failed and is not retried" : `failed ${attempts} times`;
  return { next: { dead: { reason, keepMs: policy.deadLetter.keepMs, attempts, crashes } } };
}

/** What becomes of a message that must not repeat, after a run that left no outcome. */
export function afterUnknown({ attempts, crashes }: Delivery, { deadLetter }: CheckedPolicy): Next {
  return { dead: { reason: "outcome unknown", keepMs: deadLetter.keepMs, attempts: attempts + 1, crashes } };
}

/** A handler of which nothing is heard when its time is over. */
export function tooLong(contract: string, { visibilityTimeoutMs }: CheckedPolicy): DeadlineError {
  const message = `The handler of ${contract} did not end within visibilityTimeoutMs (${visibilityTimeoutMs} ms).`;
  return composed(new DeadlineError("PH_DEADLINE", message, { visibilityTimeoutMs }));
}
