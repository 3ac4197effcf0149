/** Waits for a state that no signal announces. Prefer a signal; this is for what another process or the database does. */
import { setTimeout as wait } from "node:timers/promises";

export interface EventuallyOptions {
  readonly withinMs?: number;
  readonly everyMs?: number;
}

/**
 * Calls `check` until it neither throws nor returns `false` or `undefined`, and returns what it returned.
 *
 * Errors: after `withinMs` the last error of `check`, or one that says that it never held.
 */
export async function eventually<T>(
  check: () => T | Promise<T>,
  { withinMs = 60_000, everyMs = 20 }: EventuallyOptions = {},
): Promise<Exclude<T, false | undefined>> {
  const deadline = performance.now() + withinMs;
  for (;;) {
    const outcome = await attempt(check);
    if ("value" in outcome && holds(outcome.value)) return outcome.value;
    if (performance.now() >= deadline) {
      throw new Error(`it did not hold within ${withinMs} ms`, "error" in outcome ? { cause: outcome.error } : {});
    }
    await wait(everyMs);
  }
}

function holds<T>(value: T): value is Exclude<T, false | undefined> {
  return value !== false && value !== undefined;
}

async function attempt<T>(check: () => T | Promise<T>): Promise<{ value: T } | { error: unknown }> {
  try {
    return { value: await check() };
  } catch (error) {
    return { error };
  }
}
