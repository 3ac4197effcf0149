/**
 * Calls somebody else with a signal that fires when the handler has to let go, or when the answer takes too long.
 *
 * Not `AbortSignal.any([signal, AbortSignal.timeout(ms)])`: on Node 20 nothing holds that timeout, so that the garbage collector may take it
 * away, and then it never fires.
 */
export async function withPatience<Answer>(
  ms: number,
  signal: AbortSignal,
  call: (signal: AbortSignal) => Promise<Answer>,
): Promise<Answer> {
  const patience = new AbortController();
  const lose = () => patience.abort(signal.reason);
  const timer = setTimeout(() => patience.abort(new Error(`There was no answer within ${ms} ms.`)), ms);
  if (signal.aborted) lose();
  signal.addEventListener("abort", lose, { once: true });
  try {
    return await call(patience.signal);
  } finally {
    clearTimeout(timer);
    signal.removeEventListener("abort", lose);
  }
}
