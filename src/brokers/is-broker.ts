/** Whether a value is a broker: by its shape, since each comes from an entry of its own, and users may bring theirs. */

import { cleaned } from "../core/clean.js";
import { ConfigurationError } from "../core/errors.js";
import { show } from "../core/show.js";
import type { Broker, Party } from "./broker.js";

/**
 * The broker as everybody else sees it: read once, and without what looks like a credential in its names. One that is brought along may say where it is with
 * the whole of its address, and that goes into logs, reasons and the database.
 */
export function checkBroker(value: unknown, path: string): Broker {
  if (isBroker(value)) return withCleanNames(value);
  // A text may be a URL, and a URL may hold a password.
  const got = typeof value === "string" ? "a text" : show(value);
  const message = `${path} must be a broker, as mqtt(), kafka() and the others make it; got ${got}.`;
  throw new ConfigurationError("PH_OPTION_INVALID", message, { path });
}

export function isBroker(value: unknown): value is Broker {
  if (typeof value !== "object" || value === null) return false;
  const texts = ["kind", "where"].every((name) => typeof Reflect.get(value, name) === "string");
  const opens = ["openSender", "openReceiver"].every((name) => typeof Reflect.get(value, name) === "function");
  const features: unknown = Reflect.get(value, "features");
  const atOnce: unknown = Reflect.get(value, "atOnce") ?? 1;
  const counts = typeof atOnce === "number" && atOnce >= 1;
  const timeoutMs: unknown = Reflect.get(value, "timeoutMs") ?? 1;
  const waits = typeof timeoutMs === "number" && timeoutMs > 0;
  return texts && opens && counts && waits && typeof features === "object" && features !== null;
}

/** An object of its own: the broker may have private fields, and is called as itself. */
function withCleanNames(broker: Broker): Broker {
  const { kind, where, features, style, atOnce, timeoutMs, oneWay } = broker;
  return Object.freeze({
    kind: cleaned(kind),
    where: cleaned(where),
    features,
    style,
    ...(atOnce !== undefined && { atOnce }),
    ...(timeoutMs !== undefined && { timeoutMs }),
    ...(oneWay !== undefined && { oneWay }),
    openSender: (options) => broker.openSender(options),
    openReceiver: (options) => broker.openReceiver(options),
    ...(typeof broker.readsBy === "function" && { readsBy: (party) => readsBy(broker, party) }),
    ...(typeof broker.onRefused === "function" && { onRefused: (listener) => broker.onRefused?.(listener) }),
  } satisfies Broker);
}

function readsBy(broker: Broker, party: Party): string | undefined {
  const said = broker.readsBy?.(party);
  return said === undefined ? undefined : cleaned(said);
}
