/** A message as the registry knows it, without its code: for whoever passes on what was said and looks at none of it. */
import type { AnyContract, Kind } from "./contract.js";
import { type } from "./standard-schema.js";

/** Its payload is taken as it comes: it was checked when it was said. Users never get it, so it is no contract for `isContract`. */
export function uncheckedContract(kind: Kind, name: string, channel: string, version: number): AnyContract {
  const inside = { schema: type<unknown>(), result: undefined, made: () => false };
  return { kind, name, channel, version, keyed: false, "~posthorn": { version: 1, inside } };
}
