/**
 * The contracts of a reader that takes every message of its channel, also those that nobody had said when it started; a carrier stands in for handlers.
 * What a message is called is asked for when the first of its kind comes; the registry changes no name and no version.
 */
import { uncheckedContract } from "../contracts/unchecked.js";
import type { Standing } from "../store/fleet.js";
import type { Handled } from "./run.js";

/** In place of the id of a contract: all of the channel. `posthorn.every_of` reads it. */
const everyContract = 0;

/** Handlers by the id of their contract in the registry. */
export interface Handlers extends ReadonlyMap<number, Handled> {
  /** Takes a contract in that has none. Returns whether it has one now. */
  readonly learn?: (contract: number, known: Pick<Standing, "name" | "version">) => boolean;
}

export class EveryHandler extends Map<number, Handled> implements Handlers {
  readonly #kind: "command" | "event";
  readonly #channel: string;

  constructor(kind: "command" | "event", channel: string) {
    super();
    this.#kind = kind;
    this.#channel = channel;
    this.learn(everyContract, { name: "a message", version: 1 });
  }

  learn(contract: number, { name, version }: Pick<Standing, "name" | "version">): boolean {
    this.set(contract, {
      contract: uncheckedContract(this.#kind, name, this.#channel, version),
      handler: () => undefined,
    });
    return true;
  }
}
