/** Why a message is where it is: the facts that posthorn.why reads in one snapshot. */
import type { Executor } from "../core/database.js";
import type { State } from "../core/states.js";
import type { CircuitFacts } from "./circuit.js";
import { mapped } from "./sqlstate.js";
import type { LimitsNow } from "./status.js";

export interface WorkerFacts {
  readonly id: string;
  readonly service: string;
  readonly host: string;
  readonly pid: number;
  /** Why it counts as dead; null while it lives. */
  readonly dead?: string | null;
}

export interface ErrorFacts {
  readonly name: string;
  readonly message: string;
  readonly code?: string;
  readonly stack?: string;
}

/** Who works on a subscription now. */
export interface Attendance {
  readonly workers: number;
  /** Live workers with a handler for the message's contract, by version. */
  readonly versions: readonly { readonly version: number; readonly workers: number }[];
  /** The newest trace of any worker; null when there was none. */
  readonly lastSign: string | null;
}

/** The order of a key around one of its messages. */
export interface OrderFacts {
  readonly key: string;
  /** Messages of the key that come before this one, and after it. */
  readonly ahead: number;
  readonly behind: number;
  /** The one that all of them wait for. */
  readonly first: { readonly message: string; readonly state: State; readonly dueAt: string | null };
}

/** What is known about a message for one receiver. Times are ISO 8601. */
export interface ReceiverFacts {
  readonly subscription: string;
  /** Null for a reader that began after the message. */
  readonly state: State | null;
  readonly delivery?: number;
  readonly attempts?: number;
  readonly crashes?: number;
  /** When the state began. */
  readonly at?: string;
  readonly dueAt?: string;
  /** No run begins after it. */
  readonly expiresAt?: string;
  /** The message that runs now and asked for the same; this one waits for its end. */
  readonly behind?: string;
  readonly reason?: string;
  readonly by?: string;
  readonly issues?: readonly { readonly path: string; readonly message: string }[];
  readonly worker?: WorkerFacts | null;
  readonly keptUntil?: string;
  /** Messages that come before this one, counted up to `countedUpTo` + 1. */
  readonly before?: number;
  /** Messages a second that left the queue in the last minute; null when none did. */
  readonly perSecond?: number | null;
  readonly error?: ErrorFacts;
  readonly progress?: unknown;
  readonly cancelRequestedAt?: string;
  readonly cancelRequestedBy?: string;
  /** Where order is kept per key, of a message that waits outside of the log. */
  readonly order?: OrderFacts;
  /** Steps of its handler that are recorded, where there are any. */
  readonly steps?: { readonly done: number; readonly last: string } | null;
  readonly lastEntry?: {
    readonly outcome: string;
    readonly endedAt?: string;
    readonly by?: string;
    /** Why the handler put it off, and how often in a row. */
    readonly note?: string;
    readonly times?: number;
  };
  /** Only where the policy declares a breaker. */
  readonly circuit?: CircuitFacts;
  readonly attended: Attendance;
  /** While an operator keeps the fleet from taking anything of it. */
  readonly paused?: { readonly at: string; readonly by: string; readonly reason?: string };
  readonly limits?: LimitsNow;
  /** Of a relay: the broker that its messages go to. */
  readonly relay?: { readonly broker: string; readonly where: string };
}

export interface MessageFacts {
  readonly message: string;
  readonly kind: "command" | "event";
  readonly contract: string;
  readonly version: number;
  readonly channel: string;
  readonly publishedAt: string;
  /** The clock of the database. */
  readonly now: string;
  readonly receivers: readonly ReceiverFacts[];
}

/** How far `before` is counted. */
export const countedUpTo = 100_000;

/** Null when no message has this id. */
export async function why(executor: Executor, publicId: string): Promise<MessageFacts | null> {
  const { rows } = await mapped(
    executor.query<{ facts: string | null }>("select posthorn.why($1::text)::text as facts", [publicId]),
  );
  const facts = rows[0]?.facts ?? null;
  return facts === null ? null : JSON.parse(facts);
}
