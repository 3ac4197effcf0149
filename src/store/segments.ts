/** The space of the log: what is kept, and the steps of rotation and truncation, each a transaction of its own. */
import type { Executor } from "../core/database.js";
import { UnknownMessageError } from "../core/errors.js";
import { mapped } from "./sqlstate.js";

/** What the fleet keeps of the log. */
export interface Retention {
  readonly keepMs: number;
  readonly maxBytes: number;
}

export type RotationStep = "opened" | "moved" | "switched" | "sealed" | "advanced" | "finished" | "truncated";

export interface Rotated {
  /** What this step did; null when there was nothing to do, or somebody else does it. */
  readonly did: RotationStep | null;
  readonly segment?: number;
  readonly slot?: number;
  /** Something is under way that another moment may allow. */
  readonly pending: boolean;
}

/** Tells what is kept. The newest start that says so wins; one that says nothing leaves what others said. */
export async function declareRetention(
  executor: Executor,
  { keepMs, maxBytes }: Retention,
  service: string,
  explicit: boolean,
): Promise<void> {
  await mapped(
    executor.query("select posthorn.declare_retention($1::float8, $2::bigint, $3::text, $4::boolean)", [
      keepMs,
      maxBytes,
      service,
      explicit,
    ]),
  );
}

/** One step, if there is one to do. Never waits for whoever works. */
export async function rotate(executor: Executor): Promise<Rotated> {
  const { rows } = await mapped(executor.query<{ step: string }>("select posthorn.rotate()::text as step"));
  return JSON.parse(rows[0]?.step ?? "null");
}

/** The error for an id that no message has: the log may have had one once. */
export async function unknownMessage(executor: Executor, id: string): Promise<UnknownMessageError> {
  const { rows } = await mapped(
    executor.query<{ gone: boolean }>("select posthorn.is_forgotten($1::text) as gone", [id]),
  );
  if (rows[0]?.gone === true) {
    const message = `If there was a message with the id ${id}, it has ended, and the log does not keep it any more (retention of posthorn()).`;
    return new UnknownMessageError("PH_MESSAGE_FORGOTTEN", message, { id });
  }
  const message = `No message has the id ${id}. Is it whole, and is this the database that it was said in?`;
  return new UnknownMessageError("PH_UNKNOWN_MESSAGE", message, { id });
}
