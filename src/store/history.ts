/** What the registry remembers: how policies changed, and what nobody cares for any more. */
import type { Executor } from "../core/database.js";
import { mapped } from "./sqlstate.js";

export interface PolicyChange {
  readonly changedAt: string;
  readonly service: string;
  readonly host: string | null;
  readonly pid: number | null;
  readonly library: string | null;
  /** Null for the first. */
  readonly was: unknown;
  readonly became: unknown;
}

/** Changes of a policy, the newest first; null where no queue or subscription has this name. */
export async function policyChanges(
  executor: Executor,
  name: string,
  limit: number,
): Promise<readonly PolicyChange[] | null> {
  const { rows } = await mapped(
    executor.query<{ changes: string | null }>("select posthorn.policy_changes($1::text, $2::int)::text as changes", [
      name,
      limit,
    ]),
  );
  return JSON.parse(rows[0]?.changes ?? "null");
}

/** Something that exists, and that no living worker cares for. */
export interface Orphan {
  readonly what: "queue" | "subscription" | "intake" | "topic" | "command" | "event" | "version";
  readonly name: string;
  readonly detail: string;
}

export async function orphans(executor: Executor): Promise<readonly Orphan[]> {
  const { rows } = await mapped(
    executor.query<Orphan>("select what, name, detail from posthorn.orphaned() order by what, name"),
  );
  return rows;
}
