/** The rules for names. A name goes into SQL as a parameter, into metrics, logs and paths: so it stays short and plain. */
import { ConfigurationError } from "./errors.js";
import { limits } from "./limits.js";
import { show } from "./show.js";

export const nameRules = {
  channel: {
    pattern: /^[a-z][a-z0-9._-]*$/,
    rule: "lower-case letters, digits, dots, hyphens and underscores, a letter first",
    example: "order-mail",
  },
  contract: {
    pattern: /^[A-Z][A-Za-z0-9]*$/,
    rule: "letters and digits in PascalCase, a capital first",
    example: "OrderPlaced",
  },
} as const;

export type ChannelName = "queue" | "topic" | "subscription" | "relay" | "intake" | "service" | "owner" | "schedule";

/** Checks the name of a queue, topic, subscription or service, and returns it. */
export function checkName(value: unknown, what: ChannelName): string {
  return check(value, `name of a ${what}`.replace(/a (owner|intake)/, "an $1"), nameRules.channel);
}

/** Checks the letters of a contract's name; whether it reads as a fact or an order is the business of the contracts. */
export function checkContractName(value: unknown, kind: string): string {
  return check(value, `name of ${kind === "event" ? "an" : "a"} ${kind}`, nameRules.contract);
}

function check(value: unknown, what: string, { pattern, rule, example }: (typeof nameRules)["channel" | "contract"]) {
  if (typeof value === "string" && value.length <= limits.nameLength && pattern.test(value)) return value;
  const facts = { rule, maxLength: limits.nameLength };
  const must = `The ${what} must be 1 to ${limits.nameLength} ${rule}, for instance "${example}"; got ${show(value)}.`;
  throw new ConfigurationError("PH_NAME_INVALID", must, facts);
}
