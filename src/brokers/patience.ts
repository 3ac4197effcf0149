/** How long a broker was told to wait for an answer: a relay that gives up before would never let it come to that. */

/** Nothing where nobody has said a time: the default gives way to what the relay says. */
export function patienceOf({ timeoutMs }: { readonly timeoutMs?: number }): { readonly timeoutMs?: number } {
  return timeoutMs === undefined ? {} : { timeoutMs };
}
