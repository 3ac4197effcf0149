/** What a reader is given: a queue or subscription, its handlers, and what the process shares. */
import type { Executor } from "../core/database.js";
import type { Logger } from "../core/logger.js";
import type { Standing } from "../store/fleet.js";
import type { SubscriptionIds } from "../store/registry.js";
import type { Carrier } from "./carrier.js";
import type { Handlers } from "./every.js";
import type { Running } from "./run.js";
import type { Slots } from "./slots.js";

export interface ReaderOptions extends Running {
  readonly kind: "command" | "event";
  readonly ids: SubscriptionIds;
  readonly handlers: Handlers;
  /** Takes all of them, in place of the handlers, with their payloads as the JSON text that was stored. */
  readonly carrier: Carrier | undefined;
  readonly session: Executor;
  /** In transaction mode: the transactions that this process may hold open, shared with its other readers. */
  readonly slots: Slots;
  readonly logger: Logger;
  /** These channels got messages that handlers said. */
  readonly onSaid: (channels: ReadonlySet<number>) => void;
  /** How many events were skipped here, by contract, and not counted in the database yet. */
  readonly skipped: Map<number, number>;
  /** What becomes of a message of a contract without a handler here. */
  readonly standing: (contract: number) => Promise<Standing>;
  /** The log was emptied: more may come soon. */
  readonly onDry: () => void;
  /** The reader cannot go on: the connection is gone, or this worker counts as dead. */
  readonly onBroken: (error: unknown) => void;
}
