/** Which contract the type of a CloudEvent means: the one that `types` names for it, or the one whose name stands behind `typePrefix`. */
import type { AnyContract } from "../contracts/contract.js";
import { checkEventTypes, type EventTypes } from "../contracts/event-types.js";
import { ConfigurationError } from "../core/errors.js";
import { quote } from "../core/show.js";
import { suggest } from "../core/suggest.js";

/** Of a type in the facts of an error. */
const longestShown = 500;
export const typesWords =
  'an object of contracts of into, each under the type that means it: { "com.acme.order.placed": OrderPlaced }';

/** Errors: `ConfigurationError`, `WrongKindError`. Whether they are those of `into` is another question. */
export function checkTypes(value: unknown, path: string): EventTypes {
  return checkEventTypes(value, path, { words: typesWords, which: "of `into`" });
}

/** Errors: `ConfigurationError` for a contract that the intake does not take in. */
export function refuseStrangers(types: EventTypes, contracts: readonly AnyContract[], path: string): void {
  for (const [type, contract] of types) {
    if (contracts.includes(contract)) continue;
    const { name, version } = contract;
    const namesake = contracts.some((one) => one.name === name) ? `, which names another ${name}` : "";
    const message = `${path}.types[${quote(type)}] is version ${version} of ${name}, and that is not in ${path}.into${namesake}. Add it to \`into\`, or leave the type out.`;
    throw new ConfigurationError("PH_OPTION_INVALID", message, {
      path: `${path}.types`,
      type: type.slice(0, longestShown),
      contract: name,
    });
  }
}

/** The types that mean a contract: those that are named, and the names of the contracts behind the prefix. */
export function typesOf(types: EventTypes, contracts: readonly AnyContract[], typePrefix: string): readonly string[] {
  return [...new Set([...types.keys(), ...contracts.map(({ name }) => `${typePrefix}${name}`)])];
}

const mostShown = 5;
const mostKept = 100;
/** A type may be as long as a message; and for a long one nothing near is looked for, which is what costs. */
const longestKept = 200;

/** Says of a type what could have stood in its place. */
export class Taken {
  readonly #known: readonly string[];
  /** Of types that came before: a sender repeats itself. */
  readonly #said = new Map<string, string>();

  constructor(known: readonly string[]) {
    this.#known = known;
  }

  /** `it takes "com.acme.order.placed", "OrderLost" and 3 more`: a few, and the nearest first. */
  inWords(type: string): string {
    const before = this.#said.get(type);
    if (before !== undefined) return before;
    const near = suggest(type, this.#known) ?? this.#known.find((known) => lastPart(known) === lastPart(type));
    const known = near === undefined ? this.#known : [near, ...this.#known.filter((one) => one !== near)];
    const more = known.length > mostShown ? ` and ${known.length - mostShown} more` : "";
    const said = `it takes ${known
      .slice(0, mostShown)
      .map((one) => JSON.stringify(one))
      .join(", ")}${more}`;
    if (type.length > longestKept) return said;
    if (this.#said.size >= mostKept) this.#said.clear();
    this.#said.set(type, said);
    return said;
  }
}

function lastPart(type: string): string {
  return type.slice(type.lastIndexOf(".") + 1).toLowerCase();
}
