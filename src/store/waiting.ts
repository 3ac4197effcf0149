/** Which messages wait: those of a queue or subscription that have not ended, with their ids. */
import type { Executor } from "../core/database.js";
import { mapped } from "./sqlstate.js";

/** The states of a message that has not ended. */
export const unendedStates = ["queued", "scheduled", "retrying", "parked", "running"] as const;
export type UnendedState = (typeof unendedStates)[number];

/** A message that has not ended, for one reader. Times are ISO 8601; what is not known or does not apply is absent. */
export interface WaitingMessage {
  readonly message: string;
  readonly contract: string;
  readonly version: number;
  readonly key?: string;
  readonly publishedAt: string;
  /** Since when it waits: since it was said, or since an operator gave it a new delivery. */
  readonly since: string;
  readonly state: UnendedState;
  /** While it runs: since when, and where. */
  readonly at?: string;
  readonly worker?: { readonly id: string; readonly service: string; readonly host: string; readonly pid: number };
  readonly delivery: number;
  /** Failed runs so far. */
  readonly attempts: number;
  readonly crashes: number;
  /** When it is tried, of one that waits for a time. */
  readonly dueAt?: string;
  /** No run begins after it. */
  readonly expiresAt?: string;
  /** How its last run ended. */
  readonly outcome?: string;
  readonly error?: { readonly name: string; readonly message: string; readonly code?: string };
  /** Why its handler, or the relay, put it off. */
  readonly note?: string;
}

export interface WaitingMessages {
  readonly name: string;
  readonly kind: "command" | "event";
  readonly channel: string;
  /** The clock of the database. */
  readonly now: string;
  /** There are others, or there may be. */
  readonly more: boolean;
  /** In the order in which they were said. */
  readonly messages: readonly WaitingMessage[];
}

/** At most so many can be asked for. */
export const mostWaiting = 1_000;

/** Without `states` all but what is scheduled for later. Errors: PH_NAME_UNKNOWN. */
export async function waitingMessages(
  executor: Executor,
  name: string,
  limit: number,
  states?: readonly UnendedState[],
): Promise<WaitingMessages> {
  const { rows } = await mapped(
    executor.query<{ waiting: string }>(
      `select posthorn.waiting_messages($1::text, $2::int,
  case when $3::json is not null then array(select json_array_elements_text($3::json)) end)::text as waiting`,
      [name, limit, states === undefined ? null : JSON.stringify(states)],
    ),
  );
  return JSON.parse(rows[0]?.waiting ?? "null");
}
