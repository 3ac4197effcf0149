/** Steps of handlers as the database keeps them. */
import type { Executor } from "../core/database.js";
import { mapped } from "./sqlstate.js";
import type { Delivery } from "./work.js";

/** What a step returned, as JSON; null for undefined. */
export type StepResult = string | null;

/**
 * Records, on disk when it resolves, that a step is done. Returns undefined; or what was recorded before under this name, which stands.
 * Errors: `ClaimLostError` when the worker does not hold the delivery by `delivery.hold` any more; then nothing was recorded.
 */
export async function recordStep(
  executor: Executor,
  worker: string,
  { subscription, id, hold }: Delivery,
  name: string,
  result: StepResult,
): Promise<{ readonly result?: unknown } | undefined> {
  const log = hold.from === "log" ? hold : undefined;
  const { rows } = await mapped(
    executor.query<{ found: string | null }>(
      "select posthorn.record_step($1::bigint, $2::int, $3::bigint, $4::bigint, $5::smallint, $6::bigint, $7::bigint, $8::text, $9::json)::text as found",
      [
        worker,
        subscription,
        id,
        log?.claim ?? null,
        log?.claimSlot ?? null,
        hold.from === "deferred" ? hold.deferred : null,
        hold.token,
        name,
        result,
      ],
    ),
  );
  const found = rows[0]?.found ?? null;
  return found === null ? undefined : JSON.parse(found);
}

/** The results of all steps of a message that are done, by name. */
export async function stepsOf(
  executor: Executor,
  { subscription, id }: Delivery,
): Promise<ReadonlyMap<string, unknown>> {
  const { rows } = await mapped(
    executor.query<{ steps: string }>("select posthorn.steps_of($1::int, $2::bigint)::text as steps", [
      subscription,
      id,
    ]),
  );
  const steps: readonly (readonly [name: string, result?: unknown])[] = JSON.parse(rows[0]?.steps ?? "[]");
  return new Map(steps.map(([name, result]) => [name, result]));
}

/** Removes steps of messages that have ended; `more`: there are steps after those that were looked at. */
export async function sweepSteps(
  executor: Executor,
  limit: number,
  everyMs: number,
): Promise<{ readonly removed: number; readonly more: boolean }> {
  const { rows } = await mapped(
    executor.query<{ swept: string }>("select posthorn.sweep_steps($1::int, $2::int)::text as swept", [limit, everyMs]),
  );
  return JSON.parse(rows[0]?.swept ?? "null");
}
