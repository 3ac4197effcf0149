/** What producers ask the database about full queues. */
import type { Executor } from "../core/database.js";
import { mapped } from "./sqlstate.js";

/** A queue with a limit, by the id of its channel. */
export type LimitedChannel = readonly [channel: number, queue: string, whenFull: "reject" | "wait", waitMs: number];

export async function backlogLimits(executor: Executor): Promise<readonly LimitedChannel[]> {
  const { rows } = await mapped(
    executor.query<{ limited: string }>("select posthorn.backlog_limits()::text as limited"),
  );
  return JSON.parse(rows[0]?.limited ?? "[]");
}

/** Leave for so many messages, perhaps for more than were asked for; or why there is none. Null when the queue has no limit any more. */
export type Grant =
  | { readonly granted: number }
  | { readonly backlog: number; readonly limit: number; readonly retryAfterMs: number }
  | null;

/** Asks for leave in a transaction of its own. `spent`: messages that were said without. */
export async function grantBacklog(
  executor: Executor,
  channel: number,
  messages: number,
  spent: number,
): Promise<Grant> {
  const { rows } = await mapped(
    executor.query<{ grant: string | null }>(
      "select posthorn.grant_backlog($1::int, $2::bigint, $3::bigint)::text as grant",
      [channel, messages, spent],
    ),
  );
  return JSON.parse(rows[0]?.grant ?? "null");
}

/** The same inside somebody's transaction: it takes no lock. Errors: `BacklogFullError`. */
export async function checkBacklog(executor: Executor, channel: number, messages: number): Promise<void> {
  await mapped(executor.query("select posthorn.check_backlog($1::int, $2::bigint)", [channel, messages]));
}
