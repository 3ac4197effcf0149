/** Cancelling commands, and what a worker learns of it. */
import type { Executor } from "../core/database.js";
import { mapped } from "./sqlstate.js";

/** `cancelled`: it will not run. `signalled`: it runs, and its signal fires. `too-late`: it has ended. */
export type CancelAnswer = "cancelled" | "signalled" | "too-late";

/** In a transaction of its own. `by` is kept with the message. Errors: `UnknownMessageError`; `WrongKindError` for an event. */
export async function cancelMessage(executor: Executor, publicId: string, by: string): Promise<CancelAnswer> {
  const { rows } = await mapped(
    executor.query<{ answer: CancelAnswer }>("select posthorn.cancel($1::text, $2::text) as answer", [publicId, by]),
  );
  return rows[0]?.answer ?? "too-late";
}

/** Messages that somebody asked to cancel, of all that a worker works on; another worker may hold them. */
export async function cancelRequests(
  executor: Executor,
  worker: string,
): Promise<readonly (readonly [subscription: number, message: string])[]> {
  const { rows } = await mapped(
    executor.query<{ requests: string }>("select posthorn.cancel_requests($1::bigint)::text as requests", [worker]),
  );
  return JSON.parse(rows[0]?.requests ?? "[]");
}
