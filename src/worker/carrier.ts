/** What takes messages many at a time, in place of handlers: a relay. */
import type { Delivery } from "../store/work.js";

/** A message on its way. */
export interface Carried {
  /** The public one. */
  readonly id: string;
  readonly delivery: Delivery;
  readonly contract: { readonly name: string; readonly version: number };
}

export interface Carrier {
  /** The most messages of one call. */
  readonly size: number;
  /** The most messages that are on their way at once; others wait here. Infinity for all. */
  readonly most: number;
  /**
   * What became of each, in their order: null where it succeeded, else what a handler would have thrown. May be called again before an earlier call has
   * ended. Ends within the visibility timeout, for which nobody else looks here.
   */
  readonly call: (messages: readonly Carried[]) => Promise<readonly (Error | null)[]>;
}
