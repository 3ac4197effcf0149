/**
 * A signal that fires after a time, or with another one. Not `AbortSignal.any` of `AbortSignal.timeout`: Node 20 collects the second as garbage, where
 * nothing else holds it, and the first never fires.
 */
export function within(ms: number, signal?: AbortSignal): AbortSignal {
  const late = new AbortController();
  // The timer holds it.
  setTimeout(
    () => late.abort(new DOMException("The operation was aborted due to timeout", "TimeoutError")),
    ms,
  ).unref();
  return signal === undefined ? late.signal : AbortSignal.any([signal, late.signal]);
}
