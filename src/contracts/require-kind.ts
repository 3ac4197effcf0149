/** Refuses the wrong kind of message for a verb, and says which verb is the right one. */
import { WrongKindError } from "../core/errors.js";
import { show } from "../core/show.js";
import { type AnyContract, isContract, type Kind } from "./contract.js";

/** Each row is one thing to do with a contract, with the verb that does it for each kind. */
const verbs = {
  say: { query: "ask", command: "send", event: "publish" },
  sayMany: { query: "ask", command: "sendMany", event: "publishMany" },
  plan: { query: "ask", command: "schedule", event: "publish" },
  lookAt: { query: "ask", command: "receipt", event: "statusOf" },
  work: { query: "answer", command: "handle", event: "on" },
} as const satisfies Record<string, Record<Kind, string>>;

export type Verb = (typeof verbs)[keyof typeof verbs][Kind];

const owners: Partial<Record<Verb, string>> = { handle: "of its queue", on: "of a subscription to its topic" };
const article = (kind: Kind): string => (kind === "event" ? "an event" : `a ${kind}`);

/**
 * Returns the contract where it is of the wanted kind.
 *
 * Errors: `WrongKindError` for another kind, and for everything that no definition function made.
 */
export function requireKind<K extends Kind>(value: unknown, kind: K, verb: Verb): AnyContract<K> {
  if (!isContract(value)) throw notContract(value, kind, verb);
  if (isOfKind(value, kind)) return value;
  const right = rowOf(verb)[value.kind];
  const where = owners[right] === undefined ? "" : ` ${owners[right]}`;
  const message = `${verb}() takes ${article(kind)}; ${value.name} is ${article(value.kind)}: use ${right}()${where}.`;
  throw new WrongKindError("PH_WRONG_KIND", message, { name: value.name, kind: value.kind, wanted: kind, use: right });
}

function rowOf(verb: Verb): Readonly<Record<Kind, Verb>> {
  const rows: readonly Readonly<Record<Kind, Verb>>[] = Object.values(verbs);
  return rows.find((row) => Object.values(row).includes(verb)) ?? verbs.say;
}

function isOfKind<K extends Kind>(contract: AnyContract, kind: K): contract is AnyContract<K> {
  return contract.kind === kind;
}

function notContract(value: unknown, kind: Kind, verb: Verb): WrongKindError {
  let hint = `Define one with ${kind}("…", { … }) and pass what it returns`;
  if (value === undefined) hint = "Is its import missing or circular?";
  else if (typeof value === "string")
    hint = `Pass the contract itself, not its name: define it with ${kind}("…", { … })`;
  else if (looksAlike(value))
    hint = `It looks like one; a contract is passed as ${kind}() returned it, never copied or built by hand`;
  const message = `${verb}() takes ${article(kind)} as its first argument, got ${show(value)}. ${hint}${hint.endsWith("?") ? "" : "."}`;
  return new WrongKindError("PH_WRONG_KIND", message, { wanted: kind });
}

/** Never throws: the value is anybody's. */
function looksAlike(value: unknown): boolean {
  try {
    if (typeof value !== "object" || value === null) return false;
    return "~posthorn" in value || ("kind" in value && "name" in value);
  } catch {
    return false;
  }
}
