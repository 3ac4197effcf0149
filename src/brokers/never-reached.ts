/** What an address may have wrong that was never reached. A broker may only be down; so this is advice beside an error, and none by itself. Decided on the codes of Node. */
import { findIn, stringCodeOf } from "./to-mend.js";

const advice: ReadonlyMap<string | undefined, string> = new Map([
  ["ECONNREFUSED", "Nothing listens there: if it should be up, look at the host and the port"],
  ["ENOTFOUND", "No host of that name is known: if it should be, look at its name"],
]);

/** A sentence without its full stop; undefined where the error tells nothing of the address. */
export function neverReached(error: unknown): string | undefined {
  return findIn(error, (one) => advice.get(stringCodeOf(one)));
}
