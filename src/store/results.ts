/** Results, progress, and the states of many messages at once. */
import type { Executor, OpenTransaction } from "../core/database.js";
import type { Place } from "./publish.js";
import { mapped } from "./sqlstate.js";
import type { ReceiverStatus } from "./status.js";
import { type Delivery, endValues, numeral, placesOf, type StoredResult } from "./work.js";

/** As `endAndCommit`, for a message that has a result: it is kept if the transaction commits. */
export async function endWithResultAndCommit(
  open: OpenTransaction,
  delivery: Delivery,
  say: string | null,
  result: StoredResult,
): Promise<ReadonlyMap<string, Place>> {
  const values = [...endValues(delivery, open.mark), numeral(delivery.nonce)].join(", ");
  const text = `select posthorn.end_with_result(${values}, $1::json, $2::json)::text as said`;
  const [row] = await mapped(open.commit<{ said: string | null }>({ text, params: [say, JSON.stringify(result)] }));
  return placesOf(row?.said ?? null);
}

/** A run, as a row of its progress names it. */
export interface RunPlace {
  readonly subscription: number;
  readonly message: string;
  readonly delivery: number;
}

/** Keeps the last progress of runs, and forgets that of runs that have ended. `value` is parsed JSON. */
export async function writeProgress(
  executor: Executor,
  worker: string,
  values: readonly (RunPlace & { readonly value: unknown })[],
  ended: readonly RunPlace[],
): Promise<void> {
  await mapped(
    executor.query("select posthorn.write_progress($1::bigint, $2::json, $3::json)", [
      worker,
      JSON.stringify(values),
      JSON.stringify(ended),
    ]),
  );
}

/** `messageStatus` of many messages, in one statement and one snapshot. */
export async function messageStatuses(
  executor: Executor,
  publicIds: readonly string[],
): Promise<ReadonlyMap<string, readonly ReceiverStatus[] | null>> {
  const { rows } = await mapped(
    executor.query<{ statuses: string }>("select posthorn.message_statuses($1::json)::text as statuses", [
      JSON.stringify(publicIds),
    ]),
  );
  const statuses: Record<string, readonly ReceiverStatus[] | null> = JSON.parse(rows[0]?.statuses ?? "{}");
  return new Map(Object.entries(statuses));
}

/**
 * Removes what has been kept for its time, at most `limit` rows of each kind. Returns how many the fullest kind lost; null when it was not our
 * turn within `everyMs`.
 */
export async function prune(executor: Executor, everyMs: number, limit: number): Promise<number | null> {
  const { rows } = await mapped(
    executor.query<{ pruned: number | null }>("select posthorn.prune($1::int, $2::int) as pruned", [everyMs, limit]),
  );
  return rows[0]?.pruned ?? null;
}
