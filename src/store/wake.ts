/** Wake-ups: hints that there is something to claim. Polling is the truth; losing one costs time, never a message. */
import type { Executor } from "../core/database.js";
import { calling } from "./literals.js";

/** The channel of NOTIFY, which the functions in SQL name themselves; its payload is a list of channel ids, below zero where something may wait outside the log, or `cancelPayload`. */
export const wakeChannel = "posthorn_wake";

/** What posthorn.cancel says there: somebody asked to cancel what runs. */
export const cancelPayload = "cancel";

const waking = { name: "wake", column: " as heard", text: "select posthorn.wake($1::text) as heard" };

/** Tells whoever listens; false when no worker is there to listen. */
export async function notify(executor: Executor, channels: Iterable<number>): Promise<boolean> {
  const { text, params } = calling(waking, [[...channels].join(",")]);
  const { rows } = await executor.query<{ heard: boolean }>(text, params);
  return rows[0]?.heard === true;
}

/** The same as an expression of a statement that writes. */
export function wakingWith(channels: Iterable<number>): string {
  const payload = [...channels].filter((channel) => Number.isSafeInteger(channel)).join(",");
  return `posthorn.wake_with('${payload}')`;
}

export function channelsOf(payload: string): number[] {
  return payload
    .split(",")
    .map(Number)
    .filter((channel) => Number.isSafeInteger(channel) && channel !== 0);
}

/** How a transaction stands: "in progress", "committed", "aborted", or null when the server has forgotten it. */
export async function transactionStatus(executor: Executor, xid: string): Promise<string | null> {
  const { rows } = await executor.query<{ status: string | null }>("select pg_xact_status($1::xid8) as status", [xid]);
  return rows[0]?.status ?? null;
}
