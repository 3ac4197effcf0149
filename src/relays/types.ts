/** Under which type a contract goes out: the one that `types` gives it, or its name behind `typePrefix`. */
import type { AnyContract } from "../contracts/contract.js";
import { checkEventTypes, type EventTypes } from "../contracts/event-types.js";
import { ConfigurationError } from "../core/errors.js";
import { quote } from "../core/show.js";

export const typesWords =
  'an object of contracts that it carries, each under its type: { "com.acme.order.placed": OrderPlaced }';

/** Errors: `ConfigurationError`, `WrongKindError`. Whether it carries them is another question. */
export function checkTypes(value: unknown, path: string): EventTypes {
  return checkEventTypes(value, path, { words: typesWords, which: "that the relay carries" });
}

type Channel = Pick<AnyContract, "kind" | "channel">;
type Named = Pick<AnyContract, "name" | "version">;

/** The types of a relay. */
export class RelayTypes {
  readonly #prefix: string;
  readonly #named = new Map<string, string>();
  /** The name of the contract that each of them means. */
  readonly #meant = new Map<string, string>();

  /** Errors: `ConfigurationError` for a contract that is never carried, and for one with two types. */
  constructor(types: EventTypes, prefix: string, carried: Channel, path: string) {
    this.#prefix = prefix;
    for (const [type, contract] of types) {
      if (contract.kind !== carried.kind || contract.channel !== carried.channel) {
        throw stranger(type, contract, carried, path);
      }
      const before = this.#named.get(keyOf(contract));
      if (before !== undefined) throw twice([before, type], contract, path);
      this.#named.set(keyOf(contract), type);
      this.#meant.set(type, contract.name);
    }
  }

  /** Errors: `ConfigurationError` where the type already means another contract: its receiver would take the one for the other. */
  of(contract: Named): string {
    const type = `${this.#prefix}${contract.name}`;
    if (this.#named.size === 0) return type;
    const named = this.#named.get(keyOf(contract));
    if (named !== undefined) return named;
    const meant = this.#meant.get(type) ?? contract.name;
    if (meant === contract.name) return type;
    const message = `its type would be ${quote(type)}, which \`types\` of the relay gives to ${meant}. Name a type for ${contract.name} there, or another one for ${meant}.`;
    throw new ConfigurationError("PH_OPTION_INVALID", message, { path: "types", contract: contract.name });
  }
}

/** No name of a contract has a blank. */
function keyOf({ name, version }: Named): string {
  return `${name} ${version}`;
}

function stranger(type: string, contract: AnyContract, carried: Channel, path: string): Error {
  const { kind, name } = contract;
  const of = kind === "query" ? "" : ` of the ${inWords(contract)}`;
  const message = `${path}.types[${quote(type)}] is the ${kind} ${name}${of}, and the relay carries what goes to the ${inWords(carried)}. Leave it out, or give it to the relay that carries it.`;
  return new ConfigurationError("PH_OPTION_INVALID", message, { path: `${path}.types`, contract: name });
}

function inWords({ kind, channel }: Channel): string {
  return `${kind === "command" ? "queue" : "topic"} ${quote(channel)}`;
}

function twice(types: readonly string[], { name, version }: AnyContract, path: string): Error {
  const message = `${path}.types has two types for version ${version} of ${name}: ${types.map(quote).join(" and ")}. A message goes out under one. Leave the other out.`;
  return new ConfigurationError("PH_OPTION_INVALID", message, { path: `${path}.types`, contract: name });
}
