/** Contracts by the types of CloudEvents that stand for them: what an intake and a relay are told as `types`. */
import { ConfigurationError, WrongKindError } from "../core/errors.js";
import { isPlain, quote, show } from "../core/show.js";
import { type AnyContract, isContract } from "./contract.js";

export type EventTypes = ReadonlyMap<string, AnyContract>;

export interface TypesInWords {
  /** What the option must be. */
  readonly words: string;
  /** Which contracts, behind "a contract". */
  readonly which: string;
}

const mostLetters = 500;

/** Errors: `ConfigurationError`, `WrongKindError`. Whether they are contracts of the one who was told is another question. */
export function checkEventTypes(value: unknown, path: string, { words, which }: TypesInWords): EventTypes {
  const types = new Map<string, AnyContract>();
  for (const [type, contract] of entriesOf(value, path, words)) {
    if (type === "" || type.length > mostLetters || type.includes("\0") || !type.isWellFormed()) {
      const message = `${path} has ${quote(type)} as a type; one has 1 to ${mostLetters} letters, no NUL character and no half of a surrogate pair.`;
      throw new ConfigurationError("PH_OPTION_INVALID", message, { path });
    }
    if (!isContract(contract)) {
      const message = `${path}[${quote(type)}] is no contract: ${show(contract)}. Give a contract ${which}, as command(…) and event(…) return it.`;
      throw new WrongKindError("PH_WRONG_KIND", message, { path });
    }
    types.set(type, contract);
  }
  return types;
}

/** `__proto__` of a literal is no key of it: the contract that stands there would be lost. */
function entriesOf(value: unknown, path: string, words: string): readonly (readonly [string, unknown])[] {
  if (typeof value === "object" && value !== null && isPlain(value) && !isContract(value)) {
    if (!isContract(Object.getPrototypeOf(value))) return Object.entries(value);
  }
  throw new ConfigurationError("PH_OPTION_INVALID", `${path} must be ${words}; got ${show(value)}.`, { path });
}
