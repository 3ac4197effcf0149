/** What an autoscaler asks. The formula is in sql/functions/91_scaling.sql. */
import type { Executor } from "../core/database.js";
import { mapped } from "./sqlstate.js";

/** How a queue or subscription stands, and how many workers it wants. */
export interface ScalingLine {
  readonly name: string;
  readonly kind: "command" | "event";
  readonly channel: string;
  readonly backlog: number;
  readonly running: number;
  readonly ageMs: number;
  /** Messages that workers took in a second, in the last minute. */
  readonly perSecond: number;
  readonly workers: number;
  /** Runs at once in one worker, as the policy says. */
  readonly concurrency: number;
  /** 0 where nothing waits or runs. */
  readonly workersWanted: number;
}

export async function scaling(executor: Executor): Promise<readonly ScalingLine[]> {
  const { rows } = await mapped(executor.query<{ lines: string }>("select posthorn.scaling()::text as lines"));
  return JSON.parse(rows[0]?.lines ?? "[]");
}
