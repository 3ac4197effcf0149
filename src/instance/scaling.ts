/** What an autoscaler asks, in one report. */
import type { Executor } from "../core/database.js";
import { type Alert, crossedAlerts } from "../store/operate.js";
import { type ScalingLine, scaling } from "../store/scaling.js";

export interface ScalingReport {
  /** ISO 8601, on the clock of this process. */
  readonly at: string;
  /** The most that any of `lines` wants: for a fleet whose workers work on everything. */
  readonly workersWanted: number;
  readonly lines: readonly ScalingLine[];
  /** Open alerts, and bounds that are crossed although nobody has raised them. */
  readonly alerts: readonly Alert[];
}

export async function scalingReport(executor: Executor): Promise<ScalingReport> {
  const lines = await scaling(executor);
  const alerts = await crossedAlerts(executor);
  const workersWanted = Math.max(0, ...lines.map((line) => line.workersWanted));
  return { at: new Date().toISOString(), workersWanted, lines, alerts };
}
