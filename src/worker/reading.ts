/** What a reader is given: a queue or subscription, its handlers, and what the process shares. */
import type { Executor } from "../core/database.js";
import type { Logger } from "../core/logger.js";
import type { SubscriptionIds } from "../store/registry.js";
import type { Handled, Running } from "./run.js";
import type { Slots } from "./slots.js";

export interface ReaderOptions extends Running {
  readonly kind: "command" | "event";
  readonly ids: SubscriptionIds;
  /** Handlers by the id of their contract in the registry. */
  readonly handlers: ReadonlyMap<number, Handled>;
  readonly session: Executor;
  /** In transaction mode: the transactions that this process may hold open, shared with its other readers. */
  readonly slots: Slots;
  readonly logger: Logger;
  /** These channels got messages that handlers said. */
  readonly onSaid: (channels: ReadonlySet<number>) => void;
  /** Whether a live worker somewhere has a handler for this contract. */
  readonly attended: (contract: number) => Promise<boolean>;
  /** The log was emptied: more may come soon. */
  readonly onDry: () => void;
  /** The reader cannot go on: the connection is gone, or this worker counts as dead. */
  readonly onBroken: (error: unknown) => void;
}

/** How a reader paces itself. */
export const pace = {
  /** How long a settlement waits for company while others run. */
  settleWithinMs: 20,
  /** And when nothing runs: where messages come one by one, the next claim carries it. */
  settleAloneMs: 10,
  /** The longest rest of the loop; it is woken for everything that matters. */
  restMs: 60_000,
  /** How long a few free slots wait for company. */
  lingerMs: 3,
  /** The longest that a message waits here for a slot; then whoever has one may take it. */
  patienceMs: 500,
  /** With fewer slots than this, the time of a claim is mostly its round trip, and taking as many as possible pays. */
  manySlots: 100,
} as const;
