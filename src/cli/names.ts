/** Names of queues, subscriptions and contracts on a line: unknown ones are refused with the known ones, never found empty. */
import type { Executor } from "../core/database.js";
import { ConfigurationError } from "../core/errors.js";
import { quote } from "../core/show.js";
import { suggestion } from "../core/suggest.js";
import { registered } from "../store/operate.js";
import { type Line, text } from "./parse.js";

interface Called {
  readonly name: string;
}

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

/** `instead`: what is done where the name is that of an intake. */
export async function refuseUnknown(
  executor: Executor,
  { subscription, contract }: Names,
  instead: (intake: string) => string = insteadOfReader,
): Promise<void> {
  if (subscription === undefined && contract === undefined) return;
  const known = await registered(executor);
  if (subscription !== undefined) refuseIntake(subscription, known, instead);
  refuse("queue or subscription", subscription, known.subscriptions);
  refuse("contract", contract, known.contracts);
}

function insteadOfReader(intake: string): string {
  return `How it stands: posthorn intakes list; what fitted nothing: posthorn invalid list --intake ${intake}.`;
}

/** An intake is no queue and no subscription, and is called what it is. */
export function refuseIntake(
  name: string,
  { subscriptions, intakes }: { readonly subscriptions: readonly Called[]; readonly intakes: readonly Called[] },
  instead: (intake: string) => string,
): void {
  const isNamed = (one: Called) => one.name === name;
  if (subscriptions.some(isNamed) || !intakes.some(isNamed)) return;
  const message = `${quote(name)} is an intake, and no queue or subscription. ${instead(name)}`;
  throw new ConfigurationError("PH_ARGUMENT_INVALID", message, { name });
}

/** Errors: `ConfigurationError`, for a queue or subscription with what it is. */
export async function refuseUnknownIntake(
  executor: Executor,
  name: string,
  instead: (reader: string) => string,
): Promise<void> {
  const { subscriptions, intakes } = await registered(executor);
  if (!intakes.some((one) => one.name === name) && subscriptions.some((one) => one.name === name)) {
    const message = `${quote(name)} is a queue or subscription, and no intake. ${instead(name)}`;
    throw new ConfigurationError("PH_ARGUMENT_INVALID", message, { name });
  }
  refuse("intake", name, intakes);
}

/** For what can be done to an intake as well. */
export async function refuseUnknownReader(executor: Executor, name: string): Promise<void> {
  const known = await registered(executor);
  refuse("queue, subscription or intake", name, [...known.subscriptions, ...known.intakes]);
}

function refuse(what: string, name: string | undefined, known: readonly Called[]): void {
  const names = [...new Set(known.map((one) => one.name))];
  if (name === undefined || names.includes(name)) return;
  throw new ConfigurationError(
    "PH_ARGUMENT_INVALID",
    `No ${what} is called ${quote(name)}.${suggestion(name, names)}`,
    { name },
  );
}
