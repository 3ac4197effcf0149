/** Names of queues, subscriptions and contracts on a line: unknown ones are refused with the known ones, never found empty. */
import type { Executor } from "../core/database.js";
import { ConfigurationError } from "../core/errors.js";
import { quote } from "../core/show.js";
import { suggestion } from "../core/suggest.js";
import { registered } from "../store/operate.js";
import { type Line, text } from "./parse.js";

export interface Names {
  readonly subscription?: string;
  readonly contract?: string;
}

export function namesOf(line: Line): Names {
  const names = [text(line, "queue"), text(line, "subscription")].filter((name) => name !== undefined);
  if (names.length > 1) {
    throw new ConfigurationError("PH_ARGUMENT_INVALID", "Name one queue or subscription, or leave them out for all.");
  }
  const [subscription] = names;
  const contract = text(line, "contract");
  return { ...(subscription === undefined ? {} : { subscription }), ...(contract === undefined ? {} : { contract }) };
}

export async function refuseUnknown(executor: Executor, { subscription, contract }: Names): Promise<void> {
  if (subscription === undefined && contract === undefined) return;
  const known = await registered(executor);
  refuse("queue or subscription", subscription, known.subscriptions);
  refuse("contract", contract, known.contracts);
}

/** For what can be done to an intake as well. */
export async function refuseUnknownReader(executor: Executor, name: string): Promise<void> {
  const known = await registered(executor);
  refuse("queue, subscription or intake", name, [...known.subscriptions, ...known.intakes]);
}

function refuse(what: string, name: string | undefined, known: readonly { readonly name: string }[]): void {
  const names = [...new Set(known.map((one) => one.name))];
  if (name === undefined || names.includes(name)) return;
  throw new ConfigurationError(
    "PH_ARGUMENT_INVALID",
    `No ${what} is called ${quote(name)}.${suggestion(name, names)}`,
    { name },
  );
}
